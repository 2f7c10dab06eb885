// Follows one job until it is over. Server-sent events where they work, long polls where they do
// not; a request that fails is only ever a pause: the job is the server's, and it keeps it.

import { Problem, address, ask } from './api.js';

const OVER = ['finished', 'error', 'cancelled'];
const SILENCE_S = 40;
const LONGEST_PAUSE_S = 5;

/**
 * `onJob(job)` gets every state, `onSilence(isSilent)` whether the server is out of reach,
 * `onGone(problem)` comes once if there is no such job. Gives a function that ends it.
 */
export function watchJob(id, { onJob, onSilence, onGone }) {
  const ended = new AbortController();
  const { signal } = ended;
  follow(id, { onJob, onSilence, signal }).catch((error) => {
    if (signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
    onGone(error);
  });
  return () => ended.abort();
}

async function follow(id, { onJob, onSilence, signal }) {
  let failures = 0;
  while (!signal.aborted) {
    try {
      // after an event stream broke, one held request bridges proxies that do not let it through
      const wait = failures === 0 && wasStreamed(id) === false ? 25 : 0;
      const job = await ask(`jobs/${id}${wait ? `?wait=${wait}` : ''}`, { signal, timeout: 60 });
      if (signal.aborted) return;
      failures = 0;
      onSilence(false);
      onJob(job);
      if (OVER.includes(job.status)) return;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Problem) || !error.isPassing) throw error;
      failures += 1;
      onSilence(true);
      await pause(Math.min(LONGEST_PAUSE_S, 0.5 * failures), signal);
      continue;
    }
    if (await stream(id, onJob, signal)) return;
    await pause(0.5, signal);
  }
}

const streams = new Map();

/** False if the last stream of this job ended without a single event; undefined before any. */
function wasStreamed(id) {
  return streams.get(id);
}

/** Resolves to true when the job is over, to false when the stream breaks or falls silent. */
function stream(id, onJob, signal) {
  return new Promise((resolve) => {
    const events = new EventSource(address(`jobs/${id}/events`));
    let timer;
    const end = (isOver) => {
      clearTimeout(timer);
      events.close();
      resolve(isOver);
    };
    const listen = () => {
      clearTimeout(timer);
      timer = setTimeout(end, SILENCE_S * 1000, false);
    };
    const take = (event) => {
      listen();
      streams.set(id, true);
      const job = JSON.parse(event.data);
      onJob(job);
      if (OVER.includes(job.status)) end(true);
    };
    streams.set(id, false);
    for (const kind of ['message', 'progress', 'done']) events.addEventListener(kind, take);
    events.addEventListener('error', () => end(false));
    signal.addEventListener('abort', () => end(true), { once: true });
    // a laptop that slept comes back with a stream that is dead and does not know it
    window.addEventListener('online', () => end(false), { once: true, signal });
    listen();
  });
}

function pause(seconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
