// The results of a finished job: files with their sizes, details of the mesh, the same job with curl.
// job.js loads this file for a finished job.

import { address } from './api.js';
import { byId, copyText, el, fill, setText } from './dom.js';
import { bytes, dateTime, number, ordinal, rate, seconds } from './format.js';
import { usesSeed } from './job_options.js';
import { stageTimes } from './progress.js';
import { DEFAULT_FRAMES } from './sampling.js';

// key in `outputs`, title, purpose, how the codes of the warnings begin that say why it was not made
const FILES = [
  ['animated_mesh', 'Animated mesh', 'one animated GLB: Blender, Unity, Unreal, the web'],
  ['skinned_mesh', 'Skeleton', 'a GLB with bones: Unity, Unreal, Godot, Blender', /^skin_/],
  ['compact_mesh', 'Compact', 'a small GLB for the web: its viewer needs a meshopt decoder', /^compact_/],
  ['archive', 'All frames', 'a zip with one GLB for every frame'],
  ['preview_video', 'Preview', 'a video of input and mesh', /^preview_/],
  ['source_video', 'Source', 'exactly the frames that were used'],
  ['masks', 'Masks', 'a picture for every frame, white where the subject is'],
  ['fbx', 'FBX', 'for Unreal, Maya, 3ds Max'],
  ['skinned_fbx', 'FBX, skeleton', 'with bones as well as shape keys'],
  ['abc', 'Alembic', 'a vertex cache for film tools'],
  ['abc_texture', 'Alembic texture', 'its picture, which Alembic does not hold'],
  ['usdz', 'USDZ', 'for Blender and other USD tools'],
  ['skinned_usdz', 'USDZ, skeleton', 'with bones: for AR on iPhone and iPad'],
  ['npz', 'NumPy', 'vertices, faces and frame rate as arrays'],
];

/** Fill the lists under the viewer. Gives the warnings that are not shown in place of a file. */
export function showDownloads(job) {
  const sizes = new Map(job.files.map((file) => [file.name, file.bytes]));
  const asked = FILES.filter(([key]) => job.outputs[key] !== undefined);
  const missing = new Map(asked.filter(([key]) => job.outputs[key] === null)
    .map(([key, , , codes]) => [key, job.warnings.find(({ code }) => codes?.test(code))]));
  fill(byId('downloads'), ...asked.map(([key, title, purpose]) => el('li', {}, missing.has(key)
    ? el('p', {}, el('span', { class: 'download-title' }, title),
      el('span', { class: 'secondary' }, missing.get(key)?.message ?? 'It could not be made.'))
    : fileLink(job, job.outputs[key], sizes, title, purpose))));
  fill(byId('frame-file-list'), ...job.outputs.per_frame_meshes.map((url, k) => el('li', {},
    el('a', { href: url, download: downloadName(job, fileName(url)), 'aria-label': `Frame ${k}, ${bytes(sizes.get(fileName(url)) ?? 0)}` },
      String(k).padStart(3, '0')))));
  byId('frame-files').hidden = job.outputs.per_frame_meshes.length === 0;
  showDetails(job);
  const commands = curlCommands(job);
  setText(byId('curl'), commands);
  byId('copy-curl').onclick = async ({ target }) => {
    setText(target, (await copyText(commands)) ? 'Copied' : selectAll(byId('curl')));
    setTimeout(() => setText(target, 'Copy'), 2500);
  };
  return job.warnings.filter((warning) => ![...missing.values()].includes(warning));
}

function fileLink(job, url, sizes, title, purpose) {
  return el('a', { href: url, download: downloadName(job, fileName(url)) },
    el('span', { class: 'download-title' }, title),
    el('span', { class: 'secondary' }, purpose),
    el('span', { class: 'download-size' }, bytes(sizes.get(fileName(url)) ?? 0)));
}

