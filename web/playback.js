// Where the animation stands. The source video is the clock, so that mesh and video cannot drift
// apart; without a video an own clock runs. Knows no mesh and draws nothing.

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
    this._at = 0; // own clock: seconds at the moment `_since`
    this._since = 0;
    this._wanted = null; // a seek that waits for the one under way
    this._ends = new AbortController();
    if (video) this._listen(video);
  }

  /** Seconds from 0 to `duration`. */
  get time() {
    if (this._wanted !== null) return this._wanted;
    if (this._video) return Math.min(this._video.currentTime, this.duration);
    if (!this.isPlaying) return this._at;
    const time = this._at + ((performance.now() - this._since) / 1000) * this._speed;
    if (this.loop) return time % this.duration;
    if (time >= this.duration) this.pause();
    return Math.min(time, this.duration);
  }

  /** The frame that is shown now. */
  get frame() {
    return Math.min(this.frames - 1, Math.floor(this.time * this.fps + 1e-6));
  }

  /** Seconds on the mesh's own time line, where the last frame is the end: at rest a whole frame. */
  get meshTime() {
    const time = this.isPlaying ? this.time : this.frame / this.fps;
    return Math.min(time, (this.frames - 1) / this.fps);
  }

  get speed() {
    return this._speed;
  }

  set speed(speed) {
    this._mark();
    this._speed = speed;
    if (this._video) this._video.playbackRate = speed;
    this._changed();
  }

  async play() {
    if (this.isPlaying) return;
    if (!this.loop && this.frame === this.frames - 1) this.seek(0);
    this._since = performance.now();
    this.isPlaying = true;
    if (this._video) {
      this._video.loop = this.loop;
      try {
        await this._video.play();
      } catch {
        this.isPlaying = !this._video.paused; // the browser refused, or a pause came first
      }
    }
    this._changed();
  }

  pause() {
    if (!this.isPlaying) return;
    this._mark();
    this.isPlaying = false;
    this._video?.pause();
    this._changed();
  }

  toggle() {
    if (this.isPlaying) this.pause();
    else this.play();
  }

  setLoop(loop) {
    this._mark();
    this.loop = loop;
    if (this._video) this._video.loop = loop;
    this._changed();
  }

  /** Stop at a frame; -1 is the last one, `frames` the first. */
  show(frame) {
    this.pause();
    this.seek((frame + this.frames) % this.frames);
  }

  /** Go to a frame, playing or not. */
  seek(frame) {
    // the middle of a frame, so that no rounding of the container shows its neighbour
    const time = (frame + 0.5) / this.fps;
    this._at = time;
    this._since = performance.now();
    if (this._video) {
      this._wanted = time;
      if (!this._video.seeking) this._video.currentTime = time;
    }
    this._changed();
  }

  close() {
    this.pause();
    this._ends.abort();
  }

  _listen(video) {
    const { signal } = this._ends;
    video.playbackRate = this._speed;
    video.addEventListener('seeked', () => {
      if (this._wanted === null) return;
      // while the seek ran another may have been asked for: only the last one counts
      if (Math.abs(video.currentTime - this._wanted) > 0.25 / this.fps) {
        video.currentTime = this._wanted;
        return;
      }
      this._wanted = null;
      this._changed();
    }, { signal });
    video.addEventListener('ended', () => {
      this.isPlaying = false;
      this._changed();
    }, { signal });
    video.addEventListener('error', () => this._loseVideo(), { signal });
  }

  /** The video cannot be shown: go on with the own clock. */
  _loseVideo() {
    this._at = this._wanted ?? Math.min(this._video.currentTime || 0, this.duration);
    this._wanted = null;
    this._video = null;
    this._since = performance.now();
    this._changed();
  }

  /** Make the own clock count from here. */
  _mark() {
    this._at = this._video ? this._at : this.time;
    this._since = performance.now();
  }

  _changed() {
    this.dispatchEvent(new Event('change'));
  }
}
