// The newest state of every printer, painted into what the server rendered. Elements say what they show:
// data-printer="<id>" on a root; in it data-f="<field>" is filled, data-if="<condition>" is shown or hidden,
// data-able="<condition>" can be used or not.
import { $$, shownTime } from "./farm.js";
import { states } from "./live.js";
import { conditions, degrees, duration, heaterName, kindOf, lookOf, percent, titleOf } from "./words.js";

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const painters = {
  name: (el, s) => setText(el, s.name),
  place: (el, s) => setText(el, s.place),
  word: (el, s, kind) => setText(el, lookOf(kind)[0]),
  message: (el, s) => setText(el, s.message),
  maintenance: (el, s) => setText(el, s.maintenance),
  heard: (el, s) => setText(el, duration(s.age)),
  temps: (el, s) => paintTemps(el, s.temperatures),
  bed: (el, s) => { el.value = s.bed; },
  print: (el, s) => { el.value = s.job?.print || ""; },
  title: (el, s) => {
    setText(el, s.job ? titleOf(s.job) : "");
    if (el.tagName === "A") s.job?.id ? el.setAttribute("href", `/jobs/${s.job.id}/`) : el.removeAttribute("href");
  },
  picture: (el, s) => {
    const wanted = s.job?.id ? `/api/jobs/${s.job.id}/picture/` : "";
    el.hidden = !wanted || el.dataset.missing === wanted;
    if (wanted && el.getAttribute("src") !== wanted) el.src = wanted;
  },
  person: (el, s) => setText(el, s.job?.person || ""),
  percent: (el, s) => setText(el, percent(s.job?.progress)),
  progress: (el, s) => { el.value = s.job?.progress || 0; },
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

export function paint(root) {
  const state = states.get(root.dataset.printer);
  if (!state) return;
  const kind = kindOf(state), look = lookOf(kind);
  if (!look) return;
  const shown = conditions(state, kind);
  root.dataset.tone = look[1];
  if ("group" in root.dataset) Object.assign(root.dataset, { group: look[2], kind });
  root.classList.toggle("is-stale", state.stale);
  for (const el of $$("[data-if]", root)) el.hidden = !shown[el.dataset.if];
  for (const el of $$("[data-able]", root)) el.disabled = !shown[el.dataset.able];
  for (const el of $$("[data-f]", root)) painters[el.dataset.f](el, state, kind);
  if ("title" in root.dataset) {
    document.title = `${state.job ? percent(state.job.progress) : look[0]} · ${state.name} · ${document.body.dataset.farm}`;
  }
}

document.addEventListener("farm:state", ({ detail: { id } }) => {
  for (const root of $$(`[data-printer="${id}"]`)) paint(root);
});
document.addEventListener("htmx:afterSettle", (event) => {
  for (const root of $$("[data-printer]", event.target.parentElement || document)) paint(root);
});
document.addEventListener("error", (event) => {  // a job without a picture
  if (event.target.dataset?.f === "picture") {
    event.target.dataset.missing = event.target.getAttribute("src");
    event.target.hidden = true;
  }
}, true);
