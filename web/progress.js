// What a waiting or running job shows: its place, percent, stages with their times, what is left.

import { byId, el, fill, setText } from './dom.js';
import { ordinal, remaining, seconds } from './format.js';

const STAGES = {
  fetching: 'Fetching the video',
  extracting: 'Reading frames',
  loading: 'Loading the model',
  background: 'Cutting out the subject',
  shape: 'Shaping the anchor mesh',
  motion: 'Following the motion',
  decoding: 'Decoding the meshes',
  exporting: 'Writing files',
  rendering: 'Rendering the preview',
};
const ORDER = Object.keys(STAGES);
const ALWAYS = ORDER.filter((stage) => stage !== 'fetching' && stage !== 'loading');

let timer = null;
let began = new Map(); // stage -> when this page first saw it, for the time it takes
let attempt = 0;
let etaEnds = null;
let lastSaid = '';

/** Forget the job before this one. */
export function clearProgress() {
  clearInterval(timer);
  timer = null;
  began = new Map();
  attempt = 0;
  etaEnds = null;
  byId('progress-panel').hidden = true;
  fill(byId('progress-panel'));
}

/** Show a queued or running job; `cancel` is called by its button, unless the job is stopping. */
export function showProgress(job, { isStopping, cancel }) {
  const live = byId('progress-panel');
  if (!live.firstChild) build(live, cancel);
  live.hidden = false;
  const { progress } = job;
  if ((job.attempt ?? 0) !== attempt) {
    attempt = job.attempt ?? 0;
    began = new Map();
  }
  note(progress?.stage);
  const eta = progress?.eta_seconds ?? job.eta_seconds ?? null;
  etaEnds = eta === null ? null : performance.now() + eta * 1000;
  const percent = job.status === 'queued' ? null : (progress?.percent ?? 0);
  setText(byId('progress-value'), percent === null ? place(job) : String(Math.floor(percent)));
  byId('progress-value').classList.toggle('is-percent', percent !== null);
  const bar = byId('progress-bar');
  if (percent === null) bar.removeAttribute('value');
  else bar.value = percent / 100;
  setText(byId('progress-line'), lineOf(job));
  showStopping(isStopping);
  showStages(job);
  announce(job);
  timer ??= setInterval(tick, 1000);
  tick();
}

/** The cancel button, before and after it was pressed. */
export function showStopping(isStopping) {
  byId('cancel').disabled = isStopping;
  setText(byId('cancel'), isStopping ? 'Stopping at the next step' : 'Cancel');
}

/** The stages of an ended job with the server's own times; null if it tells none. */
export function stageTimes(timings = {}) {
  const rows = ORDER.filter((stage) => timings[stage] > 0);
  if (!rows.length) return null;
  return el('ol', { class: 'stages' }, ...rows.map((stage) => el('li', { 'data-state': 'done' },
    el('span', {}, STAGES[stage]), el('span', { class: 'stage-time' }, seconds(timings[stage])))));
}

function build(live, cancel) {
  fill(live,
    el('p', { id: 'progress-value', class: 'progress-value' }),
    el('progress', { id: 'progress-bar', max: 1, 'aria-label': 'Progress' }),
    el('p', { class: 'progress-line' }, el('span', { id: 'progress-line' }), el('span', { id: 'progress-eta', class: 'secondary' })),
    el('ol', { id: 'progress-stages', class: 'stages' }),
    el('button', { id: 'cancel', type: 'button', class: 'link', onclick: cancel }, 'Cancel'));
}

function place(job) {
  const position = job.queue_position;
  if (job.progress?.stage === 'fetching') return 'Fetching';
  if (position === null || position === undefined) return 'Waiting';
  return position === 0 ? 'Next' : ordinal(position + 1);
}

function lineOf(job) {
  if (job.status === 'queued') {
    if (job.progress?.stage === 'fetching') return 'The server fetches the video';
    const ahead = job.queue_position ?? 0;
    return ahead ? `${ahead} ${ahead === 1 ? 'job waits' : 'jobs wait'} before this one` : 'It starts as soon as the job before it is done';
  }
  const { stage, message } = job.progress ?? {};
  if (job.attempt > 1) return `${STAGES[stage] ?? stage} (attempt ${job.attempt})`;
  return message ? sentence(message) : (STAGES[stage] ?? '');
}

function showStages(job) {
  const stages = ORDER.filter((stage) => ALWAYS.includes(stage) || began.has(stage));
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
    if (position < now) setText(row.lastChild, took(stage));
    else if (position > now) setText(row.lastChild, '');
    else setText(row.lastChild, stepOf(job.progress));
  }
}

function stepOf({ step, steps }) {
  return steps > 1 ? `${step} / ${steps}` : '';
}

/** A stage began; the one before it has ended. */
function note(stage) {
  if (!stage || began.has(stage)) return;
  const now = performance.now();
  for (const times of began.values()) times.to ??= now;
  began.set(stage, { from: now, to: null });
}

/** How long a stage took; nothing for one that was over when the page came. */
function took(stage) {
  const times = began.get(stage);
  return times?.to ? seconds((times.to - times.from) / 1000) : '';
}

function tick() {
  const left = etaEnds === null ? null : (etaEnds - performance.now()) / 1000;
  setText(byId('progress-eta'), left === null ? '' : remaining(Math.max(0, left)));
}

/** For those who listen: a new stage, and each quarter of the way. */
function announce(job) {
  const quarter = Math.floor((job.progress?.percent ?? 0) / 25) * 25;
  const text = job.status === 'queued' ? lineOf(job)
    : `${STAGES[job.progress?.stage] ?? 'Running'}, ${quarter}% done`;
  if (text === lastSaid) return;
  lastSaid = text;
  setText(byId('announcer'), text);
}

function sentence(text) {
  return text[0].toUpperCase() + text.slice(1);
}
