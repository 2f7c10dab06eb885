// Which frames of a clip a job will use, by exactly the rules of video/sampling.py, so that the page
// shows before the upload what the server will use. tests/web/test_sampling.py compares the two.

export const MIN_FRAMES = 16;
export const DEFAULT_FRAMES = 31;
export const SLOWEST_FPS = 8;
export const FALLBACK_FPS = 12;
const SPARE_SHARE = 0.1; // of a clip's frames: fewer may be left over
const FASTEST_FPS = 100_000; // above it the times are not usable

const KNOWN_RATES = [
  24000 / 1001, 30000 / 1001, 60000 / 1001, 120000 / 1001,
  10, 12, 12.5, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120, 240,
];

/**
 * Choose from frames shown at `times` (seconds, ascending). `request` has `fps` (or null), `maxFrames` and
 * `frameStep`: 16 frames are taken, or a multiple of `frameStep` more. Gives `used` (positions in `times`),
 * `fps` (at which they play), `stride` (for a constant frame rate, else null), `reach` (the clip's frames in
 * one step), `tail` (how many are left after the last one used) and `unused` (the same, but 0 if less than
 * `reach` or a tenth of the clip); or `tooShort`, the number of frames available.
 */
export function sample(times, request) {
  const count = times.length;
  if (count < MIN_FRAMES) return { tooShort: count };
  const seen = withoutPauses(times.slice(0, horizon(times, request)));
  const rate = sourceRate(seen);
  if (rate === null) return atFallback(count, request);
  if (request.fps !== null) return atRate(seen, rate, count, request);
  const wanted = howMany(count, request);
  if (isConstant(seen)) {
    const slowest = Math.floor(rate / SLOWEST_FPS + 1e-6);
    const stride = Math.max(1, Math.min(Math.floor((count - 1) / (wanted - 1)), slowest));
    return chosen(everyNth(wanted, stride), rate / stride, stride, count, stride);
  }
  const usual = median(intervals(seen));
  const spread = (seen[seen.length - 1] - seen[0]) / (wanted - 1);
  const step = Math.max(usual, Math.min(spread, 1 / SLOWEST_FPS));
  return chosen(nearest(seen, step, wanted), 1 / step, Math.ceil(step * rate), count, null);
}

/** The same for pictures without times. */
export function sampleUntimed(count, request) {
  return count < MIN_FRAMES ? { tooShort: count } : atFallback(count, request);
}

/** Rounds as Python does: 2.5 to 2, 3.5 to 4. */
export function roundHalfEven(value) {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below % 2) : Math.round(value);
}

/** Average frames per second; null if it cannot be computed. */
export function sourceRate(times) {
  if (times.length < 2) return null;
  if (times[times.length - 1] - times[0] < times.length / FASTEST_FPS) return null;
  return usualRate((times.length - 1) / (times[times.length - 1] - times[0]), 0.002);
}

/** The nearest common frame rate, if it is within `slack` of the measured one; else the measured one. */
export function usualRate(rate, slack = 0.03) {
  const known = nearestRate(rate);
  return Math.abs(known - rate) <= slack * known ? known : rate;
}

/** Position of the first time that is not before `time`. */
export function firstAt(times, time) {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

function atFallback(count, request) {
  const wanted = howMany(count, request);
  const stride = Math.floor((count - 1) / (wanted - 1));
  return chosen(everyNth(wanted, stride), request.fps ?? FALLBACK_FPS, stride, count, stride);
}

function atRate(times, rate, count, request) {
  const step = 1 / Math.min(request.fps, rate);
  const span = times[times.length - 1] - times[0];
  const available = Math.min(count, Math.floor(span / step + 1e-3) + 1);
  if (available < MIN_FRAMES) return { tooShort: available, atFps: request.fps };
  const used = nearest(times, step, howMany(available, request));
  return chosen(used, 1 / step, Math.ceil(step * rate), count, null);
}

function chosen(used, fps, reach, count, stride) {
  const tail = count - 1 - used[used.length - 1];
  const watchable = fps >= 1 && fps <= 120 ? Math.round(fps * 1e4) / 1e4 : FALLBACK_FPS;
  const unused = tail < Math.max(reach, SPARE_SHARE * count) ? 0 : tail;
  return { used, fps: watchable, stride, reach, tail, unused };
}

function horizon(times, { fps, maxFrames }) {
  const most = Math.max(maxFrames, DEFAULT_FRAMES); // fewer say less about the clip's rate
  const span = (most - 1) / Math.min(fps ?? SLOWEST_FPS, SLOWEST_FPS);
  return Math.max(most, firstAt(times, times[0] + span + 1e-6) + 1);
}

function howMany(available, { maxFrames, frameStep }) {
  const most = Math.min(available, maxFrames);
  return most - ((most - MIN_FRAMES) % frameStep);
}

function everyNth(wanted, stride) {
  return Array.from({ length: wanted }, (_, k) => k * stride);
}

function nearest(times, step, wanted) {
  const used = [];
  for (let k = 0; k < wanted; k += 1) {
    const target = times[0] + k * step;
    const after = Math.min(firstAt(times, target), times.length - 1);
    const before = Math.max(after - 1, 0);
    const closer = target - times[before] <= times[after] - target + 1e-6 ? before : after;
    const first = used.length ? used[used.length - 1] + 1 : 0;
    used.push(Math.min(Math.max(closer, first), times.length - (wanted - k)));
  }
  return used;
}

/** The same times, but no frame is held for much longer than usual. */
function withoutPauses(times) {
  const all = intervals(times);
  const longest = Math.max(1 / SLOWEST_FPS, 3 * median(all));
  let time = times[0];
  return [time, ...all.map((gap) => (time += Math.min(gap, longest)))];
}

function isConstant(times) {
  const all = intervals(times);
  const usual = median(all);
  return all.every((interval) => Math.abs(interval - usual) <= 0.25 * usual + 0.0015);
}

function intervals(times) {
  return times.slice(1).map((time, k) => time - times[k]);
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function nearestRate(rate) {
  return KNOWN_RATES.reduce((a, b) => (Math.abs(b - rate) < Math.abs(a - rate) ? b : a));
}
