// The form for a new job: choose a clip, see which frames will be used, set options, send it. It
// warns before the upload of what the server would refuse. Set up by app.js.

import { Problem, address, ask } from './api.js';
import { acceptDropAndPaste } from './drop_paste.js';
import { Clip } from './clip.js';
import { byId, el, fill, setText } from './dom.js';
import { bytes, countOf, rate, seconds } from './format.js';
import { FramesZip } from './frames_zip.js';
import { saveJob } from './history.js';
import { optionFields, resetSampling, setUpOptions } from './job_options.js';
import { chosenFrames, showLengths } from './length_field.js';
import { chosenMode, limitOf, showTimes } from './modes.js';
import { MIN_FRAMES } from './sampling.js';
import { showStrip } from './frame_strip.js';
import { clearSubjectField, showSubjectField, subjectFields } from './subject_field.js';
import { upload } from './upload.js';

const EXAMPLE = 'example.mp4';

let info = null;
let clip = null;
let videoUrl = null;
let sending = null;
let choiceNumber = 0; // a clip that was opened for an earlier choice is dropped
let onClipChosen = () => {};

/** `onChosen()` is called for every clip, `onSent(id, clip)` once the server has accepted the job. */
export function setUpNewJob(onChosen, onSent) {
  onClipChosen = onChosen;
  const file = byId('file');
  file.addEventListener('change', () => file.files[0] && choose(file.files[0]));
  acceptDropAndPaste(byId('drop-area'), {
    canAccept: () => !byId('new-job').hidden && !sending,
    onFile: choose,
    onUrl: (url) => info?.features.video_url && chooseUrl(url),
  });
  byId('url-form').addEventListener('submit', (event) => {
    event.preventDefault();
    chooseUrl(byId('url').value.trim());
  });
  byId('example').addEventListener('click', chooseExample);
  byId('other-clip').addEventListener('click', startOver);
  byId('clip-form').addEventListener('submit', (event) => {
    event.preventDefault();
    submit(onSent);
  });
  byId('upload-cancel').addEventListener('click', () => sending?.abort());
  byId('start-slider').addEventListener('input', () => {
    byId('start').value = byId('start-slider').value;
    refresh();
  });
  byId('start').addEventListener('input', () => {
    byId('start-slider').value = byId('start').value;
    refresh();
  });
  for (const id of ['fps', 'max-frames', 'mode-cards']) byId(id).addEventListener('input', refresh);
}

/** Take over what GET /info says: modes, options, limits. */
export function useInfo(serverInfo) {
  const isFirst = info === null;
  info = serverInfo;
  if (!isFirst) {
    refresh();
    return;
  }
  setUpOptions(info);
  byId('url-form').hidden = !info.features.video_url;
  refresh();
}

/** Back to the empty form. */
export function startOver() {
  choiceNumber += 1;
  sending?.abort();
  clip?.close();
  clip = videoUrl = null;
  byId('file').value = byId('url').value = '';
  byId('clip-form').hidden = true;
  byId('choose-clip').hidden = false;
  showProblem('clip-problem', null);
}

async function choose(file) {
  const number = (choiceNumber += 1);
  clip?.close();
  videoUrl = null;
  const isZip = /\.zip$/i.test(file.name) || file.type.includes('zip');
  const opened = isZip ? new FramesZip(file) : new Clip(file);
  clip = opened;
  resetSampling();
  clearStrip('');
  show(file.name, bytes(file.size));
  await opened.open();
  if (number !== choiceNumber) return;
  const { duration, width, height, fps } = opened;
  const exact = opened.timesAreExact ? '' : 'about ';
  setText(byId('clip-facts'), [
    duration && seconds(duration), isZip && opened.count && countOf(opened.count, 'picture'),
    width && `${width} × ${height}`,
    fps && `${exact}${rate(fps)} frames per second`, bytes(file.size),
  ].filter(Boolean).join(', '));
  const last = Math.floor(opened.latestStart * 100) / 100;
  byId('start-slider').max = String(last);
  byId('start-slider').disabled = !(last > 0);
  refresh();
}

