// The times at which the frames of an mp4 or mov are shown, from its index (ISO/IEC 14496-12, the moov
// box). Decodes nothing and loads the index only. Gives null for what it does not fully understand:
// other containers, fragmented files, several edits. Used by clip.js, which then estimates.

const MAX_INDEX_BYTES = 32e6;
const MAX_INDEXED_FRAMES = 200_000;

/** Presentation times in seconds, ascending, of all frames that a player shows; null if unknown. */
export async function frameTimes(file) {
  try {
    const moov = await readIndex(file);
    return moov && timesOfVideo(moov);
  } catch {
    return null; // damaged, or not understood
  }
}

async function readIndex(file) {
  for (let at = 0; at + 8 <= file.size; ) {
    const head = new DataView(await file.slice(at, at + 16).arrayBuffer());
    let size = head.getUint32(0);
    if (size === 1) size = Number(head.getBigUint64(8));
    else if (size === 0) size = file.size - at;
    if (size < 8) return null;
    if (boxType(head, 4) === 'moov') {
      if (size > MAX_INDEX_BYTES) return null;
      return new DataView(await file.slice(at, at + size).arrayBuffer());
    }
    at += size;
  }
  return null;
}

function timesOfVideo(moov) {
  const inMovie = boxes(moov, 8);
  if (inMovie.some((box) => box.kind === 'mvex')) return null;
  for (const track of inMovie.filter((box) => box.kind === 'trak')) {
    const media = find(track.view, 'mdia');
    if (boxType(find(media, 'hdlr'), 16) !== 'vide') continue;
    const table = find(find(media, 'minf'), 'stbl');
    const movieScale = timescale(inMovie.find((box) => box.kind === 'mvhd').view);
    const scale = timescale(find(media, 'mdhd'));
    const edit = shownRange(track.view, scale / movieScale);
    if (edit === null) return null;
    const shown = presentationTimes(table).filter((time) => time >= edit.from && time < edit.to);
    if (!shown.length) return null;
    return shown.sort((a, b) => a - b).map((time) => (time - edit.from) / scale);
  }
  return null;
}

/** Decoding times plus offsets, in the track's own units. */
function presentationTimes(table) {
  const durations = expand(find(table, 'stts'), (view, at) => view.getUint32(at));
  const offsetBox = find(table, 'ctts', true);
  // version 0 should be unsigned, but writers put negative offsets there too
  const offsets = offsetBox && expand(offsetBox, (view, at) => view.getInt32(at));
  let time = 0;
  return durations.map((duration, k) => {
    const shown = time + (offsets?.[k] ?? 0);
    time += duration;
    return shown;
  });
}

/** A run-length table: version and flags, count of runs, then (how many, value) each. */
function expand(view, read) {
  const values = [];
  for (let run = 0; run < view.getUint32(12); run += 1) {
    const many = view.getUint32(16 + 8 * run);
    if (values.length + many > MAX_INDEXED_FRAMES) throw new RangeError('too many frames');
    const value = read(view, 20 + 8 * run);
    for (let k = 0; k < many; k += 1) values.push(value);
  }
  return values;
}

/** The part of the track that is shown, in the track's units; null if there are several parts. */
function shownRange(track, unitsPerMovieUnit) {
  const whole = { from: 0, to: Infinity };
  const container = find(track, 'edts', true);
  const list = container && find(container, 'elst', true);
  if (!list) return whole;
  const is64Bit = list.getUint8(8) === 1;
  const edits = [];
  for (let k = 0; k < list.getUint32(12); k += 1) {
    const at = 16 + k * (is64Bit ? 20 : 12);
    const length = is64Bit ? Number(list.getBigUint64(at)) : list.getUint32(at);
    const from = is64Bit ? Number(list.getBigInt64(at + 8)) : list.getInt32(at + 4);
    if (from >= 0) edits.push({ from, length: length * unitsPerMovieUnit });
  }
  if (edits.length > 1) return null;
  if (!edits.length) return whole;
  const [{ from, length }] = edits;
  // half a unit of slack: lengths are rounded to the movie's coarser units
  return { from, to: length > 0 ? from + length + unitsPerMovieUnit / 2 : Infinity };
}

function timescale(view) {
  return view.getUint32(view.getUint8(8) === 1 ? 28 : 20);
}

/** The boxes inside `view`, whose own header is `skip` bytes long. */
function boxes(view, skip) {
  const found = [];
  for (let at = skip; at + 8 <= view.byteLength; ) {
    let size = view.getUint32(at);
    if (size === 0) size = view.byteLength - at;
    if (size < 8 || at + size > view.byteLength) throw new RangeError('a box is cut off');
    const inside = new DataView(view.buffer, view.byteOffset + at, size);
    found.push({ kind: boxType(inside, 4), view: inside });
    at += size;
  }
  return found;
}

function find(view, kind, isOptional = false) {
  const found = boxes(view, 8).find((box) => box.kind === kind);
  if (!found && !isOptional) throw new RangeError(`no ${kind}`);
  return found?.view;
}

function boxType(view, at) {
  return String.fromCharCode(...[0, 1, 2, 3].map((k) => view.getUint8(at + k)));
}
