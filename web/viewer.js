// The viewer of a job's mesh: mesh and source video side by side, with one set of controls for both.
// Loads scene.js, and with it three.js, and viewer_controls.js for the first mesh; without WebGL it
// shows the preview video. Called by job.js.

import { byId, el, setText, wantsLessMotion } from './dom.js';
import { drawFound, hideFound } from './found.js';
import { Playback } from './playback.js';

let scene = null;
let controls = null; // viewer_controls.js, loaded with the first mesh
let playback = null;
let match = null; // MatchVideo, if the mesh says where its video was filmed
let shownUrl = ''; // of the mesh that is shown
let requestedUrl = ''; // of the mesh that is being loaded, or the shown one
let loading = new AbortController();
let keyListener = new AbortController();

/** For the console and for tests: what is shown now. */
globalThis.actionmesh = { get scene() { return scene; }, get playback() { return playback; } };

/** Remove everything from the viewer. */
export function clearViewer() {
  keyListener.abort();
  keyListener = new AbortController();
  cancelMeshLoad();
  match?.close();
  playback?.close();
  scene?.close();
  scene = playback = match = null;
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

/** Pause at a frame of the animation, if it is shown, and lay the video over it. */
export function compareFrame(frame) {
  playback?.pauseAt(frame);
  match?.set(true);
  byId('mesh-pane').scrollIntoView({ block: 'nearest', behavior: wantsLessMotion() ? 'auto' : 'smooth' });
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
  if (await loadMesh(url)) controls.showDisplayOptions(scene);
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
  match = controls.showControls(scene, playback, video ? source : null, keyListener.signal);
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
      const [{ Scene }, loaded] = await Promise.all([import('./scene.js'), import('./viewer_controls.js')]);
      if (signal.aborted) return false;
      controls = loaded;
      scene = new Scene(byId('mesh-canvas'), beforeDraw);
      scene.setDisplay(controls.display);
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
  // the video shows whole frames, so the mesh under it does, too
  scene.setTime(match?.isOn ? playback.frame / playback.fps : playback.meshTime);
  match?.beforeDraw();
  controls.showTime(playback);
}

function onChange() {
  scene.isMoving = playback.isPlaying;
  controls.showIsPlaying(playback);
  controls.showTime(playback);
  scene.requestDraw();
}
