// Entry point of the page: shows the form for a new job, or one job. The part of the address after #
// decides: #job=<id> is a job, nothing is the form. So a reload, or the same address on another
// device, shows the same job.

import { Problem, ask } from './api.js';
import { setUpNewJob, startOver, useInfo } from './new_job.js';
import { byId, setText } from './dom.js';
import { showHistory } from './history.js';
import { closeJob, openJob } from './job.js';
import { setUpApiKey } from './api_key.js';
import { showServer } from './modes.js';

const RETRY_DELAY_MS = 4000;

let justSent = null;

function route() {
  const id = /^#job=([\w-]+)$/.exec(location.hash)?.[1];
  if (justSent && justSent.id !== id) {
    justSent.clip?.close();
    justSent = null;
  }
  byId('new-job').hidden = id !== undefined;
  byId('job').hidden = id === undefined;
  if (id) {
    openJob(id, justSent?.clip ?? null, (retryId) => {
      if (justSent) justSent.id = retryId; // of the same clip
    });
    byId('job-name').focus({ preventScroll: true });
  } else {
    closeJob();
    startOver();
    showHistory();
    loadServerInfo();
  }
  scrollTo(0, 0);
}

/** Get /info; try again until the server answers. */
async function loadServerInfo() {
  try {
    const info = await ask('info');
    useInfo(info);
    showServer(info);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    setText(byId('server-info'), error.status === 401 ? 'needs an API key' : 'the server does not answer');
    if (error.isTemporary) setTimeout(loadServerInfo, RETRY_DELAY_MS);
  }
}

setUpApiKey();
setUpNewJob(loadServerInfo, (id, clip) => {
  justSent = { id, clip };
  location.hash = `job=${id}`;
});
addEventListener('hashchange', route);
route();
if (!byId('job').hidden) loadServerInfo();
