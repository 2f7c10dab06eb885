// The strip of frames in the form: thumbnails of the frames that the job will use (of many, some), the
// range they cover, and one line of text. Called by new_job.js.

import { byId, el, fill, setText } from './dom.js';
import { countOf, ordinal, rate, seconds } from './format.js';
import { MIN_FRAMES } from './sampling.js';

const MOST_PICTURES = 32; // each is a seek in the video; two full rows, or four on a phone

let drawing = new AbortController();

/** Show the frames of `planned` (from clip.plan), or the reason why there are none. */
export function showStrip(clip, planned) {
  drawing.abort();
  drawing = new AbortController();
  const shown = spread(planned?.used ?? []);
  const strip = byId('strip');
  strip.hidden = shown.length === 0 || !clip.hasPictures;
  fill(strip, ...shown.map((index) => el('li', { title: clip.positionOf(index).text })));
  showUsedRange(clip, planned);
  setText(byId('strip-text'), describe(clip, planned));
  if (!strip.hidden) drawAll(clip, shown, [...strip.children], drawing.signal);
}

/** All of these frames, or MOST_PICTURES of them from the first to the last. */
function spread(used) {
  if (used.length <= MOST_PICTURES) return used;
  return Array.from({ length: MOST_PICTURES }, (_, k) => used[Math.round((k * (used.length - 1)) / (MOST_PICTURES - 1))]);
}

async function drawAll(clip, shown, items, signal) {
  for (const [position, index] of shown.entries()) {
    const picture = await clip.thumb(index, signal);
    if (signal.aborted) return;
    if (picture) fill(items[position], picture);
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
    + `${length} at ${about}${rate(planned.fps)} per second`
    + (planned.used.length > MOST_PICTURES ? `. ${MOST_PICTURES} of them are shown.` : '');
}
