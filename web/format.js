// Numbers, times and words as text for people. Pure functions.

const UNITS = ['bytes', 'KB', 'MB', 'GB'];

/** 731204 -> "731 KB": decimal units, three digits. */
export function bytes(count) {
  let amount = count;
  let unit = 0;
  while (amount >= 999.5 && unit < UNITS.length - 1) {
    amount /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || amount >= 100 ? 0 : amount >= 10 ? 1 : 2;
  return `${amount.toFixed(digits)} ${UNITS[unit]}`;
}

/** A duration: "0.8 s", "14 s", "2 min 05 s", "1 h 04 min". */
export function seconds(count) {
  if (count < 9.95) return `${count.toFixed(1)} s`;
  const whole = Math.round(count);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${padded(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${padded(Math.floor((whole % 3600) / 60))} min`;
}

/** The time left; less exact than `seconds`, because it is an estimate. */
export function remaining(count) {
  if (count < 2) return 'a few seconds left';
  if (count < 90) return `about ${Math.ceil(count)} s left`;
  if (count < 5400) return `about ${Math.round(count / 60)} min left`;
  return `about ${Math.round(count / 3600)} h left`;
}

/** 23.976023 -> "23.98"; 12 -> "12". */
export function rate(fps) {
  return String(Math.round(fps * 100) / 100);
}

/** 19874 -> "19,874", in the format of the browser's language. */
export function number(count) {
  return count.toLocaleString();
}

/** "1 frame", "16 frames". */
export function countOf(count, noun) {
  return `${number(count)} ${noun}${count === 1 ? '' : 's'}`;
}

/** How long ago `time` was; a date for more than a day. */
export function ago(time, now = Date.now()) {
  const passed = (now - new Date(time).getTime()) / 1000;
  if (passed < 60) return 'just now';
  if (passed < 3600) return `${Math.floor(passed / 60)} min ago`;
  if (passed < 86400) return `${Math.floor(passed / 3600)} h ago`;
  return new Date(time).toLocaleDateString(undefined, { day: 'numeric', month: 'short' });
}

/** A date and time to the minute, in the format of the browser's language. */
export function dateTime(time) {
  return new Date(time).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' });
}

/** "2 jobs are before it"; empty if there is none. */
export function jobsBefore(count) {
  if (!count) return '';
  return count === 1 ? '1 job is before it' : `${number(count)} jobs are before it`;
}

/** The text with a capital first letter. */
export function capitalised(text) {
  return text[0].toUpperCase() + text.slice(1);
}

/** An ordinal for "every 2nd frame". */
export function ordinal(count) {
  const tens = count % 100;
  const suffix = tens > 10 && tens < 14 ? 'th' : (['th', 'st', 'nd', 'rd'][count % 10] ?? 'th');
  return `${count}${suffix}`;
}

function padded(count) {
  return String(count).padStart(2, '0');
}
