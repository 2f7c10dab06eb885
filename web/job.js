// The page of one job: follows it and shows progress, result or error. Opened and closed by app.js;
// viewer.js, progress.js, downloads.js and warnings.js fill its parts.

import { ENDED, Problem, address, ask } from './api.js';
import { byId, el, fill, setText } from './dom.js';
import { countOf, rate } from './format.js';
import { removeJob, saveJob, saveJobState } from './history.js';
import { usesSeed } from './job_options.js';
import { watchJob } from './job_updates.js';
import { clearProgress, showProgress, showStopping, stageTimes } from './progress.js';
import { canChooseSubject, openSubjectDialog } from './subject_dialog.js';
import { cancelMeshLoad, clearViewer, compareFrame, showAnchorMesh, showAnimation, showFound, showPlaceholder } from './viewer.js';
import { areAboutSubject, showWarnings } from './warnings.js';

const APP = 'ActionMesh';
const FOUND = 'subject.webp';

let stopWatching = () => {};
let current = null;
let sentClip = null; // the file of the job, if this page has just sent it
let onRetry = () => {};
let isStopping = false; // cancel was pressed: the job's anchor mesh may be deleted any moment

/**
 * Show the job with this id; `clip` is the file, if this page has just sent it. `onRetried(id)` is called
 * before a retry is shown.
 */
export function openJob(id, clip, onRetried) {
  closeJob();
  onRetry = onRetried;
  current = id;
  sentClip = clip;
  isStopping = false;
  setText(byId('job-name'), clip?.file.name ?? 'Job');
  setText(byId('job-facts'), '');
  for (const part of ['outcome', 'results', 'score', 'tried', 'choose-subject', 'job-actions', 'job-problem', 'unreachable']) byId(part).hidden = true;
  byId('job').dataset.status = '';
  showPlaceholder('A first mesh appears here before the motion is ready', clip);
  stopWatching = watchJob(id, {
    onJob: show,
    onUnreachable: (isUnreachable) => {
      byId('unreachable').hidden = !isUnreachable;
    },
    onMissing: (problem) => showMissing(id, problem),
  });
}

/** Stop showing the job; the server continues it. */
export function closeJob() {
  stopWatching();
  stopWatching = () => {};
  current = sentClip = null;
  byId('subject-dialog').close();
  document.title = APP;
  clearProgress();
  clearViewer();
}

function show(job) {
  if (job.job_id !== current) return;
  saveJobState(job);
  byId('job').dataset.status = job.status;
  const name = job.input?.filename ?? job.options?.video_url ?? 'Job';
  setText(byId('job-name'), name);
  setText(byId('job-facts'), summaryOf(job));
  document.title = titleOf(job, name);
  if (job.score || job.options?.tries > 1) showFit(job);
  if (!ENDED.includes(job.status)) {
    isStopping ||= job.cancel_requested === true;
    showProgress(job, { isStopping, cancel: () => cancel(job.job_id) });
    if (job.ready?.includes(FOUND) && !isStopping) {
      showFound(address(`outputs/${job.job_id}/${FOUND}`), job.input.width / job.input.height);
    }
    if (job.preview_mesh && !isStopping) showAnchorMesh(job.preview_mesh);
    return;
  }
  clearProgress();
  byId('job-actions').hidden = false;
  setUpJobActions(job);
  if (job.status === 'finished') showFinished(job);
  else showFailedOrCancelled(job);
}

function showFinished(job) {
  setText(byId('announcer'), 'Finished. The mesh is shown.');
  byId('results').hidden = false;
  showFiles(job);
  const choose = byId('choose-subject');
  choose.hidden = !canChooseSubject(job, sentClip);
  choose.onclick = () => chooseSubject(job);
  const { outputs, mesh } = job;
  if (!outputs.animated_mesh) {
    showPlaceholder('This job has no animated file; its frames are below.');
    return;
  }
  showAnimation({
    mesh: outputs.animated_mesh, video: outputs.source_video, poster: outputs.poster,
    preview: outputs.preview_video, frames: mesh.timesteps, fps: mesh.fps,
  });
}

/** The files, and the warnings that are not about one of them. */
async function showFiles(job) {
  const { showDownloads } = await import('./downloads.js');
  if (job.job_id === current) showWarnings(byId('warnings'), showDownloads(job), compareFrame);
}

/** How well the mesh fits the video, and the shapes that were tried. */
async function showFit(job) {
  const { showScore, showTries } = await import('./score.js');
  if (job.job_id !== current) return;
  if (job.score) showScore(job, compareFrame);
  showTries(job);
}

/** What happened, and buttons to try again. */
function showFailedOrCancelled(job) {
  const failed = job.status === 'error';
  clearViewer();
  const outcome = byId('outcome');
  outcome.hidden = false;
  fill(outcome,
    el('h2', {}, failed ? 'The job failed' : 'Cancelled'),
    failed ? el('p', { class: 'outcome-error' }, job.error || 'The job failed.') : null,
    failed && job.error_hint ? el('p', { class: 'secondary' }, job.error_hint) : null,
    warningList(job),
    el('p', { class: 'outcome-buttons' }, ...outcomeButtons(job)),
    failed ? el('p', { class: 'secondary' }, el('code', {}, job.error_code)) : null,
    stageTimes(job.timings));
  setText(byId('announcer'), failed ? `The job failed. ${job.error}` : 'The job was cancelled.');
  fill(byId('curl'), '');
  byId('curl').parentElement.hidden = true;
  setText(byId('expiry'), '');
}

