// The strip: pictures of the very frames that a job will use, and the words that go with them.

import { byId, el, fill, setText } from './dom.js';
import { countOf, ordinal, rate, seconds } from './format.js';
import { MIN_FRAMES } from './sampling.js';

let drawing = new AbortController();

/** Show the strip for a plan of the clip's, or the reason why there is none. */
export function showStrip(clip, planned) {
  drawing.abort();
  drawing = new AbortController();
  const strip = byId('strip');
  const used = planned?.used ?? [];
  strip.hidden = used.length === 0 || !clip.hasPictures;
  fill(strip, ...used.map((index) => el('li', { title: clip.positionOf(index).words })));
  showUsedRange(clip, planned);
  setText(byId('strip-text'), describe(clip, planned));
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
function showUsedRange(clip, planned) {
  const span = byId('used-range');
  span.hidden = !planned?.used;
  if (span.hidden) return;
  const [from, to] = [planned.used[0], planned.used[planned.used.length - 1]].map((index) => clip.positionOf(index));
  span.style.setProperty('--from', String(from.part));
  span.style.setProperty('--to', String(to.part));
  setText(byId('used-from'), from.words);
  setText(byId('used-to'), to.words);
}

/** One line on the frames used, honest about what the browser only guesses. */
function describe(clip, planned) {
  if (clip.isZip && !planned) return 'This browser cannot look into this zip. The server may, and says so at once.';
  if (!clip.isPlayable && !planned) {
    return 'This browser cannot show this clip. The server may still read it, and says so at once.';
  }
  if (!planned) return 'This browser cannot tell the frames of this clip; the server will.';
  if (!planned.used) return `${countOf(planned.tooShort, 'frame')} of at least ${MIN_FRAMES}.`;
  const about = clip.timesAreExact ? '' : 'about ';
  const which = planned.stride === null ? `frames ${about}nearest to an even pace`
    : planned.stride === 1 ? 'every frame'
      : `${about}every ${ordinal(planned.stride)} frame`;
  const length = seconds(planned.used.length / planned.fps);
  return `${countOf(planned.used.length, 'frame')}, ${which}: `
    + `${length} at ${about}${rate(planned.fps)} per second`;
}
