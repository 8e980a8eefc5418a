// The newest state of every printer, painted into what the server rendered. Elements say what they show:
// data-printer="<id>" on a root; in it data-f="<field>" is filled, data-if="<condition>" is shown or hidden,
// data-able="<condition>" can be used or not.
import { $$, shownTime } from "./farm.js";
import { states } from "./live.js";
import { conditions, degrees, duration, heaterName, kindOf, lookOf, nextOf, percent, titleOf, waited } from "./words.js";

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const painters = {
  name: (el, s) => setText(el, s.name),
  place: (el, s) => setText(el, s.place),
  word: (el, s, kind) => setText(el, lookOf(kind)[0]),
  shape: (el, s, kind) => {
    const wanted = `${el.getAttribute("href").split("#")[0]}#${lookOf(kind)[4]}`;
    if (el.getAttribute("href") !== wanted) el.setAttribute("href", wanted);
  },
  waited: (el, s) => setText(el, duration(waited(s))),
  material: (el, s) => setText(el, s.job?.material || ""),
  layer: (el, s) => setText(el, s.job?.layer ? `${s.job.layer}${s.job.layers ? ` of ${s.job.layers}` : ""}` : ""),
  next: (el, s) => setText(el, nextOf(s)),
  message: (el, s) => setText(el, s.message),
  maintenance: (el, s) => setText(el, s.maintenance),
  heard: (el, s) => setText(el, duration(s.age)),
  temps: (el, s) => paintTemps(el, s.temperatures),
  bed: (el, s) => { if (el.value !== String(s.bed)) el.value = s.bed; },
  print: (el, s) => { if (el.value !== (s.job?.print || "")) el.value = s.job?.print || ""; },
  title: (el, s) => {
    setText(el, s.job ? titleOf(s.job) : "");
    if (el.tagName === "A") s.job?.id ? el.setAttribute("href", `/jobs/${s.job.id}/`) : el.removeAttribute("href");
  },
  picture: (el, s) => {
    const wanted = s.job?.id ? `/api/jobs/${s.job.id}/picture/` : "", hidden = !wanted || el.dataset.missing === wanted;
    if (el.hidden !== hidden) el.hidden = hidden;
    if (wanted && el.getAttribute("src") !== wanted) el.src = wanted;
  },
  person: (el, s) => setText(el, s.job?.person || ""),
  percent: (el, s) => setText(el, percent(s.job?.progress)),
  progress: (el, s) => { if (el.value !== (s.job?.progress || 0)) el.value = s.job?.progress || 0; },
  elapsed: (el, s) => setText(el, duration(s.job?.elapsed_s)),
  left: (el, s) => setText(el, `${s.job?.about ? "about " : ""}${duration(s.job?.left_s)}`),
  ends: (el, s) => {
    if (!s.job || s.job.left_s === null) return;
    const when = new Date((s.saidAt || Date.now()) + s.job.left_s * 1000);
    el.dateTime = when.toISOString();
    setText(el, shownTime(when));
  },
};

function paintTemps(list, temperatures) {
  const names = Object.keys(temperatures);
  if (names.join() !== [...list.children].map((row) => row.dataset.heater).join()) {
    list.replaceChildren(...names.map((name) => {
      const row = document.createElement("div"), dt = document.createElement("dt");
      row.dataset.heater = name;
      dt.textContent = heaterName(name);
      row.append(dt, document.createElement("dd"));
      return row;
    }));
  }
  names.forEach((name, i) => {
    const { actual, target } = temperatures[name], dd = list.children[i].lastElementChild;
    const text = `${degrees(actual)}${target ? ` / ${degrees(target)}` : ""} °C`;
    if (dd.textContent === text) return;
    const wanted = document.createElement("span");
    wanted.className = "target";
    wanted.textContent = target ? ` / ${degrees(target)}` : "";
    dd.replaceChildren(degrees(actual), wanted, " °C");
  });
}

// what of a root is painted: found once, and anew after htmx changed the page
let parts = new WeakMap();

