// Follows one job until it is over. Server-sent events where they work, polling where they do not;
// a request that fails is only ever a pause: the job is the server's, and it keeps it.

import { ENDED, Problem, address, ask } from './api.js';
import { pause } from './sleep.js';

const STREAM_TIMEOUT_S = 40;
const MAX_RETRY_DELAY_S = 5;
const POLL_EVERY_S = 1;
const POLLS_BETWEEN_STREAMS = 15;

/**
 * `onJob(job)` gets every state, `onUnreachable(isUnreachable)` whether the server is out of reach,
 * `onMissing(problem)` comes once if there is no such job. Gives a function that ends it.
 */
export function watchJob(id, { onJob, onUnreachable, onMissing }) {
  const ended = new AbortController();
  const { signal } = ended;
  follow(id, { onJob, onUnreachable, signal }).catch((error) => {
    if (signal.aborted) return;
    if (!(error instanceof Problem)) throw error;
    onMissing(error);
  });
  return () => ended.abort();
}

async function follow(id, { onJob, onUnreachable, signal }) {
  let failures = 0;
  let polls = 0; // so many times to ask before a stream is tried again
  while (!signal.aborted) {
    try {
      const job = await ask(`jobs/${id}`, { signal });
      if (signal.aborted) return;
      failures = 0;
      onUnreachable(false);
      onJob(job);
      if (ENDED.includes(job.status)) return;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Problem) || !error.isTemporary) throw error;
      failures += 1;
      onUnreachable(true);
      await pause(Math.min(MAX_RETRY_DELAY_S, 0.5 * failures), signal);
      continue;
    }
    if (polls === 0) {
      const { isOver, events } = await stream(id, onJob, signal);
      if (isOver) return;
      // a proxy that lets no events through: ask, and try the stream now and then
      polls = events === 0 ? POLLS_BETWEEN_STREAMS : 0;
    } else {
      polls -= 1;
    }
    await pause(polls ? POLL_EVERY_S : 0.3, signal);
  }
}

/** Resolves when the job is over or the stream breaks or falls silent; counts its events. */
function stream(id, onJob, signal) {
  return new Promise((resolve) => {
    const events = new EventSource(address(`jobs/${id}/events`));
    let timer;
    let seen = 0;
    const end = (isOver) => {
      clearTimeout(timer);
      events.close();
      signal.removeEventListener('abort', abort);
      window.removeEventListener('online', wakeUp);
      resolve({ isOver, events: seen });
    };
    const abort = () => end(true);
    const wakeUp = () => end(false);
    const listen = () => {
      clearTimeout(timer);
      timer = setTimeout(end, STREAM_TIMEOUT_S * 1000, false);
    };
    const take = (event) => {
      listen();
      seen += 1;
      const job = JSON.parse(event.data);
      onJob(job);
      if (ENDED.includes(job.status)) end(true);
    };
    for (const kind of ['progress', 'done']) events.addEventListener(kind, take);
    events.addEventListener('error', () => end(false));
    signal.addEventListener('abort', abort);
    // a laptop that slept comes back with a stream that is dead and does not know it
    window.addEventListener('online', wakeUp);
    listen();
  });
}
