// "Match video": the mesh seen from where the video was filmed, with the video laid over it. Draws the
// frame that the side pane's video shows, so that no video is decoded twice. Used by viewer.js.

import { byId, el, setText } from './dom.js';

export class MatchVideo {
  /** For a scene that has the video's camera. `button` and `sliderRow` belong into the toolbar. */
  constructor(scene, video) {
    this._scene = scene;
    this._video = video;
    this.button = el('button', {
      id: 'match', type: 'button', class: 'tool', title: 'Key: M', 'aria-pressed': 'false', onclick: () => this.toggle(),
    }, 'Match video');
    this._slider = el('input', {
      id: 'fade', type: 'range', min: 0, max: 1, step: 0.05, value: 0.5, 'aria-label': 'From mesh to video',
      oninput: () => this._fade(),
    });
    this.sliderRow = el('span', { class: 'fade', hidden: true }, el('span', {}, 'Mesh'), this._slider, el('span', {}, 'Video'));
    this._overlay = el('canvas', { id: 'overlay', class: 'overlay', hidden: true, 'aria-hidden': 'true' });
    byId('mesh-canvas').after(this._overlay);
    scene.onVideoLeft = () => this._show(false);
    this._fade();
  }

  /** True from the start of the way to the video's camera on. */
  get isOn() {
    return this.button.getAttribute('aria-pressed') === 'true';
  }

  toggle() {
    this.set(!this.isOn);
  }

  set(isOn) {
    if (isOn === this.isOn) return;
    const turntable = byId('turntable');
    if (isOn && turntable.getAttribute('aria-pressed') === 'true') turntable.click();
    this._scene.showFromVideo(isOn);
    this._show(isOn);
  }

  /** Before each draw: show the video's frame once the camera is where it was filmed. */
  beforeDraw() {
    const { _overlay: overlay, _video: video } = this;
    overlay.hidden = !(this.isOn && this._scene.isAtVideo);
    if (overlay.hidden || video.readyState < video.HAVE_CURRENT_DATA) return; // while it seeks, the last frame stays
    if (overlay.width !== video.videoWidth || overlay.height !== video.videoHeight) {
      Object.assign(overlay, { width: video.videoWidth, height: video.videoHeight });
    }
    overlay.getContext('2d').drawImage(video, 0, 0);
  }

  close() {
    this._overlay.remove();
    byId('mesh-pane').classList.remove('is-matching');
  }

  _show(isOn) {
    this.button.setAttribute('aria-pressed', String(isOn));
    if (this.sliderRow.contains(document.activeElement)) this.button.focus();
    this.sliderRow.hidden = !isOn;
    byId('mesh-pane').classList.toggle('is-matching', isOn);
    if (!isOn) this._overlay.hidden = true;
    setText(byId('announcer'), isOn ? 'The mesh is shown from where the video was filmed, with the video over it.'
      : 'The mesh is shown from the usual camera.');
  }

  _fade() {
    const part = this._slider.valueAsNumber;
    this._overlay.style.opacity = String(part);
    this._slider.setAttribute('aria-valuetext', `${Math.round(part * 100)}% video`);
  }
}
