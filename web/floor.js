// What is drawn under the mesh: its shadow, and a grid that can be switched on. Used by scene.js.

import * as THREE from './vendor/three.module.min.js';

export class Floor extends THREE.Group {
  /** For a mesh of this radius; `grid` is the grid. */
  constructor(radius) {
    super();
    const shadow = new THREE.Mesh(
      new THREE.PlaneGeometry(radius * 1.8, radius * 1.8),
      new THREE.MeshBasicMaterial({ map: shadowTexture(), transparent: true, depthWrite: false }),
    );
    shadow.rotation.x = -Math.PI / 2;
    this.grid = new THREE.GridHelper(radius * 4, 24, 0x8a857e, 0x8a857e);
    Object.assign(this.grid.material, { transparent: true, opacity: 0.35 });
    this.grid.position.y = -0.002;
    this.add(shadow, this.grid);
  }
}

/** A dark spot that fades to transparent, drawn under the mesh as its shadow. */
function shadowTexture() {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 128;
  const context = canvas.getContext('2d');
  const fade = context.createRadialGradient(64, 64, 0, 64, 64, 64);
  fade.addColorStop(0, 'rgba(0, 0, 0, 0.22)');
  fade.addColorStop(0.45, 'rgba(0, 0, 0, 0.07)');
  fade.addColorStop(1, 'rgba(0, 0, 0, 0)');
  context.fillStyle = fade;
  context.fillRect(0, 0, 128, 128);
  return new THREE.CanvasTexture(canvas);
}
