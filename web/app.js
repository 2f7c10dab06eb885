// The page: which view is shown, and what the server is. The address after # is the only state:
// none for a new mesh, #job=<id> for a job, so that a reload or another device comes back to it.

import { Problem, ask } from './api.js';
import { setUpCompose, startOver, useInfo } from './new_job.js';
import { byId, say } from './dom.js';
import { showHistory } from './history.js';
import { closeJob, openJob } from './job.js';
import { setUpKey } from './key.js';
import { showServer } from './modes.js';

const ASK_AGAIN_MS = 4000;

let justSent = null;

function route() {
  const id = /^#job=([\w-]+)$/.exec(location.hash)?.[1];
  if (justSent && justSent.id !== id) {
    justSent.clip?.close();
    justSent = null;
  }
  byId('compose').hidden = id !== undefined;
  byId('job').hidden = id === undefined;
  if (id) {
    openJob(id, justSent?.id === id ? justSent.clip : null);
    byId('job-name').focus({ preventScroll: true });
  } else {
    closeJob();
    startOver();
    showHistory();
    learn();
  }
  scrollTo(0, 0);
}

/** Ask the server what it can do, until it answers. */
async function learn() {
  try {
    const info = await ask('info');
    useInfo(info);
    showServer(info);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    say(byId('engine'), error.status === 401 ? 'needs a key' : 'the server does not answer');
    if (error.isPassing) setTimeout(learn, ASK_AGAIN_MS);
  }
}

setUpKey();
setUpCompose(learn, (id, clip) => {
  justSent = { id, clip };
  location.hash = `job=${id}`;
});
addEventListener('hashchange', route);
route();
if (!byId('job').hidden) learn();
