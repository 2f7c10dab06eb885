// The viewer of a job's mesh: mesh and source video side by side, with one set of controls for both
// (buttons, scrubber, keys). Loads scene.js, and with it three.js, for the first mesh; without WebGL
// it shows the preview video. Called by job.js.

import { byId, el, fill, setText, wantsLessMotion } from './dom.js';
import { drawFound, hideFound } from './found.js';
import { Playback } from './playback.js';

const SPEEDS = [0.25, 0.5, 1, 2];
const ICONS = {
  play: 'M6 4l13 8-13 8z',
  pause: 'M6 4h4v16H6zM14 4h4v16h-4z',
  back: 'M15 5l-8 7 8 7z',
  forward: 'M9 5l8 7-8 7z',
};

let scene = null;
let playback = null;
let shownUrl = ''; // of the mesh that is shown
let requestedUrl = ''; // of the mesh that is being loaded, or the shown one
let loading = new AbortController();
let keyListener = new AbortController();
const display = { surface: 'texture', wireframe: false, grid: false, turntable: false };

/** For the console and for tests: what is shown now. */
globalThis.actionmesh = { get scene() { return scene; }, get playback() { return playback; } };

/** Remove everything from the viewer. */
export function clearViewer() {
  keyListener.abort();
  keyListener = new AbortController();
  cancelMeshLoad();
  playback?.close();
  scene?.close();
  scene = playback = null;
  shownUrl = requestedUrl = '';
  unloadVideo(byId('source'));
  replaceCanvas();
  hideClip();
  hideFound();
  for (const id of ['source', 'poster', 'display-options', 'playback-controls']) byId(id).hidden = true;
  setText(byId('mesh-text'), '');
}

/** Before the first mesh: a line of text, and a pale picture of the clip if this page has it. */
export function showPlaceholder(text, clip = null) {
  if (shownUrl) return;
  setText(byId('mesh-text'), text);
  hideClip();
  if (!clip?.isPlayable) return;
  const preview = byId('clip-preview');
  preview.hidden = false;
  preview.src = clip.url;
  if (!wantsLessMotion()) preview.play().catch(() => {}); // refused: it stays a still picture
}

/** Before the first mesh: the pictures that show which subject was found. */
export async function showFound(url, shape) {
  if (shownUrl || !(await drawFound(url, shape))) return;
  hideClip();
  setText(byId('mesh-text'), 'What was found');
}

/** Pause at a frame of the animation, if it is shown. */
export function showFrame(frame) {
  playback?.pauseAt(frame);
}

function hideClip() {
  const preview = byId('clip-preview');
  if (preview.hidden) return;
  preview.hidden = true;
  unloadVideo(preview);
}

function unloadVideo(video) {
  video.removeAttribute('src');
  video.load();
}

/** Stop loading a mesh. */
export function cancelMeshLoad() {
  loading.abort();
  requestedUrl = shownUrl;
}

/** Show the anchor mesh, which does not move yet. */
export async function showAnchorMesh(url) {
  if (requestedUrl === url) return;
  if (await loadMesh(url)) showDisplayOptions();
  else if (requestedUrl === url) requestedUrl = ''; // the next state of the job tries again
}

/** Show the finished animation beside its source frames; without WebGL the video `preview`. */
export async function showAnimation({ mesh, video, poster, preview, frames, fps }) {
  if (requestedUrl === mesh) return;
  hideFound();
  const picture = byId('poster');
  if (poster && !shownUrl) {
    picture.src = poster;
    picture.hidden = false;
  }
  const source = byId('source');
  source.hidden = !video;
  if (video) source.src = video;
  if (!(await loadMesh(mesh))) {
    if (requestedUrl === mesh) showPreview(preview);
    return;
  }
  picture.hidden = true;
  playback = new Playback({ frames, fps, video: video ? source : null });
  playback.addEventListener('change', onChange);
  showDisplayOptions();
  showPlaybackControls();
  listenToKeys();
  onChange();
  if (!wantsLessMotion()) playback.play();
}

/** Resolves to true once the mesh at `url` is shown, to false if it cannot be or was cancelled. */
async function loadMesh(url) {
  if (shownUrl === url) return true;
  cancelMeshLoad();
  requestedUrl = url;
  loading = new AbortController();
  const { signal } = loading;
  const text = byId('mesh-text');
  if (!shownUrl && byId('found').hidden) setText(text, 'Loading the mesh');
  try {
    if (!scene) {
      const { Scene } = await import('./scene.js');
      if (signal.aborted) return false;
      scene = new Scene(byId('mesh-canvas'), beforeDraw);
      scene.setDisplay(display);
    }
    await scene.load(url, {
      signal,
      onProgress: (part) => {
        if (part !== null && !shownUrl && byId('found').hidden) setText(text, `Loading the mesh, ${Math.round(part * 100)}%`);
      },
    });
  } catch (error) {
    if (signal.aborted) return false;
    console.warn('The mesh cannot be shown:', error);
    const hasWebGL = scene !== null || error instanceof TypeError; // else three.js found no WebGL
    if (!shownUrl) {
      setText(text, hasWebGL ? 'The mesh could not be loaded. Reload the page to try again.'
        : 'This browser cannot draw the mesh: it has no WebGL.');
    }
    return false;
  }
  shownUrl = url;
  setText(text, '');
  hideClip();
  hideFound();
  return true;
}

/** Show the rendered video instead of the mesh. */
function showPreview(preview) {
  if (!preview) return;
  byId('poster').hidden = true;
  setText(byId('mesh-text'), '');
  byId('mesh-canvas').replaceWith(el('video', {
    id: 'mesh-canvas', class: 'source', src: preview, controls: true, loop: true, muted: true, playsInline: true,
    'aria-label': 'A rendered preview of the mesh',
  }));
}

