// How well a finished mesh fits its video, in words and numbers, and the first shapes that were tried.
// job.js loads this file for a job that has them.

import { byId, el, fill } from './dom.js';

const [GOOD, FAIR] = [0.85, 0.75]; // mean overlap (IoU) of the outlines of mesh and subject
const [FOLLOWS, WEAK] = [0.45, 0.2]; // share of the video's motion that the mesh has

/** Show the score; `onFrame(frame)` is called for the frame that fits worst. */
export function showScore(score, onFrame) {
  const { outline_mean: mean, outline_worst: worst, worst_frame: frame } = score;
  const word = mean >= GOOD ? 'Good' : mean >= FAIR ? 'Fair' : 'Poor';
  byId('score').hidden = false;
  fill(byId('score'),
    el('p', {}, el('strong', {}, `${word} fit`), ` The outlines of mesh and subject overlap by ${percent(mean)}`),
    el('p', { class: 'secondary' }, 'Worst: ',
      el('button', { id: 'worst-frame', type: 'button', class: 'link', onclick: () => onFrame(frame) }, `frame ${frame}`),
      `, ${percent(worst)}. ${motionText(score.motion)}`));
}

/** List the shapes that were tried, best outline first. */
export function showTries(tries) {
  const ranked = [...tries].sort((one, other) => other.outline - one.outline);
  byId('tried').hidden = false;
  fill(byId('tried'),
    el('h2', {}, 'Shapes tried'),
    el('ol', { class: 'stages' }, ...ranked.map(({ seed, outline, anchor, chosen }) => el('li', { 'data-state': chosen ? 'now' : 'done' },
      el('span', {}, el('a', { href: anchor, download: `seed_${seed}.glb` }, `Seed ${seed}`), chosen ? ' chosen' : ''),
      el('span', { class: 'stage-time' }, `outline ${percent(outline)}`)))));
}

function motionText(motion) {
  if (motion === null) return 'The video moves too little to judge the motion.';
  if (motion >= FOLLOWS) return 'The motion follows the video.';
  return motion >= WEAK ? 'The motion is weaker or later than in the video.' : 'The motion does not follow the video.';
}

/** Rounded down, so that it agrees with the word. */
function percent(part) {
  return `${Math.floor(part * 100 + 1e-6)}%`;
}