function chooseUrl(url) {
  choiceNumber += 1;
  clip?.close();
  clip = null;
  videoUrl = url;
  resetSampling();
  clearStrip('The frames cannot be shown before the server has the video. The options below still apply; '
    + 'the subject can be chosen afterwards.');
  byId('start-slider').disabled = true;
  show(url.replace(/^https?:\/\//, '').replace(/[?#].*$/, ''), 'The server downloads it after you send it');
  refresh();
}

async function chooseExample() {
  const button = byId('example');
  button.disabled = true;
  showProblem('clip-problem', null);
  try {
    const response = await fetch(address(EXAMPLE));
    if (!response.ok) throw new Error(String(response.status));
    await choose(new File([await response.blob()], 'dancing_sprout.mp4', { type: 'video/mp4' }));
  } catch {
    showProblem('clip-problem', new Problem(0, '', 'The example clip could not be loaded.'));
  } finally {
    button.disabled = false;
  }
}

function show(name, facts) {
  setText(byId('clip-name'), name);
  setText(byId('clip-facts'), facts);
  byId('choose-clip').hidden = true;
  byId('clip-form').hidden = false;
  byId('upload').hidden = true;
  byId('submit').hidden = byId('expected-wait').hidden = false;
  showProblem('submit-problem', null);
  byId('clip-name').focus({ preventScroll: true });
  scrollTo(0, 0);
  onClipChosen();
}

/** Show `text` in place of the frames. */
function clearStrip(text) {
  clearSubjectField();
  fill(byId('strip'));
  fill(byId('form-warnings'));
  byId('used-range').hidden = true;
  setText(byId('strip-text'), text);
}

/** Redraw everything that depends on the clip and the fields. */
function refresh() {
  if (clip ? !clip.isOpen : !videoUrl) return;
  const planOf = (maxFrames) => clip?.plan({ ...samplingFields(), maxFrames }) ?? null;
  showLengths(info?.options.max_frames.maximum, planOf);
  const planned = planOf(chosenFrames());
  showSubjectField(clip, planned);
  if (clip) showStrip(clip, planned);
  const warnings = clip ? warningsOn(planned) : [];
  fill(byId('form-warnings'), ...warnings.map(({ text }) => el('li', {}, text)));
  byId('submit').disabled = warnings.some((warning) => warning.stops);
  if (info) showTimes(info, planned?.used?.length ?? chosenFrames());
}

function samplingFields() {
  const fps = parseFloat(byId('fps').value);
  return {
    start: parseFloat(byId('start').value) || 0,
    fps: fps > 0 ? fps : null,
    frameStep: info?.limits.frame_step ?? 1,
  };
}

/** Warnings about this clip; `stops` means that the server would refuse it. */
function warningsOn(planned) {
  const warnings = [];
  const limit = info?.limits.max_upload_bytes;
  if (limit && clip.file.size > limit) {
    warnings.push({ stops: true, text: `This file has ${bytes(clip.file.size)}; the server accepts `
      + `${limitOf(info)}. Cut it or compress it more: two seconds are enough.` });
  }
  if (planned?.tooShort !== undefined) {
    const advice = planned.atFps ? 'Leave the frame rate empty or set a higher one.'
      : samplingFields().start > 0 ? 'Start earlier.' : clip.isZip ? 'Put more pictures into the zip.' : 'Send a longer clip.';
    // without exact times the server may count differently, so it decides
    warnings.push({ stops: clip.timesAreExact, text: `From here the clip gives ${planned.tooShort} `
      + `frames; ${MIN_FRAMES} are needed. ${advice}` });
  }
  if (planned?.unused > 0) {
    warnings.push({ text: `The last ${planned.unused} frames are not used. Move the start; for more of them, `
      + 'choose another length or fewer frames per second.' });
  }
  return warnings;
}

async function submit(onSent) {
  sending = new AbortController();
  showProblem('submit-problem', null);
  showSending(true);
  const sent = clip;
  try {
    const id = sent ? await sendFile(sent) : await sendUrl();
    saveJob(id, { name: byId('clip-name').textContent, mode: chosenMode(), status: 'queued' });
    clip = videoUrl = null;
    startOver();
    onSent(id, sent);
  } catch (error) {
    if (error instanceof Problem) showProblem('submit-problem', error);
    else if (error.name !== 'AbortError') throw error;
  } finally {
    sending = null;
    showSending(false);
  }
}

async function sendFile(sent) {
  const bar = byId('upload-bar');
  const fields = [...Object.entries({ ...optionFields(), ...subjectFields() }), ['file', sent.file]];
  return upload(fields, {
    signal: sending.signal,
    onProgress: (done, total) => {
      bar.value = total ? done / total : 0;
      setText(byId('upload-text'), done < total ? `${bytes(done)} of ${bytes(total)} sent`
        : 'Sent. The server is checking the clip.');
    },
  });
}

async function sendUrl() {
  const json = { video_url: videoUrl, ...optionFields() };
  return (await ask('jobs', { method: 'POST', json, signal: sending.signal })).job_id;
}

function showSending(isSending) {
  byId('submit').hidden = byId('expected-wait').hidden = isSending;
  byId('upload').hidden = !isSending;
  byId('upload-bar').value = 0;
  setText(byId('upload-text'), isSending ? 'Sending' : '');
}

function showProblem(id, problem) {
  const note = byId(id);
  note.hidden = problem === null;
  if (problem) fill(note, el('strong', {}, problem.message), problem.hint ? ` ${problem.hint}` : '');
}
