// Small functions to find, create and fill elements, used by every module. Text is never parsed as
// HTML.

/** The element with this id. Throws if there is none: that is a bug. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
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

/** Replace all children of `element`. */
export function fill(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

/** Set the text only if it differs: screen readers announce it again each time it is set. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** True if the system is set to reduced motion. */
export function wantsLessMotion() {
  return matchMedia('(prefers-reduced-motion: reduce)').matches;
}

/** Copy text to the clipboard; false if the browser does not allow it (plain http, an old browser). */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
