// The picker in the form for a new job, on the first frame that will be used. A choice belongs to its
// frame: with another first frame it is not sent, with the same one again it is. Called by new_job.js.

import { byId, setText } from './dom.js';
import { SubjectPicker } from './subject_picker.js';

const NOTE = 'Without a choice it is found for you.';

let picker = null;
let drawing = new AbortController();
let frame = null; // the one shown
let kept = null; // the last choice and its frame

/** Forget the choice: another clip. */
export function clearSubjectField() {
  drawing.abort();
  frame = kept = null;
  picker?.choose(null);
  byId('subject-field').hidden = true;
}

/** Show the first frame of `planned` (from clip.plan); hides the picker if there is none. */
export async function showSubjectField(clip, planned) {
  const first = clip?.hasPictures ? planned?.used?.[0] : undefined;
  byId('subject-field').hidden = first === undefined;
  if (first === undefined || first === frame) return;
  frame = first;
  if (!picker) {
    picker = new SubjectPicker({ onChange });
    byId('subject-field').append(picker.element);
  }
  const earlier = kept;
  picker.choose(earlier?.frame === frame ? earlier.choice : null);
  kept = earlier;
  const isDropped = earlier !== null && earlier.frame !== frame;
  setText(byId('subject-note'), isDropped
    ? `Your choice was made on the frame at ${clip.positionOf(earlier.frame).text}. The first frame is another one now: choose again.`
    : NOTE);
  drawing.abort();
  drawing = new AbortController();
  const { signal } = drawing;
  const picture = await clip.picture(first, signal);
  if (picture && !signal.aborted) picker.show(picture);
}

/** The choice as fields of POST /jobs; empty without one. */
export function subjectFields() {
  return picker && !byId('subject-field').hidden ? picker.fields : {};
}

function onChange() {
  kept = picker.choice && { frame, choice: picker.choice };
  setText(byId('subject-note'), NOTE);
}
