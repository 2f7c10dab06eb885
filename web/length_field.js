// The field for the length of the animation, the option `max_frames`: how many frames, and which seconds
// of the chosen clip they cover. Called by new_job.js.

import { byId, el, fill } from './dom.js';
import { countOf, rate, seconds } from './format.js';
import { DEFAULT_FRAMES, MIN_FRAMES } from './sampling.js';

const STEP = 15; // between the lengths that are offered: one more window of ActionMesh

/**
 * Offer what the clip gives with up to `mostFrames`; the chosen value stays. `planOf(maxFrames)` is the
 * clip's plan, null if its frames are not known.
 */
export function showLengths(mostFrames, planOf = () => null) {
  const field = byId('max-frames');
  const wanted = chosenFrames();
  fill(field, ...lengths(mostFrames, wanted, planOf).map(([value, plan]) => (
    el('option', { value, selected: value === wanted }, describe(value, plan)))));
}

/** The value of the field. */
export function chosenFrames() {
  return Number(byId('max-frames').value) || DEFAULT_FRAMES;
}

/** Pairs of a value and its plan, by frames used; of values with the same frames one, `wanted` if it is there. */
function lengths(mostFrames, wanted, planOf) {
  const found = new Map();
  const add = (value) => {
    const plan = planOf(value);
    const frames = plan?.used?.length ?? value;
    if (value <= mostFrames && (value === wanted || !found.has(frames))) found.set(frames, [value, plan]);
    return plan;
  };
  add(wanted);
  for (let value = MIN_FRAMES; value <= mostFrames; value += STEP) {
    const { tail, reach } = add(value) ?? {};
    const more = Math.floor(tail / reach); // up to the clip's end
    if (more < STEP) add(value + more);
  }
  return [...found.entries()].sort(([one], [other]) => one - other).map(([, length]) => length);
}

/** "46 frames: 5.8 s at 8/s, whole clip". */
function describe(value, plan) {
  if (!plan?.used) return `up to ${countOf(value, 'frame')}`;
  const { used, fps, tail, reach } = plan;
  const end = tail >= reach ? '' : used[0] === 0 ? ', whole clip' : ', to the end';
  return `${countOf(used.length, 'frame')}: ${seconds(used.length / fps)} at ${rate(fps)}/s${end}`;
}