function showDetails(job) {
  const { mesh, input, source } = job;
  const seed = job.tries?.find(({ chosen }) => chosen)?.seed ?? job.options.seed;
  const details = {
    Mesh: `${number(mesh.vertices)} vertices, ${number(mesh.faces)} faces`,
    Motion: `${mesh.timesteps} frames at ${rate(mesh.fps)} per second, ${seconds(mesh.timesteps / mesh.fps)}`,
    Input: `${input.width} × ${input.height}, ${number(input.source_frames)} frames`
      + (input.source_fps ? ` at ${rate(input.source_fps)} per second` : ''),
    Used: source?.used ? usedFrames(source.used) : null,
    Subject: subjectText(job),
    Colours: colourText(job.texture),
    Made: [job.pipeline, job.mode, usesSeed(job.pipeline) && `seed ${seed}`].filter(Boolean).join(', '),
    Took: seconds(job.timings.total),
  };
  const rows = Object.entries(details).filter(([, value]) => value);
  fill(byId('about'), ...rows.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)]));
  byId('about').append(el('dt', {}, 'Stages'), el('dd', {}, el('details', {}, el('summary', {}, 'Time of each'), stageTimes(job.timings))));
  setText(byId('expiry'), job.expires_at ? `Kept until ${dateTime(job.expires_at)}.` : 'Kept until you delete it.');
}

/** A link to the picture of what was found, and how sure that is; null if the job does not tell. */
function subjectText({ outputs, subject, options }) {
  if (!outputs.subject) return null;
  const isChosen = options.subject_box || options.subject_point;
  const confidence = subject?.confidence ?? 1;
  return el('span', {}, el('a', { href: outputs.subject }, 'what was found'), isChosen ? ', as you chose' : '',
    confidence === 1 ? '' : `, ${Math.round(confidence * 100)}% sure`);
}

/** Where the mesh's colours come from; null where that is obvious, or the job does not tell. */
function colourText({ state, reason, seen } = {}) {
  if (state === 'baked') return `from the video, which shows ${Math.round(seen * 100)}% of the surface; the rest is filled in`;
  return state === 'skipped' || state === 'failed' ? `none. ${reason}` : null;
}

/** "frames 0 to 60, every 2nd", or "31 of the frames 0 to 62". */
function usedFrames(used) {
  const stride = used[1] - used[0];
  const isEven = used.every((frame, k) => frame === used[0] + k * stride);
  const range = `frames ${used[0]} to ${used[used.length - 1]}`;
  if (!isEven) return `${used.length} of the ${range}`;
  return `${range}${stride > 1 ? `, every ${ordinal(stride)}` : ''}`;
}

function curlCommands(job) {
  const name = job.input.filename ?? 'clip.mp4';
  const { options } = job;
  const sent = options.video_url ? `video_url=${options.video_url}` : `file=@${name}`;
  const fields = [sent, `mode=${job.mode}`];
  if (usesSeed(job.pipeline)) fields.push(`seed=${options.seed}`);
  for (const name of ['subject_box', 'subject_point']) {
    if (options[name]) fields.push(`${name}=${options[name]}`);
  }
  if (options.start) fields.push(`start=${options.start}`);
  if (options.fps) fields.push(`fps=${options.fps}`);
  if (options.max_frames !== DEFAULT_FRAMES) fields.push(`max_frames=${options.max_frames}`);
  if (options.texture === 'none') fields.push('texture=none');
  if (options.tries > 1) fields.push(`tries=${options.tries}`);
  if (options.formats?.length) fields.push(`formats=${options.formats.join(',')}`);
  if (options.blender_export) fields.push('blender_export=true');
  return [
    `curl ${fields.map((field) => `-F ${shellQuoted(field)}`).join(' ')} ${address('jobs')}`,
    `curl '${address(`jobs/${job.job_id}?wait=55`)}'`,
    `curl -OJ '${new URL(job.outputs.archive ?? job.outputs.animated_mesh ?? '', address('')).href}'`,
  ].join('\n');
}

/** Quoted for a shell, if it needs to be. */
function shellQuoted(text) {
  return /^[\w@=.,/:+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

function selectAll(element) {
  getSelection().selectAllChildren(element);
  return 'Selected: press Ctrl+C';
}

function fileName(url) {
  return url.slice(url.lastIndexOf('/') + 1);
}

/** With the clip's name in front, so that downloads of several jobs have different names. */
function downloadName(job, name) {
  const stem = (job.input.filename ?? 'clip').replace(/\.\w+$/, '').replace(/[^\w.-]+/g, '_');
  return `${stem}_${name}`;
}
