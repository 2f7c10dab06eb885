// The current time of the animation: play, pause, seek, speed, loop. The source video is the clock, so
// that mesh and video stay in sync; without a video it keeps its own clock. Draws nothing. Used by
// viewer.js.

export class Playback extends EventTarget {
  /** Frame k is shown from k / fps to (k + 1) / fps; `video` holds exactly these frames. */
  constructor({ frames, fps, video = null }) {
    super();
    this.frames = frames;
    this.fps = fps;
    this.duration = frames / fps;
    this.isPlaying = false;
    this.loop = true;
    this._speed = 1;
    this._video = video;
    this._clockTime = 0; // own clock: seconds of the animation at `_clockStart`
    this._clockStart = 0;
    this._seekTarget = null; // seconds, while the video is seeking
    this._abort = new AbortController();
    if (video) this._listen(video);
  }

  /** Seconds from 0 to `duration`. */
  get time() {
    if (this._seekTarget !== null) return this._seekTarget;
    if (this._video) return Math.min(this._video.currentTime, this.duration);
    if (!this.isPlaying) return this._clockTime;
    const time = this._clockTime + ((performance.now() - this._clockStart) / 1000) * this._speed;
    if (this.loop) return time % this.duration;
    if (time >= this.duration) this.pause();
    return Math.min(time, this.duration);
  }

  /** The index of the current frame. */
  get frame() {
    return Math.min(this.frames - 1, Math.floor(this.time * this.fps + 1e-6));
  }

  /** Seconds on the mesh's time line, which ends at the last frame; when paused, exactly on a frame. */
  get meshTime() {
    const time = this.isPlaying ? this.time : this.frame / this.fps;
    return Math.min(time, (this.frames - 1) / this.fps);
  }

  get speed() {
    return this._speed;
  }

  set speed(speed) {
    this._restartClock();
    this._speed = speed;
    if (this._video) this._video.playbackRate = speed;
    this._notify();
  }

  async play() {
    if (this.isPlaying) return;
    if (!this.loop && this.frame === this.frames - 1) this.seek(0);
    this._clockStart = performance.now();
    this.isPlaying = true;
    if (this._video) {
      this._video.loop = this.loop;
      try {
        await this._video.play();
      } catch {
        this.isPlaying = !this._video.paused; // the browser refused, or a pause came first
      }
    }
    this._notify();
  }

  pause() {
    if (!this.isPlaying) return;
    this._restartClock();
    this.isPlaying = false;
    this._video?.pause();
    this._notify();
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play();
  }

  setLoop(loop) {
    this._restartClock();
    this.loop = loop;
    if (this._video) this._video.loop = loop;
    this._notify();
  }

  /** Pause at a frame; -1 is the last one, `frames` the first. */
  pauseAt(frame) {
    this.pause();
    this.seek((frame + this.frames) % this.frames);
  }

  /** Go to a frame, playing or not. */
  seek(frame) {
    // the middle of a frame, so that rounded times in the container cannot show the one before
    const time = (frame + 0.5) / this.fps;
    this._clockTime = time;
    this._clockStart = performance.now();
    if (this._video) {
      this._seekTarget = time;
      if (!this._video.seeking) this._video.currentTime = time;
    }
    this._notify();
  }

  close() {
    this.pause();
    this._abort.abort();
  }

  _listen(video) {
    const { signal } = this._abort;
    video.playbackRate = this._speed;
    video.addEventListener('seeked', () => {
      if (this._seekTarget === null) return;
      // another seek may have been requested meanwhile: only the last one counts
      if (Math.abs(video.currentTime - this._seekTarget) > 0.25 / this.fps) {
        video.currentTime = this._seekTarget;
        return;
      }
      this._seekTarget = null;
      this._notify();
    }, { signal });
    video.addEventListener('ended', () => {
      this.isPlaying = false;
      this._notify();
    }, { signal });
    video.addEventListener('error', () => this._useOwnClock(), { signal });
  }

  /** The video cannot be shown: continue with the own clock. */
  _useOwnClock() {
    this._clockTime = this._seekTarget ?? Math.min(this._video.currentTime || 0, this.duration);
    this._seekTarget = null;
    this._video = null;
    this._clockStart = performance.now();
    this._notify();
  }

  /** Let the own clock count from the current time. */
  _restartClock() {
    this._clockTime = this._video ? this._clockTime : this.time;
    this._clockStart = performance.now();
  }

  _notify() {
    this.dispatchEvent(new Event('change'));
  }
}
