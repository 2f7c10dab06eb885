// The few helpers with which every part of the page builds its elements. Text is always text.

/** The element with this id; it stands in index.html, so its absence is a bug. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`index.html has no #${id}`);
  return found;
}

/**
 * A new element. Properties are set as properties, except `class`, `role`, `data-*` and `aria-*`;
 * `on*` keys are listeners. Children are nodes or text, never markup.
 */
export function el(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key === 'class' || key === 'role' || key.includes('-')) {
      element.setAttribute(key, String(value));
    } else element[key] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Give `element` these children in place of those that it had. */
export function fill(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

/** Change the text only if it is another one: screen readers repeat what is set again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** True if the person asked the system for less motion. */
export function wantsLessMotion() {
  return matchMedia('(prefers-reduced-motion: reduce)').matches;
}

/** Put text on the clipboard; false where the browser does not let us (plain http, an old one). */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
