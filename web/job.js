// One job on the page: follows it, and shows what its status calls for.

import { ENDED, Problem, ask } from './api.js';
import { byId, el, fill, setText } from './dom.js';
import { showDownloads } from './downloads.js';
import { countOf, rate } from './format.js';
import { removeJob, saveJob, saveJobState } from './history.js';
import { clearProgress, showProgress, showStopping, stageTimes } from './progress.js';
import { showPlaceholder, clearViewer, cancelMeshLoad, showAnchorMesh, showAnimation } from './viewer.js';
import { watchJob } from './job_updates.js';

const APP = 'ActionMesh';

let stopWatching = () => {};
let current = null;
let isStopping = false; // cancel was pressed: the job's anchor mesh may be gone any moment

/** Show the job with this id; `clip` is what was sent, where this page has just sent it. */
export function openJob(id, clip = null) {
  closeJob();
  current = id;
  isStopping = false;
  setText(byId('job-name'), clip?.file.name ?? 'Job');
  setText(byId('job-facts'), '');
  for (const part of ['outcome', 'results', 'job-actions', 'job-problem', 'unreachable']) byId(part).hidden = true;
  byId('job').dataset.status = '';
  showPlaceholder('The shape shows here first, long before the motion is done', clip);
  stopWatching = watchJob(id, {
    onJob: show,
    onUnreachable: (isUnreachable) => {
      byId('unreachable').hidden = !isUnreachable;
    },
    onMissing: (problem) => showMissing(id, problem),
  });
}

/** Leave the job; it goes on at the server. */
export function closeJob() {
  stopWatching();
  stopWatching = () => {};
  current = null;
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
  if (!ENDED.includes(job.status)) {
    isStopping ||= job.cancel_requested === true;
    showProgress(job, { isStopping, cancel: () => cancel(job.job_id) });
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
  setText(byId('announcer'), 'Finished. The mesh is being shown.');
  byId('results').hidden = false;
  showDownloads(job);
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

/** Failed or cancelled: what happened, and the way on as buttons. */
function showFailedOrCancelled(job) {
  const failed = job.status === 'error';
  clearViewer();
  const outcome = byId('outcome');
  outcome.hidden = false;
  fill(outcome,
    el('h2', {}, failed ? 'This did not work' : 'Cancelled'),
    failed ? el('p', { class: 'outcome-error' }, job.error || 'The job failed.') : null,
    failed && job.error_hint ? el('p', { class: 'secondary' }, job.error_hint) : null,
    el('p', { class: 'outcome-buttons' }, ...outcomeButtons(job)),
    failed ? el('p', { class: 'secondary' }, el('code', {}, job.error_code)) : null,
    stageTimes(job.timings));
  setText(byId('announcer'), failed ? `The job failed. ${job.error}` : 'The job was cancelled.');
  fill(byId('curl'), '');
  byId('curl').parentElement.hidden = true;
  setText(byId('expiry'), '');
}

/** The most promising way first; for a clip that is at fault, that is another clip. */
function outcomeButtons(job) {
  const buttons = retryChoices(job).map(([words, changes]) => el('button', {
    type: 'button', class: 'link', onclick: ({ target }) => retry(job, changes, target),
  }, words));
  const isClipAtFault = job.status === 'error' && !job.retryable;
  if (isClipAtFault) buttons.unshift(el('a', { href: '#' }, 'Send another clip'));
  buttons[0].className = 'primary';
  return buttons;
}

/** Pairs of words and changed options. */
function retryChoices(job) {
  const { mode, options, input, error_code: code } = job;
  const ways = [];
  const mentioned = /mode=(\w+)/.exec(job.error_hint ?? '')?.[1];
  if (mentioned && mentioned !== mode) ways.push([`Retry in ${mentioned}`, { mode: mentioned }]);
  if (/max_frames=16/.test(job.error_hint ?? '') && options.max_frames !== 16) {
    ways.push(['Retry with 16 frames', { max_frames: 16 }]);
  }
  if (job.retryable || job.status === 'cancelled') ways.push(['Retry', {}]);
  const length = (input?.source_frames ?? 0) / (input?.source_fps || Infinity);
  if (code === 'no_subject_found' && length > options.start + 3) {
    ways.push(['Retry one second later', { start: options.start + 1 }]);
  }
  ways.push(['Retry with another seed', { seed: otherSeed(options.seed) }]);
  if (mode !== 'fast' && mentioned !== 'fast') ways.push(['Retry in fast', { mode: 'fast' }]);
  return ways;
}

async function retry(job, changes, button) {
  button.disabled = true;
  try {
    const { job_id: id } = await ask(`jobs/${job.job_id}/retry`, { method: 'POST', json: changes });
    saveJob(id, { name: byId('job-name').textContent, status: 'queued' });
    location.hash = `job=${id}`;
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
    isStopping = false; // over already, or out of reach: the next state tells
    if (!byId('progress-panel').hidden) showStopping(false);
  }
}

function setUpJobActions(job) {
  byId('curl').parentElement.hidden = false;
  const again = byId('rerun');
  again.hidden = job.status !== 'finished';
  again.disabled = false;
  again.onclick = () => retry(job, { seed: otherSeed(job.options.seed) }, again);
  const remove = byId('delete');
  setText(remove, 'Delete this job');
  remove.disabled = false;
  let asked = false;
  remove.onclick = async () => {
    if (!asked) {
      asked = true;
      setText(remove, 'Really delete it, with all its files?');
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
  const lead = {
    queued: 'Waiting', running: `${Math.floor(job.progress?.percent ?? 0)}%`, finished: 'Done',
    error: 'Failed', cancelled: 'Cancelled',
  }[job.status];
  return `${lead} · ${name} · ${APP}`;
}

function otherSeed(seed) {
  let other = seed;
  while (other === seed) other = Math.floor(Math.random() * 1000);
  return other;
}
