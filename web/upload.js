// Sends a video to POST /jobs and reports the progress. With XMLHttpRequest, because fetch reports no
// upload progress. The idempotency key makes it safe to send again. Called by new_job.js.

import { Problem, address, keyHeaders, problemFrom, unreachable } from './api.js';
import { sleep } from './sleep.js';

const TRIES = 3;
const RETRY_DELAY_S = 1.5;

/**
 * `fields` are name and value, one value a File, sent in this order. `onProgress(sent, total)` gets bytes.
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
      await sleep(RETRY_DELAY_S * tried, signal);
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
