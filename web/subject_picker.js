// A picture on which a person marks the subject: a drag is a box, a tap is a point; arrow keys and number
// fields do the same. Knows neither clips nor jobs. Used by subject_field.js and subject_dialog.js.

import { el, fill, setText } from './dom.js';

export const WHOLE = '0,0,1,1'; // as subject_box: no choice
const HAS_TOUCH = navigator.maxTouchPoints > 0;
const TAP_PX = 6; // a pointer that moves less is a tap
const SMALLEST = 0.02; // side of a box, as a part of the picture
const KEY_STEP = 0.02;
const FIRST_BOX = [0.3, 0.2, 0.7, 0.8]; // the first arrow key puts it here
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const SIDES = ['Left', 'Top', 'Right', 'Bottom'];
const CORNERS = [[0, 1], [2, 1], [2, 3], [0, 3]]; // positions in a box of each corner's x and y

export class SubjectPicker {
  /**
   * `onChange()` is called after every change of `choice`: null, { box: [x0, y0, x1, y1] } or
   * { point: [x, y] }, in fractions of the picture. `isArmed`: a finger draws at once; otherwise it
   * scrolls the page until the button "Draw a box" is pressed.
   */
  constructor({ onChange = () => {}, isArmed = false } = {}) {
    this.choice = null;
    this._onChange = onChange;
    this._isAlwaysArmed = isArmed;
    this._drag = null;
    this.element = this._build();
    this._draw();
  }

  /** The choice as fields of POST /jobs and of a retry; empty without one. */
  get fields() {
    const { box, point } = this.choice ?? {};
    if (box) return { subject_box: asText(box) };
    return point ? { subject_point: asText(point) } : {};
  }

  /** Show a picture (a canvas) and the boxes that may be meant, as texts "x0,y0,x1,y1". */
  show(picture, boxes = []) {
    picture.setAttribute('aria-hidden', 'true');
    this._picture.firstChild.replaceWith(picture);
    this._picture.style.setProperty('--aspect', String(picture.width / picture.height));
    this._boxes = boxes.map((text) => text.split(',').map(Number)).filter(isBox);
    this._suggestions.hidden = !this._boxes.length;
    fill(this._suggestions, ...this._boxes.map((box, k) => el('button', {
      type: 'button', class: 'link', onclick: () => this.choose({ box }),
    }, `Use subject ${k + 1}`)));
    fill(this._outlines, ...this._boxes.map((box, k) => placed(el('span', { class: 'found-box' }, String(k + 1)), box)));
  }

  choose(choice) {
    this.choice = choice;
    this._arm(false);
    this._draw();
    this._onChange();
  }

  _build() {
    const handles = CORNERS.map((corner, k) => el('span', { class: 'handle', 'data-corner': k }));
    this._outlines = el('div', { class: 'found-boxes' });
    this._box = el('div', { class: 'chosen-box' }, ...handles);
    this._point = el('div', { class: 'chosen-point' });
    this._picture = el('div', {
      class: 'picker-picture', tabIndex: 0, role: 'application',
      'aria-label': 'The first frame used. Arrow keys move a box around the subject, '
        + 'Shift and arrow keys change its size, Escape removes it.',
      onpointerdown: (event) => this._onDown(event),
      onpointermove: (event) => this._onMove(event),
      onpointerup: (event) => this._onUp(event),
      onpointercancel: () => this._onCancel(),
      onkeydown: (event) => this._onKey(event),
    }, el('canvas'), this._outlines, this._box, this._point);
    this._text = el('p', { class: 'picker-text', 'aria-live': 'polite' });
    this._drawButton = el('button', {
      type: 'button', class: 'link draw-box', 'aria-pressed': 'false', onclick: () => this._arm(!this._isArmed),
    }, 'Draw a box');
    this._clearButton = el('button', { type: 'button', class: 'link', onclick: () => this._clear() }, 'Clear');
    this._suggestions = el('p', { class: 'picker-buttons', hidden: true });
    this._numbers = SIDES.map(() => el('input', { type: 'number', step: 'any', oninput: () => this._onNumbers() }));
    const numbers = el('details', { class: 'picker-numbers' }, el('summary', {}, 'In numbers'),
      el('div', { class: 'controls' }, ...SIDES.map((side, k) => el('label', {}, side,
        el('span', { class: 'unit' }, this._numbers[k], ' %')))));
    this._arm(false);
    return el('div', { class: 'picker' }, this._picture, el('div', { class: 'picker-side' },
      this._text, this._suggestions,
      el('p', { class: 'picker-buttons' }, this._drawButton, this._clearButton), numbers));
  }

  get _isArmed() {
    return this._drawButton.getAttribute('aria-pressed') === 'true';
  }

  get _hint() {
    if (!HAS_TOUCH) return 'Drag a box around the subject, or click it.';
    if (this._isAlwaysArmed) return 'Drag a box around the subject, or tap it.';
    return this._isArmed ? 'Drag a box around the subject.' : 'Tap the subject, or draw a box around it.';
  }

  _arm(isArmed) {
    this._drawButton.hidden = this._isAlwaysArmed || !HAS_TOUCH;
    this._drawButton.setAttribute('aria-pressed', String(isArmed));
    this._picture.classList.toggle('is-armed', isArmed || this._isAlwaysArmed);
    if (!this.choice) setText(this._text, this._hint);
  }

  _clear() {
    this._picture.focus({ preventScroll: true }); // the button is about to be hidden
    this.choose(null);
  }

  // --- pointer

