// The list of jobs sent from this browser, stored in localStorage and shown under the drop area. Asks the
// server about the jobs that had not ended; without an answer an entry stays as it is.

import { ENDED, Problem, ask } from './api.js';
import { byId, el, fill } from './dom.js';
import { ago } from './format.js';

const STORAGE_KEY = 'actionmesh.jobs';
const MAX_ENTRIES = 24;
const STATUS_TEXT = {
  queued: 'waiting', running: 'running', finished: 'finished', error: 'failed',
  cancelled: 'cancelled', gone: 'expired',
};

/** Add or change the entry of a job; the latest comes first. */
export function saveJob(id, changes) {
  const entries = all();
  const old = entries.find((entry) => entry.id === id);
  if (old) Object.assign(old, changes);
  else if (changes.status === 'gone') return; // not sent from here: a mistyped address
  else entries.unshift({ id, at: new Date().toISOString(), ...changes });
  write(entries);
}

/** Save a job as the server returned it. */
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

/** Show the list, then ask the server about the jobs that had not ended. */
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
        STATUS_TEXT[entry.status] ?? ''),
      el('time', { dateTime: entry.at, class: 'secondary' }, ago(entry.at))),
    el('button', { type: 'button', class: 'remove', title: 'Remove from this list only',
      'aria-label': `Remove ${name} from this list`, onclick: remove }, '×'));
}

function all() {
  try {
    const stored = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? '[]');
    return Array.isArray(stored) ? stored.filter((entry) => typeof entry?.id === 'string') : [];
  } catch {
    return [];
  }
}

function write(entries) {
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify(entries.slice(0, MAX_ENTRIES)));
  } catch {
    // a private window may refuse; the address still contains the job's id
  }
}
