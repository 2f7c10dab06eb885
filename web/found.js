// Which subject was found, shown in the viewer before the first mesh: the frames of subject.webp, which
// is one wide strip, in as many rows as fill the pane best. Called by viewer.js.

import { byId, fill } from './dom.js';

const GAP_PX = 4; // between the frames of the strip
const MOST_FRAMES = 8;

let requested = '';

/** Show the strip at `url`, of a video of this shape (width / height); resolves to false if it is hidden meanwhile. */
export async function drawFound(url, shape) {
  if (requested === url) return false;
  requested = url;
  const strip = new Image();
  strip.src = url;
  try {
    await strip.decode();
  } catch {
    return false; // the job has ended, and its workspace is gone
  }
  if (requested !== url) return false;
  const found = byId('found');
  found.hidden = false;
  fill(found, arranged(strip, shape, found.clientWidth / found.clientHeight));
  return true;
}

export function hideFound() {
  requested = '';
  byId('found').hidden = true;
  fill(byId('found'));
}

/** The strip's frames in rows, as a canvas whose shape is near `paneShape`. */
function arranged(strip, shape, paneShape) {
  const count = framesIn(strip, shape);
  const width = (strip.width + GAP_PX) / count - GAP_PX;
  const columns = columnsFor(count, width / strip.height, paneShape);
  const rows = Math.ceil(count / columns);
  const canvas = document.createElement('canvas');
  canvas.width = Math.round(columns * (width + GAP_PX) - GAP_PX);
  canvas.height = rows * (strip.height + GAP_PX) - GAP_PX;
  const context = canvas.getContext('2d');
  for (let k = 0; k < count; k += 1) {
    const [x, y] = [(k % columns) * (width + GAP_PX), Math.floor(k / columns) * (strip.height + GAP_PX)];
    context.drawImage(strip, k * (width + GAP_PX), 0, width, strip.height, x, y, width, strip.height);
  }
  return canvas;
}

/** How many frames of this shape the strip has. */
function framesIn(strip, shape) {
  const error = (count) => Math.abs(Math.log(((strip.width + GAP_PX) / count - GAP_PX) / strip.height / shape));
  return upTo(MOST_FRAMES).reduce((best, count) => (error(count) < error(best) ? count : best));
}

/** How many columns make the frames largest in the pane. */
function columnsFor(count, shape, paneShape) {
  const size = (columns) => Math.min(paneShape / (columns * shape), 1 / Math.ceil(count / columns));
  return upTo(count).reduce((best, columns) => (size(columns) > size(best) ? columns : best));
}

function upTo(last) {
  return Array.from({ length: last }, (_, k) => k + 1);
}
