// Sends a video to POST /jobs with a progress that is real. XMLHttpRequest, for fetch tells nothing
// of an upload. The idempotency key makes it safe to send again what may have arrived.

import { Problem, address, keyHeaders, problemFrom, unreachable } from './api.js';
import { pause } from './sleep.js';

const TRIES = 3;
const PAUSE_S = 1.5;

/**
 * `fields` go into the form in order, a File among them. `onProgress(sent, total)` counts bytes.
 * Resolves to the job's id; rejects with a Problem, or an AbortError once `signal` is aborted.
 */
export async function upload(fields, { onProgress, signal }) {
  const idempotencyKey = newKey();
  for (let tried = 1; ; tried += 1) {
    try {
      return (await send(fields, idempotencyKey, onProgress, signal)).job_id;
    } catch (error) {
      const mayPass = error instanceof Problem && error.status === 0;
      if (!mayPass || tried === TRIES || signal.aborted) throw error;
      await pause(PAUSE_S * tried, signal);
      signal.throwIfAborted();
    }
  }
}

function send(fields, idempotencyKey, onProgress, signal) {
  const form = new FormData();
  for (const [name, value] of fields) form.append(name, value);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    request.open('POST', address('jobs'));
    const headers = { ...keyHeaders(), 'Idempotency-Key': idempotencyKey };
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    request.onload = () => {
      if (request.status === 202) resolve(JSON.parse(request.responseText));
      else reject(problemFrom(request.status, request.responseText));
    };
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(new DOMException('cancelled', 'AbortError'));
    request.onloadend = () => signal.removeEventListener('abort', abort);
    signal.addEventListener('abort', abort);
    request.send(form);
  });
}

/** 128 random bits; crypto.randomUUID is missing where the page comes over plain http. */
function newKey() {
  const words = crypto.getRandomValues(new Uint32Array(4));
  return Array.from(words, (word) => word.toString(16).padStart(8, '0')).join('');
}
