// The jobs that were sent from this browser: kept in localStorage, listed under the drop area. The
// server is asked about those that were not over yet; what it does not answer is kept.

import { ENDED, Problem, ask } from './api.js';
import { byId, el, fill } from './dom.js';
import { ago } from './format.js';

const PLACE = 'actionmesh.jobs';
const MOST = 24;
const WORDS = {
  queued: 'waiting', running: 'running', finished: 'finished', error: 'failed',
  cancelled: 'cancelled', gone: 'expired',
};

/** Keep a job, or what is new about it; the latest comes first. */
export function saveJob(id, facts) {
  const known = all();
  const old = known.find((entry) => entry.id === id);
  if (old) Object.assign(old, facts);
  else if (facts.status === 'gone') return; // never ours: a mistyped address
  else known.unshift({ id, at: new Date().toISOString(), ...facts });
  write(known);
}

/** What a GET of the job told. */
export function saveJobState(job) {
  saveJob(job.job_id, {
    name: job.input?.filename ?? job.options?.video_url ?? 'video',
    at: job.created_at,
    status: job.status,
    mode: job.mode,
    poster: job.outputs?.poster ?? null,
  });
}

export function removeJob(id) {
  write(all().filter((entry) => entry.id !== id));
}

/** Draw the list, and ask the server about the jobs that were under way. */
export async function showHistory() {
  draw();
  const open = all().filter((entry) => !ENDED.includes(entry.status) && entry.status !== 'gone');
  for (const entry of open) {
    try {
      saveJobState(await ask(`jobs/${entry.id}`));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      if (error.status === 404 || error.status === 410) saveJob(entry.id, { status: 'gone' });
    }
  }
  if (open.length) draw();
}

function draw() {
  const entries = all();
  byId('history').hidden = entries.length === 0;
  fill(byId('history-list'), ...entries.map(row));
}

function row(entry) {
  const name = entry.name || 'video';
  const picture = entry.poster && entry.status === 'finished'
    ? el('img', { src: entry.poster, alt: '', loading: 'lazy', width: 56, height: 56,
      onerror: (event) => event.target.remove() })
    : null;
  const remove = () => {
    removeJob(entry.id);
    draw();
  };
  return el('li', {},
    el('a', { href: `#job=${entry.id}`, class: 'history-link' },
      el('span', { class: 'history-picture' }, picture),
      el('span', { class: 'history-name' }, name),
      el('span', { class: 'history-status', 'data-status': entry.status ?? '' },
        WORDS[entry.status] ?? ''),
      el('time', { dateTime: entry.at, class: 'secondary' }, ago(entry.at))),
    el('button', { type: 'button', class: 'remove', title: 'Remove from this list only',
      'aria-label': `Remove ${name} from this list`, onclick: remove }, '×'));
}

function all() {
  try {
    const kept = JSON.parse(localStorage.getItem(PLACE) ?? '[]');
    return Array.isArray(kept) ? kept.filter((entry) => typeof entry?.id === 'string') : [];
  } catch {
    return [];
  }
}

function write(entries) {
  try {
    localStorage.setItem(PLACE, JSON.stringify(entries.slice(0, MOST)));
  } catch {
    // private windows may refuse: the address still holds the job
  }
}