/** A canvas keeps its WebGL context, so the next scene needs a new canvas. */
function replaceCanvas() {
  const canvas = el('canvas', { id: 'mesh-canvas', tabIndex: 0, 'aria-label': 'The mesh. Drag to turn it, scroll to zoom.' });
  byId('mesh-canvas').replaceWith(canvas);
}

function beforeDraw() {
  if (!playback) return;
  scene.setTime(playback.meshTime);
  showTime();
}

function onChange() {
  const button = byId('play');
  const { isPlaying } = playback;
  button.querySelector('path').setAttribute('d', isPlaying ? ICONS.pause : ICONS.play);
  button.setAttribute('aria-label', isPlaying ? 'Pause' : 'Play');
  scene.isMoving = isPlaying;
  showTime();
  scene.requestDraw();
}

function showTime() {
  const scrubber = byId('scrubber');
  const { frame } = playback;
  if (scrubber.valueAsNumber !== frame) scrubber.valueAsNumber = frame;
  const text = `${frame + 1} / ${playback.frames}`;
  setText(byId('frame-text'), text);
  scrubber.setAttribute('aria-valuetext', `frame ${frame + 1} of ${playback.frames}`);
  scrubber.style.setProperty('--part', String(frame / Math.max(1, playback.frames - 1)));
}

function showPlaybackControls() {
  const scrubber = el('input', { id: 'scrubber', type: 'range', min: 0, max: playback.frames - 1, step: 1, value: 0, 'aria-label': 'Frame' });
  scrubber.addEventListener('input', () => {
    playback.pause();
    playback.seek(scrubber.valueAsNumber);
  });
  const speed = el('select', { id: 'speed', 'aria-label': 'Speed', onchange: (event) => { playback.speed = Number(event.target.value); } },
    ...SPEEDS.map((value) => el('option', { value, selected: value === 1 }, `${value}×`)));
  fill(byId('playback-controls'),
    iconButton('previous', 'Previous frame', 'left arrow', ICONS.back, () => playback.pauseAt(playback.frame - 1)),
    iconButton('play', 'Play', 'space', ICONS.play, () => playback.toggle()),
    iconButton('next', 'Next frame', 'right arrow', ICONS.forward, () => playback.pauseAt(playback.frame + 1)),
    scrubber,
    el('output', { id: 'frame-text', class: 'frame-text' }),
    speed,
    toggle('loop', 'Loop', 'L', true, (on) => playback.setLoop(on)));
  byId('playback-controls').hidden = false;
}

function showDisplayOptions() {
  const bar = byId('display-options');
  const surfaces = { texture: scene.hasColours ? 'Texture' : 'Plain', clay: 'Clay', normals: 'Normals' };
  if (!scene.hasColours) delete surfaces.clay;
  const group = el('span', { class: 'surface-choice', role: 'radiogroup', 'aria-label': 'Surface' },
    ...Object.entries(surfaces).map(([value, name]) => el('label', {},
      el('input', { type: 'radio', name: 'surface', value, class: 'visually-hidden', checked: display.surface === value,
        onchange: () => setDisplay({ surface: value }) }), el('span', {}, name))));
  fill(bar, group,
    toggle('wireframe', 'Wireframe', 'W', display.wireframe, (wireframe) => setDisplay({ wireframe })),
    toggle('grid', 'Grid', 'G', display.grid, (grid) => setDisplay({ grid })),
    toggle('turntable', 'Turntable', 'T', display.turntable, (turntable) => setDisplay({ turntable })),
    el('button', { id: 'reset', type: 'button', class: 'tool', title: 'Key: R', onclick: () => scene.resetView() }, 'Reset'),
    el('button', { id: 'full-screen', type: 'button', class: 'tool', title: 'Key: F', onclick: fullScreen }, 'Full screen'));
  bar.hidden = false;
}

function setDisplay(change) {
  Object.assign(display, change);
  scene.setDisplay(change);
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else byId('viewer').requestFullscreen?.();
}

function toggle(id, text, key, isOn, onToggle) {
  return el('button', {
    id, type: 'button', class: 'tool', title: `Key: ${key}`, 'aria-pressed': isOn ? 'true' : 'false',
    onclick: ({ currentTarget }) => {
      const on = currentTarget.getAttribute('aria-pressed') !== 'true';
      currentTarget.setAttribute('aria-pressed', String(on));
      onToggle(on);
    },
  }, text);
}

function iconButton(id, label, key, path, onclick) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  const shape = document.createElementNS('http://www.w3.org/2000/svg', 'path');
  shape.setAttribute('d', path);
  svg.append(shape);
  return el('button', { id, type: 'button', class: 'icon', title: `Key: ${key}`, 'aria-label': label, onclick }, svg);
}

/** Space, arrows, and a letter for each tool; but not in a text field, and no space on a button. */
function listenToKeys() {
  const letters = { w: 'wireframe', g: 'grid', t: 'turntable', l: 'loop', r: 'reset', f: 'full-screen' };
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !playback) return;
    const isPressing = event.target.closest('button, a, summary');
    if (event.target.closest('input:not([type=range]):not([type=radio]), textarea, select')) return;
    const isRange = event.target.matches('input');
    if (event.key === ' ' && !isPressing) playback.toggle();
    else if (event.key === 'ArrowLeft' && !isRange) playback.pauseAt(playback.frame - 1);
    else if (event.key === 'ArrowRight' && !isRange) playback.pauseAt(playback.frame + 1);
    else if (event.key === 'Home' && !isRange) playback.pauseAt(0);
    else if (event.key === 'End' && !isRange) playback.pauseAt(-1);
    else if (letters[event.key]) byId(letters[event.key]).click();
    else return;
    event.preventDefault();
  }, { signal: keyListener.signal });
}
