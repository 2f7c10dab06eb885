// The three.js scene of the viewer: loads a GLB, lights it and draws it at a given time. It draws only
// after a change, and not while the canvas is not visible. viewer.js loads this file with the first
// mesh.

import { wantsLessMotion } from './dom.js';
import { Floor } from './floor.js';
import { GLTFLoader } from './vendor/GLTFLoader.js';
import { OrbitControls } from './vendor/OrbitControls.js';
import * as THREE from './vendor/three.module.min.js';
import { VideoCamera } from './video_camera.js';

const FIELD_OF_VIEW_DEG = 28;
const INITIAL_DIRECTION = new THREE.Vector3(0.32, 0.16, 1); // from the front, a little from the side
const FILLED = 0.92; // of the picture, by the mesh: the rest is air
const TURNTABLE_S = 18;
const TO_VIDEO_S = 0.6; // from the usual camera to the video's

export class Scene {
  /** Throws where there is no WebGL. `beforeDraw` is called right before each draw. */
  constructor(canvas, beforeDraw) {
    this._canvas = canvas;
    this._beforeDraw = beforeDraw;
    this._renderer = new THREE.WebGLRenderer({ canvas, alpha: true, antialias: true });
    this._renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this._scene = new THREE.Scene();
    this._camera = new THREE.PerspectiveCamera(FIELD_OF_VIEW_DEG, 1, 0.05, 50);
    this._addLights();
    this._controls = new OrbitControls(this._camera, canvas);
    Object.assign(this._controls, { enableDamping: true, dampingFactor: 0.12, autoRotateSpeed: 60 / TURNTABLE_S });
    this._controls.addEventListener('change', () => this._onTurn());
    this._clay = new THREE.MeshStandardMaterial({ color: 0xcfcac3, roughness: 0.75, side: THREE.DoubleSide });
    this._normals = new THREE.MeshNormalMaterial({ side: THREE.DoubleSide });
    this._display = { surface: 'texture', wireframe: false };
    this._isVisible = true;
    this._isDrawRequested = false;
    this._toVideo = 0; // 0: the usual camera, 1: the video's
    this._isVideoWanted = false;
    this.isMoving = false; // true: draw every animation frame
    this.onVideoLeft = () => {}; // called when a turn of the usual camera has ended the video's
    this.drawn = 0; // how many times it has drawn, for tests and benchmarks
    this._observe();
  }

  /**
   * Load the GLB at `url` and show it instead of the current one. Rejects if `signal` is aborted
   * first. `onProgress` gets 0..1, or null if unknown.
   */
  async load(url, { signal, onProgress }) {
    const manager = new THREE.LoadingManager();
    signal.addEventListener('abort', () => manager.abort(), { once: true });
    const gltf = await new GLTFLoader(manager).loadAsync(url, (event) => {
      onProgress(event.lengthComputable ? event.loaded / event.total : null);
    });
    signal.throwIfAborted();
    const isFirst = !this._model;
    this._removeModel();
    this._model = gltf.scene;
    this._meshes = [];
    gltf.scene.traverse((node) => node.isMesh && this._meshes.push(node));
    for (const mesh of this._meshes) mesh.userData.texture = mesh.material;
    this._mixer = new THREE.AnimationMixer(gltf.scene);
    this._action = gltf.animations[0] ? this._mixer.clipAction(gltf.animations[0]) : null;
    this._action?.play();
    this._scene.add(gltf.scene);
    const camera = gltf.scene.getObjectByName('video');
    this._videoCamera = camera?.isCamera ? new VideoCamera(camera) : null;
    this._updateBounds();
    this._applyMaterials();
    if (isFirst) this.resetView();
    this.requestDraw();
  }

  /** Set the time of the animation that is drawn next, in seconds. */
  setTime(time) {
    if (!this._action) return;
    const end = this._action.getClip().duration;
    this._action.time = Math.min(Math.max(time, 0), end - 1e-6);
    this._mixer.update(0);
  }

  /** The weights of the morph targets: frame 0 is all zeros. */
  get weights() {
    return [...(this._meshes?.[0]?.morphTargetInfluences ?? [])];
  }

