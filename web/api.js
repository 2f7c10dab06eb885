// Talks to the server: addresses, key, errors. Knows the contract's manners, and no element.

/** Where the page lies; the server may stand behind a prefix. */
const ROOT = new URL('.', document.baseURI);
const KEY = 'actionmesh.key';

let askForKey = async () => false;

/** A refusal of the server, or its silence (`status` 0). `hint` may be empty. */
export class Problem extends Error {
  constructor(status, code, detail, hint = '', facts = {}) {
    super(detail);
    this.status = status;
    this.code = code;
    this.hint = hint;
    this.facts = facts;
  }

  /** True if the same request may succeed later, so nothing is lost yet. */
  get isPassing() {
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
  sessionStorage.setItem(KEY, key);
  writeCookie(key);
}

/** Headers that every request of ours carries. */
export function keyHeaders() {
  const key = sessionStorage.getItem(KEY);
  return key ? { 'X-API-Key': key } : {};
}

/** GET, or whatever `method` says; resolves to the JSON body. Throws Problem. */
export async function ask(path, { method = 'GET', json, signal, timeout = 20 } = {}) {
  const body = json === undefined ? undefined : JSON.stringify(json);
  for (;;) {
    const headers = { Accept: 'application/json', ...keyHeaders() };
    if (body !== undefined) headers['Content-Type'] = 'application/json';
    const limit = AbortSignal.timeout(timeout * 1000);
    const response = await reach(address(path), {
      method, headers, body, cache: 'no-store',
      signal: signal ? anySignal([signal, limit]) : limit,
    }, signal);
    if (response.status === 401 && (await askForKey())) continue;
    if (!response.ok) throw problemFrom(response.status, await response.text());
    return response.json();
  }
}

/** The Problem in a reply that is no success; `text` is its body. */
export function problemFrom(status, text) {
  let told = {};
  try {
    told = JSON.parse(text);
  } catch {
    // a proxy's page, not ours
  }
  const detail = typeof told.detail === 'string' ? told.detail : `The server answered ${status}.`;
  return new Problem(status, String(told.code ?? ''), detail, String(told.hint ?? ''), told);
}

/** The Problem of a server that cannot be reached. */
export function unreachable() {
  return new Problem(0, 'unreachable', 'The server cannot be reached.');
}

async function reach(url, request, signal) {
  try {
    return await fetch(url, request);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw unreachable();
  }
}

function anySignal(signals) {
  const both = new AbortController();
  for (const signal of signals) {
    if (signal.aborted) both.abort();
    signal.addEventListener('abort', () => both.abort(), { once: true });
  }
  return both.signal;
}

function writeCookie(key) {
  document.cookie = `am_key=${encodeURIComponent(key)}; path=${ROOT.pathname}; SameSite=Strict`;
}

const kept = sessionStorage.getItem(KEY);
if (kept) writeCookie(kept);
