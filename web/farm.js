// What every module needs: finding elements, and clock times.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// -- times: the server writes its own time zone, the reader has another
const clock = new Intl.DateTimeFormat([], { hour: "numeric", minute: "2-digit" });
const exact = new Intl.DateTimeFormat([], { hour: "numeric", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat([], { weekday: "short", hour: "numeric", minute: "2-digit" });
const date = new Intl.DateTimeFormat([], { day: "numeric", month: "short", year: "numeric", hour: "numeric", minute: "2-digit" });

export function shownTime(when, seconds = false) {
  const days = Math.abs(new Date(when).setHours(0, 0, 0, 0) - new Date().setHours(0, 0, 0, 0)) / 86400e3;
  if (days < 1) return (seconds ? exact : clock).format(when);
  return (days < 6 ? day : date).format(when);
}
