// Asks for the server's key when it wants one. The key stays in this tab.

import { onKeyNeeded, useKey } from './api.js';
import { byId, setText } from './dom.js';

let answer = null;
let tried = false;

/** Wire the dialog; from then on every 401 opens it. */
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

/** Resolves to true once a key has been given; one dialog serves all who ask meanwhile. */
function askForKey() {
  if (answer) return answer.promise;
  answer = {};
  answer.promise = new Promise((resolve) => {
    answer.resolve = resolve;
  });
  const problem = byId('key-problem');
  problem.hidden = !tried;
  setText(problem, tried ? 'The server does not know this key.' : '');
  byId('key-dialog').showModal();
  return answer.promise;
}

function settle(given) {
  answer?.resolve(given);
  answer = null;
}