  /** True if the model has a texture or vertex colours. */
  get hasColours() {
    return this._meshes?.some(({ geometry, userData }) => geometry.attributes.color || userData.texture.map) ?? false;
  }

  /** `surface`: texture, clay or normals; `wireframe`, `grid`, `turntable`: booleans. */
  setDisplay(change) {
    Object.assign(this._display, change);
    this._applyMaterials();
    if (this._floor) this._floor.grid.visible = this._display.grid ?? false;
    this._controls.autoRotate = this._display.turntable ?? false;
    this.requestDraw();
  }

  /** The camera in front, so far away that all frames are in the picture. */
  resetView() {
    this._distance = this._fittingDistance(this._bounds); // the window may have another shape now
    this._controls.target.copy(this._centre);
    this._camera.position.copy(INITIAL_DIRECTION).setLength(this._distance).add(this._centre);
    this._controls.minDistance = this._radius * 0.6;
    this._controls.maxDistance = this._distance * 4;
    this._controls.update();
    this._onTurn();
  }

  /** True if the model says where its video was filmed. */
  get hasVideoCamera() {
    return this._videoCamera !== null;
  }

  /** True while it is drawn from where the video was filmed. */
  get isAtVideo() {
    return this._toVideo === 1;
  }

  /** Go to where the video was filmed, or back to the usual camera. A turn of that one goes back, too. */
  showFromVideo(isWanted) {
    this._controls.enableDamping = false; // the end of an earlier turn would count as a turn
    this._controls.update();
    this._controls.enableDamping = true;
    this._isVideoWanted = isWanted;
    this.requestDraw();
  }

  /** Draw in the next animation frame; several calls draw once. */
  requestDraw() {
    if (this._isDrawRequested || !this._isVisible || this._isClosed || document.hidden) return;
    this._isDrawRequested = true;
    requestAnimationFrame((now) => this._draw(now));
  }

  close() {
    this._isClosed = true;
    for (const observer of this._observers) observer.disconnect();
    this._abort.abort();
    this._removeModel();
    this._controls.dispose();
    this._renderer.dispose();
  }

  _draw(now) {
    this._isDrawRequested = false;
    if (this._isClosed) return;
    const passed = Math.min(0.1, (now - (this._drawnAt ?? now)) / 1000);
    this._drawnAt = now;
    const hasTurned = this._controls.update(passed || null);
    const isOnTheWay = this._moveToVideo(passed);
    this._render();
    if (this.isMoving || hasTurned || isOnTheWay || this._display.turntable) this.requestDraw();
  }

  _render() {
    this._beforeDraw();
    this._renderer.render(this._scene, this._cameraNow());
    this.drawn += 1;
  }

  /** A part of the way to the video's camera or back; false once there. */
  _moveToVideo(passed) {
    const step = wantsLessMotion() ? 1 : passed / TO_VIDEO_S;
    const goal = this._isVideoWanted ? 1 : 0;
    this._toVideo += THREE.MathUtils.clamp(goal - this._toVideo, -step, step);
    if (this._floor) this._floor.visible = this._toVideo === 0; // no video shows it
    return this._toVideo !== goal;
  }

  _cameraNow() {
    if (this._toVideo === 0) return this._camera;
    return this._videoCamera.between(this._camera, THREE.MathUtils.smoothstep(this._toVideo, 0, 1), this._centre);
  }

  _onTurn() {
    if (this._isVideoWanted) {
      this._isVideoWanted = false;
      this.onVideoLeft();
    }
    this.requestDraw();
  }

  _addLights() {
    const sky = new THREE.HemisphereLight(0xffffff, 0xd8d0c6, 2.1);
    const key = new THREE.DirectionalLight(0xffffff, 1.5);
    key.position.set(-1.2, 2, 2.2);
    const rim = new THREE.DirectionalLight(0xffffff, 0.5);
    rim.position.set(2, 1, -2);
    this._scene.add(sky, key, rim);
  }

