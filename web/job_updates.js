// Follows one job until it has ended: by server-sent events, or by polling where these do not work.
// After a failed request it waits and tries again. Used by job.js.

import { ENDED, Problem, address, ask } from './api.js';
import { sleep } from './sleep.js';

const STREAM_TIMEOUT_S = 40;
const MAX_RETRY_DELAY_S = 5;
const POLL_EVERY_S = 1;
const POLLS_BETWEEN_STREAMS = 15;

/**
 * Calls `onJob(job)` for every state, `onUnreachable(isUnreachable)` after every request, and
 * `onMissing(problem)` once if there is no such job. Returns a function that stops it.
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
  let polls = 0; // how many polls are left before the stream is tried again
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
      await sleep(Math.min(MAX_RETRY_DELAY_S, 0.5 * failures), signal);
      continue;
    }
    if (polls === 0) {
      const { hasEnded, events } = await stream(id, onJob, signal);
      if (hasEnded) return;
      // no event came, for example because of a proxy: poll, and try the stream again later
      polls = events === 0 ? POLLS_BETWEEN_STREAMS : 0;
    } else {
      polls -= 1;
    }
    await sleep(polls ? POLL_EVERY_S : 0.3, signal);
  }
}

/** Resolves when the job has ended, or the stream ended or is silent; counts its events. */
function stream(id, onJob, signal) {
  return new Promise((resolve) => {
    const events = new EventSource(address(`jobs/${id}/events`));
    let timer;
    let count = 0;
    const end = (hasEnded) => {
      clearTimeout(timer);
      events.close();
      signal.removeEventListener('abort', abort);
      window.removeEventListener('online', onOnline);
      resolve({ hasEnded, events: count });
    };
    const abort = () => end(true);
    const onOnline = () => end(false);
    const restartTimer = () => {
      clearTimeout(timer);
      timer = setTimeout(end, STREAM_TIMEOUT_S * 1000, false);
    };
    const onEvent = (event) => {
      restartTimer();
      count += 1;
      const job = JSON.parse(event.data);
      onJob(job);
      if (ENDED.includes(job.status)) end(true);
    };
    for (const kind of ['progress', 'done']) events.addEventListener(kind, onEvent);
    events.addEventListener('error', () => end(false));
    signal.addEventListener('abort', abort);
    // after a laptop was asleep, the stream may be dead without an error
    window.addEventListener('online', onOnline);
    restartTimer();
  });
}