function partsOf(root) {
  if (!parts.has(root)) {
    const [ifs, ables, fields] = ["[data-if]", "[data-able]", "[data-f]"].map((selector) => $$(selector, root));
    parts.set(root, { ifs, ables, fields });
  }
  return parts.get(root);
}

export function paint(root) {
  const state = states.get(root.dataset.printer);
  if (!state) return;
  const kind = kindOf(state), look = lookOf(kind);
  if (!look) return;
  const shown = conditions(state, kind), { ifs, ables, fields } = partsOf(root);
  if (root.dataset.tone !== look[1]) root.dataset.tone = look[1];
  if ("group" in root.dataset && root.dataset.kind !== kind) Object.assign(root.dataset, { group: look[2], kind });
  root.classList.toggle("is-stale", state.stale);
  for (const el of ifs) if (el.hidden === Boolean(shown[el.dataset.if])) el.hidden = !shown[el.dataset.if];
  for (const el of ables) el.disabled = !shown[el.dataset.able];
  for (const el of fields) painters[el.dataset.f](el, state, kind);
  if ("title" in root.dataset) {
    document.title = `${state.job ? percent(state.job.progress) : look[0]} · ${state.name} · ${document.body.dataset.farm}`;
  }
}

// -- all that changed, once a frame
const due = new Set();
let roots = null;  // printer id -> its roots on this page
let booked = false;

function indexed() {
  roots = new Map();
  sight.disconnect();
  for (const root of $$("[data-printer]")) {
    const id = root.dataset.printer;
    roots.set(id, [...(roots.get(id) || []), root]);
    if (root.matches(".wall > .card")) sight.observe(root);
  }
  return roots;
}

// Of a long wall, first what can be seen; the rest whenever the browser has nothing better to do.
const away = new Set(), later = new Set();  // cards
const sight = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) away.add(target);
    else if (away.delete(target) && later.delete(target)) paint(target);
  }
}, { rootMargin: "400px" });
let idle = false;

function whenIdle(deadline) {
  for (const root of later) {
    if (deadline.timeRemaining() < 2) break;
    later.delete(root);
    paint(root);
  }
  idle = later.size > 0;
  if (idle) requestIdleCallback(whenIdle);
}

function paintInTurn(root) {
  const state = states.get(root.dataset.printer);
  if (!away.has(root) || !state || root.dataset.kind !== kindOf(state)) return paint(root);
  return later.add(root);
}

function flush() {
  booked = false;
  if (!due.size) return;
  const ids = [...due], known = roots || indexed();
  due.clear();
  for (const id of ids) known.get(id)?.forEach(paintInTurn);
  document.dispatchEvent(new CustomEvent("farm:painted", { detail: { ids } }));
  if (!later.size || idle) return;
  idle = true;
  if (window.requestIdleCallback) requestIdleCallback(whenIdle);
  else whenIdle({ timeRemaining: () => Infinity });  // Safari
}

// a page that nobody looks at has no frames, but a title
function book() {
  if (booked) return;
  booked = true;
  if (document.hidden) setTimeout(flush, 0);
  else requestAnimationFrame(flush);
}

function anew() {
  roots = null;
  away.clear();
  later.clear();
  parts = new WeakMap();
}

document.addEventListener("farm:state", ({ detail: { id } }) => {
  due.add(id);
  book();
});
document.addEventListener("visibilitychange", () => { if (document.hidden) setTimeout(flush, 0); });
document.addEventListener("htmx:afterSettle", (event) => {
  anew();
  for (const root of $$("[data-printer]", event.target.parentElement || document)) paint(root);
});
// for how long: everything else that moves is told by the farm
setInterval(() => {
  for (const [id, state] of states) {
    if (lookOf(kindOf(state))?.[2] === "attention") due.add(id);
  }
  if (due.size) book();
}, 15000);
function withoutPicture(image) {
  image.dataset.missing = image.getAttribute("src");
  image.hidden = true;
}

document.addEventListener("error", ({ target }) => { if (target.dataset?.f === "picture") withoutPicture(target); }, true);
document.addEventListener("DOMContentLoaded", () => {  // those that were asked for before this script came
  for (const image of $$("img[data-f=picture][src]")) if (image.complete && !image.naturalWidth) withoutPicture(image);
});
