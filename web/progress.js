// The progress of a queued or running job: position in the queue, percent, stages with their times,
// time left. Called by job.js for every state of the job.

import { byId, el, fill, setText } from './dom.js';
import { capitalised, jobsBefore, ordinal, remaining, seconds } from './format.js';

const STAGES = {
  fetching: 'Downloading the video',
  extracting: 'Reading frames',
  loading: 'Loading the model',
  background: 'Finding the subject',
  shape: 'Building the anchor mesh',
  motion: 'Tracking the motion',
  decoding: 'Decoding the meshes',
  exporting: 'Writing files',
  rendering: 'Rendering the preview',
};
const ORDER = Object.keys(STAGES);
const ALWAYS = ORDER.filter((stage) => stage !== 'fetching' && stage !== 'loading');

let timer = null;
let observed = new Map(); // stage -> when this page saw it begin and end
let attempt = 0;
let etaEnds = null;
let lastAnnounced = '';

/** Forget the previous job. */
export function clearProgress() {
  clearInterval(timer);
  timer = null;
  observed = new Map();
  attempt = 0;
  etaEnds = null;
  byId('progress-panel').hidden = true;
  fill(byId('progress-panel'));
}

/** Show a queued or running job; `cancel` is called by its button, unless the job is stopping. */
export function showProgress(job, { isStopping, cancel }) {
  const panel = byId('progress-panel');
  if (!panel.firstChild) build(panel, cancel);
  panel.hidden = false;
  const { progress } = job;
  if ((job.attempt ?? 0) !== attempt) {
    attempt = job.attempt ?? 0;
    observed = new Map();
  }
  recordStage(progress?.stage);
  const eta = progress?.eta_seconds ?? job.eta_seconds ?? null;
  etaEnds = eta === null ? null : performance.now() + eta * 1000;
  const percent = job.status === 'queued' ? null : (progress?.percent ?? 0);
  setText(byId('progress-value'), percent === null ? positionText(job) : String(Math.floor(percent)));
  byId('progress-value').classList.toggle('is-percent', percent !== null);
  const bar = byId('progress-bar');
  if (percent === null) bar.removeAttribute('value');
  else bar.value = percent / 100;
  setText(byId('progress-line'), progressText(job));
  showStopping(isStopping);
  showStages(job);
  announce(job);
  timer ??= setInterval(tick, 1000);
  tick();
}

/** Show the cancel button as not yet pressed, or as pressed. */
export function showStopping(isStopping) {
  byId('cancel').disabled = isStopping;
  setText(byId('cancel'), isStopping ? 'Stopping at the next step' : 'Cancel');
}

/** A list of an ended job's stages with the server's times; null if there are none. */
export function stageTimes(timings = {}) {
  const rows = ORDER.filter((stage) => timings[stage] > 0);
  if (!rows.length) return null;
  return el('ol', { class: 'stages' }, ...rows.map((stage) => el('li', { 'data-state': 'done' },
    el('span', {}, STAGES[stage]), el('span', { class: 'stage-time' }, seconds(timings[stage])))));
}

function build(panel, cancel) {
  fill(panel,
    el('p', { id: 'progress-value', class: 'progress-value' }),
    el('progress', { id: 'progress-bar', max: 1, 'aria-label': 'Progress' }),
    el('p', { class: 'progress-line' }, el('span', { id: 'progress-line' }), el('span', { id: 'progress-eta', class: 'secondary' })),
    el('ol', { id: 'progress-stages', class: 'stages' }),
    el('button', { id: 'cancel', type: 'button', class: 'link', onclick: cancel }, 'Cancel'));
}

function positionText(job) {
  const position = job.queue_position;
  if (job.progress?.stage === 'fetching') return 'Downloading';
  if (position === null || position === undefined) return 'Waiting';
  return position === 0 ? 'Next' : ordinal(position + 1);
}

function progressText(job) {
  if (job.status === 'queued') {
    if (job.progress?.stage === 'fetching') return 'The server is downloading the video';
    return jobsBefore(job.queue_position) || 'It starts when the running job has ended';
  }
  const { stage, message } = job.progress ?? {};
  if (job.attempt > 1) return `${STAGES[stage] ?? stage} (attempt ${job.attempt})`;
  return message ? capitalised(message) : (STAGES[stage] ?? '');
}

function showStages(job) {
  const stages = ORDER.filter((stage) => ALWAYS.includes(stage) || observed.has(stage));
  const now = job.status === 'running' ? stages.indexOf(job.progress?.stage) : -1;
  const list = byId('progress-stages');
  if (list.children.length !== stages.length) {
    fill(list, ...stages.map((stage) => el('li', { 'data-stage': stage },
      el('span', {}, STAGES[stage]), el('span', { class: 'stage-time' }))));
  }
  for (const [position, stage] of stages.entries()) {
    const row = list.children[position];
    row.dataset.state = position < now ? 'done' : position === now ? 'now' : 'later';
    if (position === now) row.setAttribute('aria-current', 'step');
    else row.removeAttribute('aria-current');
    if (position < now) setText(row.lastChild, stageTime(stage));
    else if (position > now) setText(row.lastChild, '');
    else setText(row.lastChild, stepOf(job.progress));
  }
}

function stepOf({ step, steps }) {
  return steps > 1 ? `${step} / ${steps}` : '';
}

/** Remember that a stage has begun, so the one before it has ended. */
function recordStage(stage) {
  if (!stage || observed.has(stage)) return;
  const now = performance.now();
  for (const times of observed.values()) times.to ??= now;
  observed.set(stage, { from: now, to: null });
}

/** How long a stage took; empty if it had ended before this page was opened. */
function stageTime(stage) {
  const times = observed.get(stage);
  return times?.to ? seconds((times.to - times.from) / 1000) : '';
}

function tick() {
  const left = etaEnds === null ? null : (etaEnds - performance.now()) / 1000;
  setText(byId('progress-eta'), left === null ? '' : remaining(Math.max(0, left)));
}

/** For screen readers: each new stage and each quarter of the progress. */
function announce(job) {
  const quarter = Math.floor((job.progress?.percent ?? 0) / 25) * 25;
  const text = job.status === 'queued' ? progressText(job)
    : `${STAGES[job.progress?.stage] ?? 'Running'}, ${quarter}% done`;
  if (text === lastAnnounced) return;
  lastAnnounced = text;
  setText(byId('announcer'), text);
}
