// The viewer's controls: buttons for how the mesh is shown, playback, keys. viewer.js loads this file
// with the first mesh.

import { byId, el, fill, setText } from './dom.js';
import { MatchVideo } from './match_video.js';

const SPEEDS = [0.25, 0.5, 1, 2];
const ICONS = {
  play: 'M6 4l13 8-13 8z',
  pause: 'M6 4h4v16H6zM14 4h4v16h-4z',
  back: 'M15 5l-8 7 8 7z',
  forward: 'M9 5l8 7-8 7z',
};

/** How the mesh is shown; kept from one job to the next. */
export const display = { surface: 'texture', wireframe: false, grid: false, turntable: false };

/**
 * Show all controls of a finished animation, and listen to keys until `signal` is aborted. Returns
 * the MatchVideo, or null without a `video` or without its camera in the scene.
 */
export function showControls(scene, playback, video, signal) {
  const match = video && scene.hasVideoCamera ? new MatchVideo(scene, video) : null;
  showDisplayOptions(scene, match);
  showPlaybackControls(playback);
  listenToKeys(playback, match, signal);
  return match;
}

/** Show the buttons for how `scene` is shown, with those of MatchVideo if there is one. */
export function showDisplayOptions(scene, match = null) {
  const set = (change) => scene.setDisplay(Object.assign(display, change));
  const surfaces = { texture: scene.hasColours ? 'Texture' : 'Plain', clay: 'Clay', normals: 'Normals' };
  if (!scene.hasColours) delete surfaces.clay;
  const group = el('span', { class: 'surface-choice', role: 'radiogroup', 'aria-label': 'Surface' },
    ...Object.entries(surfaces).map(([value, name]) => el('label', {},
      el('input', { type: 'radio', name: 'surface', value, class: 'visually-hidden', checked: display.surface === value,
        onchange: () => set({ surface: value }) }), el('span', {}, name))));
  fill(byId('display-options'), group, match?.button,
    toggle('wireframe', 'Wireframe', 'W', display.wireframe, (wireframe) => set({ wireframe })),
    toggle('grid', 'Grid', 'G', display.grid, (grid) => set({ grid })),
    toggle('turntable', 'Turntable', 'T', display.turntable, (turntable) => set({ turntable })),
    el('button', { id: 'reset', type: 'button', class: 'tool', title: 'Key: R', onclick: () => scene.resetView() }, 'Reset'),
    el('button', { id: 'full-screen', type: 'button', class: 'tool', title: 'Key: F', onclick: fullScreen }, 'Full screen'), match?.sliderRow);
  byId('display-options').hidden = false;
}

/** Show whether it plays. */
export function showIsPlaying({ isPlaying }) {
  const button = byId('play');
  button.querySelector('path').setAttribute('d', isPlaying ? ICONS.pause : ICONS.play);
  button.setAttribute('aria-label', isPlaying ? 'Pause' : 'Play');
}

/** Show the current frame. */
export function showTime({ frame, frames }) {
  const scrubber = byId('scrubber');
  if (scrubber.valueAsNumber !== frame) scrubber.valueAsNumber = frame;
  setText(byId('frame-text'), `${frame + 1} / ${frames}`);
  scrubber.setAttribute('aria-valuetext', `frame ${frame + 1} of ${frames}`);
  scrubber.style.setProperty('--part', String(frame / Math.max(1, frames - 1)));
}

function showPlaybackControls(playback) {
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

/** Space, arrows, and a letter for each tool; but not in a text field, and no space on a button. */
function listenToKeys(playback, match, signal) {
  const letters = { w: 'wireframe', g: 'grid', t: 'turntable', l: 'loop', r: 'reset', f: 'full-screen', m: 'match' };
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isPressing = event.target.closest('button, a, summary');
    if (event.target.closest('input:not([type=range]):not([type=radio]), textarea, select')) return;
    const isRange = event.target.matches('input');
    const tool = document.getElementById(letters[event.key]); // "match" is not always there
    if (event.key === ' ' && !isPressing) playback.toggle();
    else if (event.key === 'ArrowLeft' && !isRange) playback.pauseAt(playback.frame - 1);
    else if (event.key === 'ArrowRight' && !isRange) playback.pauseAt(playback.frame + 1);
    else if (event.key === 'Home' && !isRange) playback.pauseAt(0);
    else if (event.key === 'End' && !isRange) playback.pauseAt(-1);
    else if (event.key === 'Escape' && match?.isOn) match.set(false);
    else if (tool) tool.click();
    else return;
    event.preventDefault();
  }, { signal });
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