/** The warnings of a failed job, and how to choose a subject if that may help and cannot be done here. */
function warningList(job) {
  const list = el('ul', { class: 'warnings' });
  showWarnings(list, job.warnings);
  if (isAboutSubject(job) && !canChooseSubject(job, sentClip)) {
    list.append(el('li', {}, 'This browser does not have the video of this job. Send it again to choose the subject in it.'));
  }
  return list;
}

function isAboutSubject(job) {
  return job.error_code === 'no_subject_found' || areAboutSubject(job.warnings);
}

/** The most useful button first: another clip or subject, if the clip is the cause. */
function outcomeButtons(job) {
  const buttons = retryChoices(job).map(([text, changes]) => el('button', {
    type: 'button', class: 'link', onclick: ({ target }) => retry(job, changes, target),
  }, text));
  if (job.status === 'error' && !job.retryable) buttons.unshift(el('a', { href: '#' }, 'Send another clip'));
  if (canChooseSubject(job, sentClip) && (isAboutSubject(job) || job.status === 'cancelled')) {
    const choose = el('button', { type: 'button', class: 'link', onclick: () => chooseSubject(job) }, 'Choose the subject');
    buttons.splice(isAboutSubject(job) ? 0 : 1, 0, choose);
  }
  buttons[0].className = 'primary';
  return buttons;
}

/** Pairs of button text and changed options. */
function retryChoices(job) {
  const { mode, options, input, error_code: code } = job;
  const choices = [];
  const hinted = /mode=(\w+)/.exec(job.error_hint ?? '')?.[1];
  if (hinted && hinted !== mode) choices.push([`Retry in ${hinted}`, { mode: hinted }]);
  if (/max_frames=16/.test(job.error_hint ?? '') && options.max_frames !== 16) {
    choices.push(['Retry with 16 frames', { max_frames: 16 }]);
  }
  if (job.retryable || job.status === 'cancelled') choices.push(['Retry', {}]);
  const length = (input?.source_frames ?? 0) / (input?.source_fps || Infinity);
  if (code === 'no_subject_found' && length > options.start + 3) {
    choices.push(['Retry one second later', { start: options.start + 1 }]);
  }
  if (usesSeed(job.pipeline)) choices.push(['Retry with another seed', { seed: otherSeed(options.seed) }]);
  if (mode !== 'fast' && hinted !== 'fast') choices.push(['Retry in fast', { mode: 'fast' }]);
  return choices;
}

function chooseSubject(job) {
  openSubjectDialog(job, sentClip, (fields) => sendRetry(job, fields));
}

/** Make a new job of this one's input and show it. Throws a Problem. */
async function sendRetry(job, changes) {
  const { job_id: id } = await ask(`jobs/${job.job_id}/retry`, { method: 'POST', json: changes });
  saveJob(id, { name: byId('job-name').textContent, status: 'queued' });
  onRetry(id);
  location.hash = `job=${id}`;
}

async function retry(job, changes, button) {
  button.disabled = true;
  try {
    await sendRetry(job, changes);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    button.disabled = false;
    const note = byId('job-problem');
    note.hidden = false;
    setText(note, `${error.message} ${error.hint}`);
  }
}

async function cancel(id) {
  isStopping = true;
  showStopping(true);
  cancelMeshLoad();
  try {
    await ask(`jobs/${id}/cancel`, { method: 'POST' });
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    isStopping = false; // ended already, or not reachable: the next state of the job will show
    if (!byId('progress-panel').hidden) showStopping(false);
  }
}

function setUpJobActions(job) {
  byId('curl').parentElement.hidden = false;
  const rerun = byId('rerun');
  rerun.hidden = job.status !== 'finished' || !usesSeed(job.pipeline);
  rerun.disabled = false;
  rerun.onclick = () => retry(job, { seed: otherSeed(job.options.seed) }, rerun);
  const remove = byId('delete');
  setText(remove, 'Delete this job');
  remove.disabled = false;
  let isConfirmed = false;
  remove.onclick = async () => {
    if (!isConfirmed) {
      isConfirmed = true;
      setText(remove, 'Delete it with all its files? Click again.');
      return;
    }
    remove.disabled = true;
    try {
      await ask(`jobs/${job.job_id}`, { method: 'DELETE' });
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status !== 404) {
        remove.disabled = false;
        setText(remove, `${error.message} Try again?`);
        return;
      }
    }
    removeJob(job.job_id);
    location.hash = '';
  };
}

function showMissing(id, problem) {
  clearProgress();
  clearViewer();
  if (problem.status === 404 || problem.status === 410) saveJob(id, { status: 'gone' });
  const outcome = byId('outcome');
  outcome.hidden = false;
  fill(outcome, el('h2', {}, problem.status === 410 ? 'This job has expired' : 'There is no such job'),
    el('p', {}, problem.message), problem.hint ? el('p', { class: 'secondary' }, problem.hint) : null,
    el('p', { class: 'outcome-buttons' }, el('a', { href: '#', class: 'primary' }, 'New mesh')));
}

function summaryOf(job) {
  const { input } = job;
  if (!input?.used_frames) return job.mode;
  return `${countOf(input.used_frames, 'frame')} at ${rate(input.fps)} per second, ${job.mode}`;
}

function titleOf(job, name) {
  const state = {
    queued: 'Waiting', running: `${Math.floor(job.progress?.percent ?? 0)}%`, finished: 'Done',
    error: 'Failed', cancelled: 'Cancelled',
  }[job.status];
  return `${state} · ${name} · ${APP}`;
}

function otherSeed(seed) {
  let other = seed;
  while (other === seed) other = Math.floor(Math.random() * 1000);
  return other;
}
