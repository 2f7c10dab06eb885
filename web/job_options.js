// The options of a new job in the form: ranges and defaults from GET /info, and their values as fields
// of POST /jobs. Which subject is meant has a file of its own, subject_field.js. Called by new_job.js.

import { byId, el, fill } from './dom.js';
import { showLengths } from './length_field.js';
import { chosenMode, showModes } from './modes.js';

// format, or option of the same kind: title, purpose
const EXTRAS = {
  skinned: ['Skeleton (GLB)', 'for Unity, Unreal, Godot, Blender'],
  compact: ['Compact (GLB)', 'for the web'],
  usdz: ['USDZ', 'for USD tools; with Skeleton also for iPhone and iPad'],
  blender_export: ['FBX and Alembic', 'for Maya, 3ds Max and film tools'],
  npz: ['NumPy', 'arrays'],
};

let defaults = {};

/** Fill the controls once the server's `info` is known. */
export function setUpOptions(info) {
  defaults = info.options;
  showModes(info);
  for (const id of ['seed-field', 'tries-field']) byId(id).hidden = !usesSeed(info.pipeline.name);
  showLengths(defaults.max_frames.maximum);
  for (const control of optionControls()) {
    const option = defaults[control.dataset.option];
    if (control.type === 'number') {
      control.min = option.minimum;
      control.max = option.maximum;
    }
    if (control.value === '') control.value = initial(control);
  }
  const offered = Object.entries(EXTRAS).filter(([name]) => info.features[name]);
  fill(byId('extras'), ...offered.map(([name, [title, purpose]]) => el('label', {},
    el('input', { type: 'checkbox', name: 'extra', value: name }),
    el('span', {}, `${title} `, el('span', { class: 'secondary' }, purpose)))));
}

/** False for the pipeline that makes the same mesh with every seed. */
export function usesSeed(pipeline) {
  return pipeline !== 'silhouette';
}

/** Which frames are used: back to the server's defaults. */
export function resetSampling() {
  byId('start-slider').value = '0';
  showLengths(defaults.max_frames?.maximum);
  for (const id of ['start', 'fps', 'max-frames']) byId(id).value = initial(byId(id));
}

/** The options as fields of POST /jobs: the mode, and what differs from the server's defaults. */
export function optionFields() {
  const given = optionControls().map((control) => [control.dataset.option, valueOf(control)]);
  const changed = given.filter(([name, value]) => value !== '' && !isDefault(name, value));
  const extras = [...document.querySelectorAll('input[name=extra]:checked')].map((box) => box.value);
  const formats = extras.filter((name) => name !== 'blender_export').join(',');
  return {
    mode: chosenMode(),
    ...Object.fromEntries(changed),
    ...(formats ? { formats } : {}),
    ...(extras.includes('blender_export') ? { blender_export: 'true' } : {}),
  };
}

/** The controls whose `data-option` names an option of the API. */
function optionControls() {
  return [...byId('clip-form').querySelectorAll('[data-option]')];
}

/** The text of a control; that of a checkbox without its tick is in `data-off`. */
function valueOf(control) {
  return control.type === 'checkbox' && !control.checked ? control.dataset.off : control.value;
}

function isDefault(name, value) {
  const usual = defaults[name]?.default;
  return typeof usual === 'number' ? Number(value) === usual : value === String(usual);
}

/** The server's default for a control, as text. */
function initial(control) {
  return String(defaults[control.dataset.option]?.default ?? '');
}
