// The strip of frames in the form: thumbnails of exactly the frames that the job will use, the range
// they cover, and one line of text. Called by new_job.js.

import { byId, el, fill, setText } from './dom.js';
import { countOf, ordinal, rate, seconds } from './format.js';
import { MIN_FRAMES } from './sampling.js';

let drawing = new AbortController();

/** Show the frames of `planned` (from clip.plan), or the reason why there are none. */
export function showStrip(clip, planned) {
  drawing.abort();
  drawing = new AbortController();
  const strip = byId('strip');
  const used = planned?.used ?? [];
  strip.hidden = used.length === 0 || !clip.hasPictures;
  fill(strip, ...used.map((index) => el('li', { title: clip.positionOf(index).text })));
  showUsedRange(clip, planned);
  setText(byId('strip-text'), describe(clip, planned));
  if (strip.hidden) return;
  drawAll(clip, used, [...strip.children], drawing.signal);
}

async function drawAll(clip, used, items, signal) {
  for (const [position, index] of used.entries()) {
    const picture = await clip.thumb(index, signal);
    if (signal.aborted) return;
    if (!picture) continue;
    const copy = el('canvas', { width: picture.width, height: picture.height });
    copy.setAttribute('aria-hidden', 'true');
    copy.getContext('2d').drawImage(picture, 0, 0);
    fill(items[position], copy);
  }
}

/** The bar under the strip: the part of the whole clip that is used. */
function showUsedRange(clip, planned) {
  const bar = byId('used-range');
  bar.hidden = !planned?.used;
  if (bar.hidden) return;
  const [from, to] = [planned.used[0], planned.used[planned.used.length - 1]].map((index) => clip.positionOf(index));
  bar.style.setProperty('--from', String(from.part));
  bar.style.setProperty('--to', String(to.part));
  setText(byId('used-from'), from.text);
  setText(byId('used-to'), to.text);
}

/** One line on the frames used; "about" marks what the browser only estimates. */
function describe(clip, planned) {
  if (clip.isZip && !planned) return 'This browser cannot read this zip. The server may still accept it, and will say so at once.';
  if (!clip.isPlayable && !planned) {
    return 'This browser cannot show this clip. The server may still accept it, and will say so at once; '
      + 'the subject can be chosen afterwards.';
  }
  if (!planned) return 'This browser cannot find the frames of this clip; the server will choose them.';
  if (!planned.used) return `${countOf(planned.tooShort, 'frame')} of at least ${MIN_FRAMES}.`;
  const about = clip.timesAreExact ? '' : 'about ';
  const which = planned.stride === null ? `frames ${about}evenly spaced in time`
    : planned.stride === 1 ? 'every frame'
      : `${about}every ${ordinal(planned.stride)} frame`;
  const length = seconds(planned.used.length / planned.fps);
  return `${countOf(planned.used.length, 'frame')}, ${which}: `
    + `${length} at ${about}${rate(planned.fps)} per second`;
}
