// The dialog in which another subject is chosen for a job that has ended: on a frame of its own video, and
// sent as a retry, without a new upload. Called by job.js.

import { Problem, address, keyHeaders } from './api.js';
import { Clip } from './clip.js';
import { byId, el, fill, setText } from './dom.js';
import { SubjectPicker, WHOLE, choiceIn } from './subject_picker.js';

const TEXT = 'The same video is used again, nothing is uploaded. This job stays as it is.';
const NO_PICTURE = 'This browser cannot show the first frame of this job.';
const ONLY_BOXES = ' The boxes show what was found in it.';
const BLANK_HEIGHT_PX = 360;

let loading = new AbortController();

/** True if there is something to choose from; `clip` is the job's file, if this page has sent it. */
export function canChooseSubject(job, clip) {
  return Boolean(job.outputs?.source_video) || Boolean(clip?.hasPictures) || boxesOf(job).length > 0;
}

/** The boxes of what may be the subject, from the job's warnings, as texts. */
function boxesOf(job) {
  return (job.warnings ?? []).flatMap(({ boxes }) => boxes ?? []);
}

/** Open the dialog; `retry(fields)` makes the new job and may throw a Problem. */
export async function openSubjectDialog(job, clip, retry) {
  const dialog = byId('subject-dialog');
  const use = byId('subject-use');
  const problem = byId('subject-problem');
  const earlier = choiceIn(job.options);
  const picker = new SubjectPicker({
    isArmed: true,
    onChange: () => {
      use.disabled = !picker.choice && !earlier;
    },
  });
  if (earlier) picker.choose(earlier);
  fill(byId('subject-picker'), picker.element);
  setText(byId('subject-text'), TEXT);
  problem.hidden = use.disabled = true;
  byId('subject-cancel').onclick = () => dialog.close();
  use.onclick = async () => {
    use.disabled = problem.hidden = true;
    try {
      await retry(picker.choice ? picker.fields : { subject_box: WHOLE });
      dialog.close();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      use.disabled = false;
      problem.hidden = false;
      setText(problem, `${error.message} ${error.hint}`);
    }
  };
  loading.abort();
  loading = new AbortController();
  const { signal } = loading;
  dialog.onclose = () => loading.abort();
  picker.show(blank(job.input));
  dialog.showModal();
  const picture = await firstFrame(job, clip, signal).catch(() => null);
  if (signal.aborted) return;
  const boxes = boxesOf(job);
  picker.show(picture ?? blank(job.input), boxes);
  if (!picture) setText(byId('subject-text'), NO_PICTURE + (boxes.length ? ONLY_BOXES : ''));
}

/** A canvas with the first frame that the job used; null if this browser has no such picture. */
async function firstFrame(job, clip, signal) {
  if (!job.outputs?.source_video) {
    const { start, fps, max_frames: maxFrames } = job.options;
    const first = clip?.plan({ start, fps, maxFrames, frameStep: 1 })?.used?.[0]; // with any step the same
    return first === undefined ? null : clip.picture(first, signal);
  }
  const reply = await fetch(address(job.outputs.source_video), { headers: keyHeaders(), signal });
  const source = new Clip(await reply.blob());
  try {
    await source.open();
    return await source.picture(0, signal);
  } finally {
    source.close();
  }
}

/** An empty picture of the video's shape. */
function blank(input) {
  const shape = (input?.width || 16) / (input?.height || 9);
  return el('canvas', { width: Math.round(BLANK_HEIGHT_PX * shape), height: BLANK_HEIGHT_PX });
}