  /** Centre, size and floor for all frames together; the camera keeps its place relative to them. */
  _updateBounds() {
    const box = boundsOfAllFrames(this._meshes);
    this._bounds = box;
    const [oldCentre, oldDistance] = [this._centre, this._distance];
    this._centre = box.getCenter(new THREE.Vector3());
    this._distance = this._fittingDistance(box);
    this._radius = box.getSize(new THREE.Vector3()).length() / 2;
    for (const mesh of this._meshes) mesh.frustumCulled = false;
    if (oldCentre) {
      for (const place of [this._controls.target, this._camera.position]) {
        place.sub(oldCentre).multiplyScalar(this._distance / oldDistance).add(this._centre);
      }
    }
    this._addFloor(box.min.y);
  }

  /** From how far a camera in the initial direction sees every corner of the box. */
  _fittingDistance(box) {
    const towards = INITIAL_DIRECTION.clone().normalize();
    const right = new THREE.Vector3(0, 1, 0).cross(towards).normalize();
    const up = towards.clone().cross(right);
    const tall = FILLED * Math.tan(THREE.MathUtils.degToRad(FIELD_OF_VIEW_DEG / 2));
    const wide = tall * this._camera.aspect;
    const half = box.getSize(new THREE.Vector3()).divideScalar(2);
    const distances = [0, 1, 2, 3, 4, 5, 6, 7].map((k) => {
      const corner = new THREE.Vector3(k & 1 ? 1 : -1, k & 2 ? 1 : -1, k & 4 ? 1 : -1).multiply(half);
      return corner.dot(towards) + Math.max(Math.abs(corner.dot(right)) / wide, Math.abs(corner.dot(up)) / tall);
    });
    return Math.max(...distances);
  }

  _addFloor(height) {
    if (this._floor) this._scene.remove(this._floor);
    this._floor = new Floor(this._radius);
    this._floor.grid.visible = this._display.grid ?? false;
    this._floor.position.set(this._centre.x, height - 0.004, this._centre.z);
    this._scene.add(this._floor);
  }

  _applyMaterials() {
    const { surface, wireframe } = this._display;
    for (const mesh of this._meshes ?? []) {
      mesh.material = { clay: this._clay, normals: this._normals }[surface] ?? mesh.userData.texture;
      mesh.material.wireframe = wireframe;
    }
  }

  _removeModel() {
    if (!this._model) return;
    this._mixer.stopAllAction();
    this._scene.remove(this._model);
    for (const { geometry, userData } of this._meshes) {
      geometry.dispose();
      userData.texture.map?.dispose();
      userData.texture.dispose();
    }
    this._model = null;
  }

  _observe() {
    this._abort = new AbortController();
    document.addEventListener('visibilitychange', () => this.requestDraw(), { signal: this._abort.signal });
    const resize = () => {
      const { clientWidth, clientHeight } = this._canvas;
      if (!clientWidth || !clientHeight) return;
      this._renderer.setSize(clientWidth, clientHeight, false);
      this._camera.aspect = clientWidth / clientHeight;
      this._camera.updateProjectionMatrix();
      if (this._model) this._render(); // at once: setSize has cleared the canvas
    };
    const resizeObserver = new ResizeObserver(resize);
    const visibilityObserver = new IntersectionObserver(([entry]) => {
      this._isVisible = entry.isIntersecting;
      this.requestDraw();
    });
    resizeObserver.observe(this._canvas);
    visibilityObserver.observe(this._canvas);
    this._observers = [resizeObserver, visibilityObserver];
    resize();
  }
}

/** Exact bounds. three.js adds the targets' boxes to the base's box, which can be twice too wide. */
function boundsOfAllFrames(meshes) {
  const box = new THREE.Box3();
  const point = new THREE.Vector3();
  const delta = new THREE.Vector3();
  for (const { geometry } of meshes) {
    const base = geometry.attributes.position;
    for (const target of [null, ...(geometry.morphAttributes.position ?? [])]) {
      for (let k = 0; k < base.count; k += 1) {
        point.fromBufferAttribute(base, k);
        if (target) point.add(delta.fromBufferAttribute(target, k));
        box.expandByPoint(point);
      }
    }
  }
  return box;
}
