// The strip: pictures of the very frames that a job will use, and the words that go with them.

import { byId, el, fill, say } from './dom.js';
import { counted, ordinal, rate, seconds } from './format.js';
import { MIN_FRAMES, firstAt, sample } from './sampling.js';

let drawing = new AbortController();

/**
 * What the server will take of `clip` under these options: the result of `sample`, with `used`
 * counted from the clip's first frame, `from` and `to` in seconds. Null if nobody can tell here.
 */
export function plan(clip, { start, fps, maxFrames }) {
  if (!clip.times) return null;
  const first = firstAt(clip.times, start - 1e-5);
  const found = sample(clip.times.slice(first).map((time) => time - start), { fps, maxFrames });
  if (!found.used) return found;
  const used = found.used.map((position) => first + position);
  return { ...found, used, from: clip.times[used[0]], to: clip.times[used[used.length - 1]] };
}

/** Show the strip for a plan of `plan`, or the reason why there is none. */
export function showStrip(clip, planned) {
  drawing.abort();
  drawing = new AbortController();
  const strip = byId('strip');
  const used = planned?.used ?? [];
  strip.hidden = used.length === 0 || !clip.isPlayable;
  fill(strip, ...used.map((index) => el('li', { title: `${clip.times[index].toFixed(2)} s` })));
  showSpan(clip, planned);
  say(byId('strip-text'), describe(clip, planned));
  if (strip.hidden) return;
  drawAll(clip, used, [...strip.children], drawing.signal);
}

async function drawAll(clip, used, places, signal) {
  for (const [position, index] of used.entries()) {
    const picture = await clip.thumb(index, signal);
    if (signal.aborted) return;
    if (!picture) continue;
    const copy = el('canvas', { width: picture.width, height: picture.height });
    copy.setAttribute('aria-hidden', 'true');
    copy.getContext('2d').drawImage(picture, 0, 0);
    fill(places[position], copy);
  }
}

/** The bar under the strip: which part of the whole clip is used. */
function showSpan(clip, planned) {
  const span = byId('span');
  const last = clip.times?.[clip.times.length - 1];
  span.hidden = !planned?.used || !last;
  if (span.hidden) return;
  span.style.setProperty('--from', String(planned.from / last));
  span.style.setProperty('--to', String(planned.to / last));
  say(byId('span-from'), `${planned.from.toFixed(2)} s`);
  say(byId('span-to'), `${planned.to.toFixed(2)} s`);
}

/** One line on the frames used, honest about what the browser only guesses. */
function describe(clip, planned) {
  if (clip.isZip) return 'A zip of frames: the server takes them in the order of their names.';
  if (!clip.isPlayable && !planned) {
    return 'This browser cannot show this clip. The server may still read it, and says so at once.';
  }
  if (!planned) return 'This browser cannot tell the frames of this clip; the server will.';
  if (!planned.used) return `${counted(planned.tooShort, 'frame')} of at least ${MIN_FRAMES}.`;
  const about = clip.timesAreExact ? '' : 'about ';
  const which = planned.stride === null ? `frames ${about}nearest to an even pace`
    : planned.stride === 1 ? 'every frame'
      : `${about}every ${ordinal(planned.stride)} frame`;
  const length = seconds(planned.used.length / planned.fps);
  return `${counted(planned.used.length, 'frame')}, ${which}: `
    + `${length} at ${about}${rate(planned.fps)} per second`;
}