  _onDown(event) {
    if (!event.isPrimary || event.button !== 0) return;
    const at = this._positionOf(event);
    const { box } = this.choice ?? {};
    const corner = event.target.dataset.corner;
    const from = corner === undefined ? at : CORNERS[(Number(corner) + 2) % 4].map((k) => box[k]);
    const moved = corner === undefined && box && isInside(at, box) ? box : null;
    this._drag = { from, at, moved, isCorner: corner !== undefined, x: event.clientX, y: event.clientY,
      before: this.choice, isTap: true };
    this._picture.setPointerCapture(event.pointerId);
  }

  _onMove(event) {
    const drag = this._drag;
    if (!drag || !event.isPrimary) return;
    if (Math.hypot(event.clientX - drag.x, event.clientY - drag.y) >= TAP_PX) drag.isTap = false;
    if (drag.isTap) return;
    const at = this._positionOf(event);
    const box = drag.moved ? movedBox(drag.moved, at[0] - drag.at[0], at[1] - drag.at[1])
      : between(drag.from, at);
    this.choice = { box };
    this._draw();
  }

  _onUp(event) {
    const drag = this._drag;
    if (!drag || !event.isPrimary) return;
    this._drag = null;
    if (drag.isTap) this.choose(drag.isCorner ? drag.before : { point: this._positionOf(event) });
    else this.choose(isBox(this.choice.box) ? this.choice : drag.before);
  }

  /** The browser has taken the pointer, to scroll the page. */
  _onCancel() {
    if (!this._drag) return;
    this.choice = this._drag.before;
    this._drag = null;
    this._draw();
  }

  _positionOf(event) {
    const { left, top, width, height } = this._picture.getBoundingClientRect();
    return [clamped((event.clientX - left) / width), clamped((event.clientY - top) / height)];
  }

  // --- keys and numbers

  _onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const move = MOVES[event.key];
    if (move) this._moveBy(move.map((part) => part * KEY_STEP), event.shiftKey);
    else if (event.key === 'Escape' && this.choice) this.choose(null);
    else return;
    event.preventDefault();
    event.stopPropagation(); // the viewer's keys must not see it
  }

  _moveBy([x, y], isResize) {
    const { box, point } = this.choice ?? { box: null };
    if (point) this.choose({ point: [clamped(point[0] + x), clamped(point[1] + y)] });
    else if (!box) this.choose({ box: FIRST_BOX });
    else if (!isResize) this.choose({ box: movedBox(box, x, y) });
    else {
      const right = Math.max(box[0] + SMALLEST, clamped(box[2] + x));
      this.choose({ box: [box[0], box[1], right, Math.max(box[1] + SMALLEST, clamped(box[3] + y))] });
    }
  }

  _onNumbers() {
    const box = this._numbers.map(({ value }) => (value === '' ? NaN : Number(value) / 100));
    if (isBox(box)) this.choose({ box });
    else if (!box.some(Number.isNaN)) {
      setText(this._text, 'Left must be less than right, top less than bottom, all from 0 to 100.');
    }
  }

  // --- what is shown

  _draw() {
    const { box, point } = this.choice ?? {};
    this._box.hidden = !box;
    this._point.hidden = !point;
    if (box) placed(this._box, box);
    if (point) placed(this._point, [...point, ...point]);
    this._clearButton.hidden = !this.choice;
    // a drag is announced once, at its end
    if (!this._drag) setText(this._text, this.choice ? describe(this.choice) : this._hint);
    for (const [k, input] of this._numbers.entries()) {
      if (document.activeElement !== input) input.value = box ? String(Math.round(box[k] * 1000) / 10) : '';
    }
  }
}

function describe(choice) {
  const percent = (part) => `${Math.round(part * 100)}%`;
  const { box, point } = choice;
  if (box) {
    return `Box from ${percent(box[0])} to ${percent(box[2])} across and from ${percent(box[1])} to `
      + `${percent(box[3])} down.`;
  }
  return `Point at ${percent(point[0])} across and ${percent(point[1])} down.`;
}

/** The choice in the options of a job; null if it has none. */
export function choiceIn({ subject_box: box, subject_point: point }) {
  if (box && box !== WHOLE) return { box: box.split(',').map(Number) };
  return point ? { point: point.split(',').map(Number) } : null;
}

/** "0.1235,0.2,0.5,0.9" */
function asText(parts) {
  return parts.map((part) => Number(part.toFixed(4))).join(',');
}

function isBox(box) {
  const isRoomy = (low, high) => high - low >= SMALLEST - 1e-9;
  return box.length === 4 && box.every((part) => part >= 0 && part <= 1)
    && isRoomy(box[0], box[2]) && isRoomy(box[1], box[3]);
}

function isInside([x, y], box) {
  return x > box[0] && x < box[2] && y > box[1] && y < box[3];
}

function between([x0, y0], [x1, y1]) {
  return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
}

/** The box of the same size, moved as far as the picture's edges allow. */
function movedBox(box, x, y) {
  const left = Math.min(Math.max(x, -box[0]), 1 - box[2]);
  const down = Math.min(Math.max(y, -box[1]), 1 - box[3]);
  return [box[0] + left, box[1] + down, box[2] + left, box[3] + down];
}

function clamped(part) {
  return Math.min(1, Math.max(0, part));
}

/** Put an element over a box of the picture. */
function placed(element, [x0, y0, x1, y1]) {
  for (const [name, value] of Object.entries({ x0, y0, x1, y1 })) element.style.setProperty(`--${name}`, String(value));
  return element;
}
