// Requests to the server: addresses, the API key, errors. Touches no element of the page. Used by
// every module that asks the server.

/** The page's own folder; behind a proxy it may have a path prefix. */
const ROOT = new URL('.', document.baseURI);
const KEY_NAME = 'actionmesh.key';

/** The statuses of a job that has ended. */
export const ENDED = ['finished', 'error', 'cancelled'];

let askForKey = async () => false;

/** An error reply of the server, or no reply at all (`status` 0). `hint` may be empty. */
export class Problem extends Error {
  constructor(status, code, detail, hint = '', facts = {}) {
    super(detail);
    this.status = status;
    this.code = code;
    this.hint = hint;
    this.facts = facts;
  }

  /** True if the same request may succeed later. */
  get isTemporary() {
    return this.status === 0 || this.status === 429 || [500, 502, 503, 504].includes(this.status);
  }
}

/** `path` below the page's own address: address('jobs') works behind any prefix. */
export function address(path) {
  return new URL(path.replace(/^\//, ''), ROOT).href;
}

/** `ask` is called when the server wants a key; it resolves to true once one has been given. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** Keep the key for this tab. The cookie lets links, videos and event streams carry it too. */
export function useKey(key) {
  sessionStorage.setItem(KEY_NAME, key);
  writeCookie(key);
}

/** Headers that every request of ours carries. */
export function keyHeaders() {
  const key = sessionStorage.getItem(KEY_NAME);
  return key ? { 'X-API-Key': key } : {};
}

/** GET, or whatever `method` says; resolves to the JSON body. Throws Problem. */
export async function ask(path, { method = 'GET', json, signal, timeout = 20 } = {}) {
  const body = json === undefined ? undefined : JSON.stringify(json);
  for (;;) {
    const headers = { Accept: 'application/json', ...keyHeaders() };
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    const request = { method, headers, body, cache: 'no-store' };
    const { status, text } = await exchange(address(path), request, timeout, signal);
    if (status === 401 && (await askForKey())) continue;
    if (status < 200 || status > 299) throw problemFrom(status, text);
    try {
      return JSON.parse(text);
    } catch {
      throw unreachable(); // a page of a proxy, not of our server
    }
  }
}

/** The Problem in an error reply; `text` is its body. */
export function problemFrom(status, text) {
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    // not JSON: a page of a proxy
  }
  const detail = typeof body.detail === 'string' ? body.detail : `The server answered ${status}.`;
  return new Problem(status, String(body.code ?? ''), detail, String(body.hint ?? ''), body);
}

/** The Problem of a server that cannot be reached. */
export function unreachable() {
  return new Problem(0, 'unreachable', 'The server cannot be reached.');
}

/** Status and text of one reply. Throws an AbortError once `signal` is aborted, else a Problem. */
async function exchange(url, request, timeout, signal) {
  const limit = new AbortController();
  const end = () => limit.abort();
  const timer = setTimeout(end, timeout * 1000);
  signal?.addEventListener('abort', end);
  if (signal?.aborted) end();
  try {
    const response = await fetch(url, { ...request, signal: limit.signal });
    return { status: response.status, text: await response.text() };
  } catch (error) {
    if (signal?.aborted) throw error;
    throw unreachable();
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', end);
  }
}

function writeCookie(key) {
  document.cookie = `am_key=${encodeURIComponent(key)}; path=${ROOT.pathname}; SameSite=Strict`;
}

const storedKey = sessionStorage.getItem(KEY_NAME);
if (storedKey) writeCookie(storedKey);
