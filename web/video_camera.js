// Where the video was filmed: the camera `video` of a GLB, drawn so that its picture fills as much of
// the canvas as its shape allows, and the way there from the usual camera. Used by scene.js.

import * as THREE from './vendor/three.module.min.js';

export class VideoCamera {
  /** `camera` is a node of the model, perspective or orthographic; an animation may move it. */
  constructor(camera) {
    this._camera = camera;
    this._drawn = new THREE.Camera();
  }

  /** Width of the video's pictures / height. */
  get shape() {
    const { elements } = this._camera.projectionMatrix;
    return elements[5] / elements[0];
  }

  /**
   * The camera to draw with: `part` of the way from `usual` (0) to where the video was filmed (1). It
   * goes around `centre`, and blends the projections so that what is there keeps its size.
   */
  between(usual, part, centre) {
    this._camera.updateWorldMatrix(true, false);
    const from = placeOf(usual, centre);
    const to = placeOf(this._camera, centre);
    const drawn = this._drawn;
    drawn.quaternion.slerpQuaternions(from.turn, to.turn, part);
    const offset = from.offset.lerp(to.offset, part).applyQuaternion(drawn.quaternion);
    drawn.position.copy(centre).sub(offset);
    const projection = fitted(this._camera.projectionMatrix, usual.aspect / this.shape);
    const [start, end] = [share(usual.projectionMatrix, from.depth, 1 - part), share(projection, to.depth, part)];
    drawn.projectionMatrix.fromArray(start.map((value, k) => value + end[k]));
    drawn.projectionMatrixInverse.copy(drawn.projectionMatrix).invert();
    return drawn;
  }
}

/** How a camera is turned, and where it sees `centre`: as `offset` along its axes, and as depth. */
function placeOf(camera, centre) {
  const turn = camera.getWorldQuaternion(new THREE.Quaternion());
  const offset = centre.clone().sub(camera.getWorldPosition(new THREE.Vector3())).applyQuaternion(turn.clone().invert());
  return { turn, offset, depth: -offset.z };
}

/** A projection for a canvas that is `wider` times as wide as the picture: the whole picture fits. */
function fitted(projection, wider) {
  return new THREE.Matrix4().makeScale(Math.min(1, 1 / wider), Math.min(1, wider), 1).multiply(projection);
}

/** The part of a projection in a blend of two; both are scaled to w = 1 at their depths. */
function share({ elements }, depth, part) {
  const w = elements[15] - elements[11] * depth; // at z = -depth
  return elements.map((value) => (value / w) * part);
}
