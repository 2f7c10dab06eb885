// How well a finished mesh fits its video, in words and numbers, and the first shapes that were tried.
// job.js loads this file for a job that has them.

import { address } from './api.js';
import { byId, el, fill } from './dom.js';

const [GOOD, FAIR] = [0.85, 0.75]; // mean overlap (IoU) of the outlines of mesh and subject
const LOWEST_SHOWN = 0.5; // overlap at the lower edge of the bars

/** Show a job's score; `onFrame(frame)` is called for the frame that fits worst, or that was clicked. */
export function showScore({ score, warnings }, onFrame) {
  const { outline_mean: mean, outline_worst: worst, worst_frame: frame } = score;
  const word = mean >= GOOD ? 'Good' : mean >= FAIR ? 'Fair' : 'Poor';
  byId('score').hidden = false;
  fill(byId('score'),
    el('p', {}, el('strong', {}, `${word} fit. `), motionText(score, warnings.map(({ code }) => code))),
    el('p', { class: 'secondary' }, `Outlines overlap by ${percent(mean)} on average; worst: `,
      el('button', { id: 'worst-frame', type: 'button', class: 'link', onclick: () => onFrame(frame) }, `frame ${frame}`),
      `, ${percent(worst)}.`),
    overlapBars(score, onFrame));
}

/** A bar for each frame. For the mouse only: the keyboard has the scrubber and the button of the worst one. */
function overlapBars({ outlines, worst_frame: worst }, onFrame) {
  const bars = outlines.map((overlap, frame) => {
    const bar = el('span', { class: frame === worst ? 'is-worst' : null, title: `Frame ${frame}: ${percent(overlap)}`, onclick: () => onFrame(frame) });
    bar.style.setProperty('--height', String(Math.max(0, overlap - LOWEST_SHOWN) / (1 - LOWEST_SHOWN)));
    return bar;
  });
  return el('div', { class: 'overlaps', 'aria-hidden': 'true' }, ...bars);
}

/**
 * List the shapes that were tried: those of a finished job with seeds and outlines, the best first. Of a
 * running job only their number is known: a seed that gave no shape has no file.
 */
export function showTries({ job_id: id, tries, ready = [] }) {
  const made = ready.map((name) => /^anchor_(\d)\.glb$/.exec(name)).filter(Boolean)
    .map(([name, k]) => ({ title: `Shape ${Number(k) + 1}`, file: name, anchor: address(`outputs/${id}/${name}`) }));
  const shown = tries ? [...tries].sort((one, other) => other.outline - one.outline) : made;
  byId('tried').hidden = shown.length === 0;
  fill(byId('tried'), el('h2', {}, 'Shapes tried'), el('ol', { class: 'stages' }, ...shown.map(row)));
}

function row({ seed, title = `Seed ${seed}`, file = `seed_${seed}.glb`, outline, anchor, chosen }) {
  return el('li', { 'data-state': chosen ? 'now' : 'done' },
    el('span', {}, el('a', { href: anchor, download: file }, title), chosen ? ', chosen' : ''),
    el('span', { class: 'stage-time' }, outline === undefined ? '' : `outline ${percent(outline)}`));
}

function motionText({ motion }, codes) {
  if (motion === null) return 'The video moves too little to judge the motion.';
  if (codes.includes('motion_mismatch')) return 'The motion does not follow the video.';
  return codes.includes('motion_weak') ? 'The motion is weak or late.' : 'The motion follows the video.';
}

/** Rounded down, so that it agrees with the word. */
function percent(part) {
  return `${Math.floor(part * 100 + 1e-6)}%`;
}
