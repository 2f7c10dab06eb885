// A chosen zip of frames, read in the browser: a Clip whose pictures come from the zip. Which entries
// are frames, and their order, follow the rules of video/frames_zip.py; tests/web/test_sampling.py
// compares the two. For a zip that it does not fully understand it gives null.

import { Clip, countedFrom, scaled } from './clip.js';
import { FALLBACK_FPS, MIN_FRAMES, roundHalfEven, sampleUntimed } from './sampling.js';

const END_BYTES = 22;
const MAX_COMMENT_BYTES = 65_535;
const MAX_DIRECTORY_BYTES = 1 << 20;
const MAX_PICTURE_BYTES = 64 << 20;
const STORED = 0;
const DEFLATED = 8;
const NOT_FRAMES = ['thumbs.db', 'desktop.ini'];

export class FramesZip extends Clip {
  constructor(file) {
    super(file);
    this.isZip = true;
    this.entries = null; // in the server's order, or null if the zip cannot be read
  }

  get count() {
    return this.entries?.length ?? null;
  }

  get hasPictures() {
    return this.width > 0;
  }

  get latestStart() {
    return Math.max(0, (this.count ?? 0) - MIN_FRAMES) / FALLBACK_FPS;
  }

  /** Pictures have no times: `start` is counted at the rate at which they will play. */
  plan({ start, ...request }) {
    if (!this.entries) return null;
    const first = roundHalfEven(Math.min(start * (request.fps ?? FALLBACK_FPS), this.count));
    return countedFrom(first, sampleUntimed(this.count - first, request));
  }

  positionOf(index) {
    const { name } = this.entries[index];
    return { part: index / Math.max(1, this.count - 1), text: name.slice(name.lastIndexOf('/') + 1) };
  }

  async _read() {
    this.entries = await frameEntries(this.file);
    this.timesAreExact = this.entries !== null;
    if (!this.count) return;
    const first = await this._bitmap(0).catch(() => null);
    this.width = first?.width ?? 0;
    this.height = first?.height ?? 0;
    first?.close();
  }

  async _picture(index, height) {
    const bitmap = await this._bitmap(index);
    const picture = scaled(bitmap, bitmap.width, bitmap.height, height);
    bitmap.close();
    return picture;
  }

  async _bitmap(index) {
    return createImageBitmap(await readEntry(this.file, this.entries[index]));
  }
}

/** The entries that are frames, in natural order; null if the zip is odd, broken or too large. */
export async function frameEntries(file) {
  try {
    const entries = (await readDirectory(file)).filter(isFrame);
    if (entries.some((entry) => !isReadable(entry))) return null;
    return entries.map((entry) => ({ ...entry, key: naturalKey(entry.name) })).sort(byNaturalKey);
  } catch {
    return null; // damaged, or not understood
  }
}

/** The central directory, as far as it is needed (APPNOTE.TXT, 4.3.12 and 4.3.16). */
async function readDirectory(file) {
  const tailAt = Math.max(0, file.size - END_BYTES - MAX_COMMENT_BYTES);
  const tail = new DataView(await file.slice(tailAt).arrayBuffer());
  const at = findEndRecord(tail);
  const [size, offset] = [tail.getUint32(at + 12, true), tail.getUint32(at + 16, true)];
  if (size > MAX_DIRECTORY_BYTES || offset === 0xffffffff) throw new RangeError('too large');
  const directoryAt = tailAt + at - size;
  const before = directoryAt - offset; // bytes before the zip itself, as in a self-extracting file
  const view = new DataView(await file.slice(directoryAt, directoryAt + size).arrayBuffer());
  const entries = [];
  for (let row = 0; row < size; ) {
    if (view.getUint32(row, true) !== 0x02014b50) throw new RangeError('no entry');
    const nameLength = view.getUint16(row + 28, true);
    const flags = view.getUint16(row + 8, true);
    entries.push({
      name: nameOf(new Uint8Array(view.buffer, row + 46, nameLength), flags),
      isEncrypted: (flags & 1) === 1,
      method: view.getUint16(row + 10, true),
      packedBytes: view.getUint32(row + 20, true),
      bytes: view.getUint32(row + 24, true),
      at: before + view.getUint32(row + 42, true),
    });
    row += 46 + nameLength + view.getUint16(row + 30, true) + view.getUint16(row + 32, true);
  }
  return entries;
}

function findEndRecord(tail) {
  for (let at = tail.byteLength - END_BYTES; at >= 0; at -= 1) {
    if (tail.getUint32(at, true) === 0x06054b50) return at;
  }
  throw new RangeError('no end');
}

function nameOf(encoded, flags) {
  const isUtf8 = (flags & 0x800) !== 0;
  if (!isUtf8 && encoded.some((byte) => byte > 0x7f)) throw new RangeError('an old code page');
  return new TextDecoder('utf-8', { fatal: true }).decode(encoded);
}

/** Neither a folder nor a hidden file that file managers add. */
function isFrame({ name }) {
  const parts = name.split('/');
  const isHidden = parts.some((part) => /^(\.|__MACOSX)/.test(part) && part !== '.' && part !== '..');
  return !(name.endsWith('/') || isHidden || NOT_FRAMES.includes(parts.pop().toLowerCase()));
}

function isReadable({ isEncrypted, method, bytes }) {
  return !isEncrypted && [STORED, DEFLATED].includes(method) && bytes <= MAX_PICTURE_BYTES;
}

/** Sorts frame_2 before frame_10; names that differ only in zeros or case are sorted as text. */
function naturalKey(name) {
  return (name.match(/[0-9]+|[^0-9]+/g) ?? []).map((part) => (
    /^[0-9]/.test(part) ? BigInt(part) : part.toLowerCase()));
}

function byNaturalKey(one, other) {
  for (const [k, part] of one.key.entries()) {
    const otherPart = other.key[k];
    if (otherPart === undefined) return 1;
    if (typeof part !== typeof otherPart) return typeof part === 'bigint' ? -1 : 1;
    if (part !== otherPart) return part < otherPart ? -1 : 1;
  }
  if (one.key.length < other.key.length) return -1;
  return one.name < other.name ? -1 : 1;
}

async function readEntry(file, { at, method, packedBytes }) {
  const head = new DataView(await file.slice(at, at + 30).arrayBuffer());
  const from = at + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const packed = file.slice(from, from + packedBytes);
  if (method === STORED) return packed;
  const unpacked = packed.stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Response(unpacked).blob();
}
