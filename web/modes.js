// The cards of the modes, and the texts about the server's pipeline and limits, all from GET /info.
// Called by new_job.js and app.js.

import { byId, el, fill, setText } from './dom.js';
import { bytes, capitalised, jobsBefore, seconds } from './format.js';

const TITLES = { default: 'Best', fast: 'Fast', fast_low_ram: 'Low memory' };
const DESCRIPTIONS = {
  actionmesh: {
    default: 'All diffusion steps',
    fast: 'Half the steps, nearly the same mesh',
    fast_low_ram: 'Half the steps, models moved in and out of memory',
  },
  silhouette: {
    default: '10,000 vertices, each frame tracked twice',
    fast: '6,000 vertices',
    fast_low_ram: '4,000 vertices',
  },
};

const SILHOUETTE = 'outline and motion come from your video; the depth is guessed by inflating the outline.';

/** Fill the cards; the server's default mode is selected. */
export function showModes(info) {
  fill(byId('mode-cards'), ...info.modes.map((mode) => card(mode, info.pipeline.name)));
}

/** The selected mode. */
export function chosenMode() {
  return document.querySelector('input[name=mode]:checked')?.value ?? 'default';
}

/** The texts in header, form and footer that say what this server can do. */
export function showServer(info) {
  const { pipeline, gpu, limits, model } = info;
  setText(byId('server-info'), `${pipeline.name} on ${gpu ? gpu.name : 'CPU'}`);
  const formats = limits.formats.filter((format) => format !== 'zip').join(', ');
  setText(byId('limits'), `${formats} up to ${limitOf(info)}, `
    + `or a zip of ${limits.min_frames} to ${limits.max_frames} pictures`);
  setText(byId('licence'), `${model.license}. ${model.notice}`);
  const note = byId('pipeline-note');
  const isActionMesh = pipeline.name === 'actionmesh';
  const lead = gpu ? 'The GPU is not in use.' : 'No GPU here.';
  note.hidden = isActionMesh;
  fill(note, el('strong', {}, `${lead} `),
    `${reasonOf(info)} The silhouette pipeline runs instead: ${SILHOUETTE}`);
  setText(byId('mode-note'), isActionMesh ? `ActionMesh on ${gpu?.name ?? 'this machine'}.` : `${lead} Silhouette runs: ${SILHOUETTE}`);
}

/** The largest upload, in the unit in which it is a round number. */
export function limitOf({ limits }) {
  const mebibytes = limits.max_upload_bytes / 2 ** 20;
  return Number.isInteger(mebibytes) ? `${mebibytes} MiB` : bytes(limits.max_upload_bytes);
}

/** Say how long a job of so many frames takes: on the cards, and beside the button that sends it. */
export function showTimes({ modes, limits, queue }, frames) {
  const added = frames - limits.default_frames;
  const times = Math.round((2 * frames) / limits.default_frames) / 2;
  let expected = times > 1 ? `takes about ${times} times as long as ${limits.default_frames} frames` : '';
  for (const mode of modes) {
    const memory = mode.min_vram_gb ? `${mode.min_vram_gb} GB of GPU memory` : '';
    // nothing is known before the first job
    const took = mode.typical_seconds && `about ${seconds(mode.typical_seconds + added * mode.seconds_per_frame)}`;
    const facts = mode.available ? [took && `${took} here`, memory].filter(Boolean).join(', ') : `needs ${memory}; not on this machine`;
    setText(byId(`facts-${mode.id}`), facts);
    if (took && mode.id === chosenMode()) expected = `${took} on this machine`;
  }
  setText(byId('expected-wait'), [expected, jobsBefore(queue.running + queue.queued)].filter(Boolean).join(', '));
}

function reasonOf({ pipeline, gpu }) {
  if (pipeline.reason.startsWith('PIPELINE=')) return gpu ? `(${pipeline.reason}.)` : '';
  return gpu ? capitalised(pipeline.reason).replace(/\.?$/, '.') : '';
}

function card(mode, pipeline) {
  const input = el('input', {
    type: 'radio', name: 'mode', value: mode.id, checked: mode.default, disabled: !mode.available,
  });
  return el('label', { class: 'mode' }, input,
    el('span', { class: 'mode-title' }, TITLES[mode.id] ?? mode.id, ' ', el('code', {}, mode.id)),
    el('span', { class: 'mode-text' }, DESCRIPTIONS[pipeline]?.[mode.id] ?? ''),
    el('span', { id: `facts-${mode.id}`, class: 'secondary' }));
}
