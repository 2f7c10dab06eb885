// A chosen video file, read in the browser before the upload: size, duration, frame times, thumbnails.
// `timesAreExact` and `isPlayable` say how much the browser knows. Used by new_job.js; frames_zip.js
// extends it for zips.

import { frameTimes } from './mp4_index.js';
import { MIN_FRAMES, firstAt, sample, sourceRate, usualRate } from './sampling.js';

const THUMB_HEIGHT_PX = 144;
const MOST_THUMBS = 128; // kept: about 20 MB
const PICTURE_HEIGHT_PX = 720;
const EVENT_TIMEOUT_MS = 4000;
const MAX_ESTIMATED_FRAMES = 20_000;

export class Clip {
  constructor(file) {
    this.file = file;
    this.isZip = false;
    this.url = URL.createObjectURL(file);
    this.isOpen = false; // the values below are known once this is true
    this.isPlayable = false;
    this.timesAreExact = false;
    this.times = null; // seconds at which frames are shown, or null
    this.width = this.height = 0;
    this.duration = null;
    this._video = null;
    this._thumbs = new Map();
    this._queue = Promise.resolve(); // of pictures: one video element can show one frame at a time
  }

  /** Read what the browser can read; resolves once the values are set. */
  async open() {
    await this._read();
    this.isOpen = true;
  }

  /** True if `thumb` can give pictures. */
  get hasPictures() {
    return this.isPlayable;
  }

  /** Frames per second on average, or null. */
  get fps() {
    return this.times ? sourceRate(this.times) : null;
  }

  /** The latest start, in seconds, that leaves enough frames. */
  get latestStart() {
    return this.times?.[this.times.length - MIN_FRAMES] ?? 0;
  }

  /**
   * Which frames the server will use from `start` on: the result of `sample`, with `used` counted from the
   * clip's first frame. Null if the browser does not know the frame times.
   */
  plan({ start, ...request }) {
    const { times } = this;
    if (!times) return null;
    const first = firstAt(times, start - 1e-5);
    return countedFrom(first, sample(times.slice(first).map((time) => time - start), request));
  }

  /** Position of a frame in the whole clip: `part` from 0 to 1, and as `text`. */
  positionOf(index) {
    const time = this.times[index];
    return { part: time / this.times[this.times.length - 1], text: `${time.toFixed(2)} s` };
  }

  /** A small canvas with the frame `index` of all, or null. The last ones are kept. */
  async thumb(index, signal) {
    const cached = this._thumbs.get(index);
    if (cached) return cached;
    const thumb = await this._drawn(index, THUMB_HEIGHT_PX, signal);
    if (!thumb) return null;
    thumb.setAttribute('aria-hidden', 'true');
    this._thumbs.set(index, thumb);
    if (this._thumbs.size > MOST_THUMBS) this._thumbs.delete(this._thumbs.keys().next().value);
    return thumb;
  }

  /** The same, large enough to choose something in it. */
  picture(index, signal) {
    return this._drawn(index, PICTURE_HEIGHT_PX, signal);
  }

  close() {
    URL.revokeObjectURL(this.url);
    this._video?.removeAttribute('src');
    this._video = null;
    this.isPlayable = false;
  }

  async _read() {
    const [times] = await Promise.all([frameTimes(this.file), this._openVideo()]);
    if (times) {
      this.times = times;
      this.timesAreExact = true;
    } else if (this.isPlayable) {
      this.times = await this._estimatedTimes();
    }
  }

  async _openVideo() {
    const video = document.createElement('video');
    Object.assign(video, { muted: true, playsInline: true, preload: 'auto', src: this.url });
    if (!(await waitForEvent(video, 'loadeddata')) || !video.videoWidth) return;
    this._video = video;
    this.isPlayable = true;
    this.width = video.videoWidth;
    this.height = video.videoHeight;
    if (!Number.isFinite(video.duration)) {
      // the file gives no duration: the browser finds it by seeking behind the end
      video.currentTime = 1e7;
      await waitForEvent(video, 'durationchange');
      await this._seek(0);
    }
    this.duration = Number.isFinite(video.duration) ? video.duration : null;
  }

  /** Evenly spaced times at the frame rate measured while playing briefly; null if unknown. */
  async _estimatedTimes() {
    if (!this.duration) return null;
    const fps = await this._measuredRate();
    if (fps === null) return null;
    const count = Math.min(Math.round(this.duration * fps), MAX_ESTIMATED_FRAMES);
    return Array.from({ length: count }, (_, k) => k / fps);
  }

  async _measuredRate() {
    const video = this._video;
    if (!('requestVideoFrameCallback' in video)) return null;
    const presented = [];
    const done = new Promise((resolve) => {
      const onFrame = (_, frame) => {
        presented.push(frame);
        if (presented.length < 12 && !video.ended) video.requestVideoFrameCallback(onFrame);
        else resolve();
      };
      video.requestVideoFrameCallback(onFrame);
      setTimeout(resolve, 1500);
    });
    try {
      await video.play();
      await done;
    } finally {
      video.pause();
    }
    return rateOf(presented);
  }

  /** A canvas of at most this height, or null; made one at a time. */
  _drawn(index, height, signal) {
    this._queue = this._queue
      .then(() => (signal.aborted || !this.hasPictures ? null : this._picture(index, height)))
      .catch(() => null);
    return this._queue;
  }

  async _picture(index, height) {
    const next = this.times[index + 1] ?? this.times[index] + 1 / (this.fps ?? 24);
    await this._seek((this.times[index] + next) / 2);
    return scaled(this._video, this._video.videoWidth, this._video.videoHeight, height);
  }

  async _seek(time) {
    const video = this._video;
    const target = Math.min(time, Math.max(0, (this.duration ?? time) - 1e-3));
    if (Math.abs(video.currentTime - target) < 1e-4) return;
    video.currentTime = target;
    await waitForEvent(video, 'seeked');
  }
}

/** A canvas with a picture of this size, at most `tallest` pixels high. */
export function scaled(picture, width, height, tallest) {
  const canvas = document.createElement('canvas');
  canvas.height = Math.min(tallest, height);
  canvas.width = Math.max(1, Math.round((canvas.height * width) / height));
  canvas.getContext('2d').drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas;
}

/** The `plan` of frames from `first` on, with `used` counted from the clip's first frame. */
export function countedFrom(first, plan) {
  return plan.used ? { ...plan, used: plan.used.map((position) => first + position) } : plan;
}

/** Frames per second, from the times of presented frames; the browser may skip some. */
function rateOf(presented) {
  const rising = presented.filter((frame, k) => k === 0 || frame.mediaTime > presented[k - 1].mediaTime);
  if (rising.length < 3) return null;
  const steps = rising.slice(1).map((frame, k) => frame.mediaTime - rising[k].mediaTime);
  const shortest = Math.min(...steps);
  const frames = steps.reduce((sum, step) => sum + Math.round(step / shortest), 0);
  const span = rising[rising.length - 1].mediaTime - rising[0].mediaTime;
  return span > 0 ? usualRate(frames / span) : null;
}

/** Resolves to true at the event, to false on an error of the video or after EVENT_TIMEOUT_MS. */
function waitForEvent(video, event) {
  return new Promise((resolve) => {
    const listeners = new AbortController();
    const end = (hasHappened) => () => {
      listeners.abort();
      clearTimeout(timer);
      resolve(hasHappened);
    };
    const timer = setTimeout(end(false), EVENT_TIMEOUT_MS);
    video.addEventListener(event, end(true), { signal: listeners.signal });
    video.addEventListener('error', end(false), { signal: listeners.signal });
  });
}
