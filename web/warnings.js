// The warnings of a job in words, with what can be done about them: frames to look at, a subject to
// choose. Called by job.js.

import { el, fill } from './dom.js';

const ABOUT_SUBJECT = ['low_confidence_segmentation', 'several_subjects'];

/** True if another choice of the subject may help. */
export function areAboutSubject(warnings = []) {
  return warnings.some(({ code }) => ABOUT_SUBJECT.includes(code));
}

/** Fill the list; `onFrame(frame)` is called for a frame named in a warning, if given. */
export function showWarnings(list, warnings = [], onFrame = null) {
  fill(list, ...warnings.map(({ message, frames }) => el('li', {}, message,
    onFrame && frames?.length ? frameButtons(frames, onFrame) : null)));
}

function frameButtons(frames, onFrame) {
  return el('span', { class: 'warning-frames' }, ' Look at ', ...frames.flatMap((frame, k) => [
    k ? ', ' : '',
    el('button', { type: 'button', class: 'link', 'aria-label': `Frame ${frame}`, onclick: () => onFrame(frame) }, String(frame)),
  ]));
}
