// The dialog that asks for the API key after a 401. The key stays in this tab. Set up by app.js.

import { onKeyNeeded, useKey } from './api.js';
import { byId, setText } from './dom.js';

let pending = null; // the open question: its promise, and how to resolve it
let tried = false;

/** Connect the dialog; from then on every 401 opens it. */
export function setUpApiKey() {
  const dialog = byId('key-dialog');
  byId('key-form').addEventListener('submit', () => {
    useKey(byId('key').value.trim());
    byId('key').value = '';
    tried = true;
    byId('key-button').hidden = false;
    settle(true);
  });
  byId('key-cancel').addEventListener('click', () => dialog.close());
  dialog.addEventListener('close', () => settle(false));
  byId('key-button').addEventListener('click', () => {
    tried = false;
    askForKey();
  });
  onKeyNeeded(askForKey);
}

/** Resolves to true once a key was entered; several callers share one dialog. */
function askForKey() {
  if (pending) return pending.promise;
  pending = {};
  pending.promise = new Promise((resolve) => {
    pending.resolve = resolve;
  });
  const problem = byId('key-problem');
  problem.hidden = !tried;
  setText(problem, tried ? 'The server does not accept this key.' : '');
  byId('key-dialog').showModal();
  return pending.promise;
}

function settle(given) {
  pending?.resolve(given);
  pending = null;
}
