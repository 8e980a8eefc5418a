// The newest state of every printer, painted into what the server rendered. Elements say what they show:
// data-printer="<id>" on a root; in it data-f="<field>" is filled, data-if="<condition>" is shown or hidden,
// data-able="<condition>" can be used or not;
// data-look asks the server anew when a job changed. Words and their order come from the page (#looks).
import { $, $$, shownTime } from "./farm.js";

const STALE_AFTER = 15;  // s, as printers.telemetry
const states = new Map();  // printer id -> state
const heardAt = new Map();  // printer id -> ms, by this browser's clock
let looks = {};
let connected = false;

// -- numbers in words, as farm/templatetags/shown.py
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(minutes / 1440);
  if (!hours) return `${minutes} min`;
  return days ? `${days} d ${hours % 24} h` : `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
}
const percent = (fraction) => `${Math.floor((fraction || 0) * 100)} %`;
const degrees = (value) => (value === null ? "–" : value.toFixed(0));
const heaterName = (name) => {
  if (!name.startsWith("tool")) return name[0].toUpperCase() + name.slice(1);
  const index = Number(name.slice(4));
  return index ? `Nozzle ${index + 1}` : "Nozzle";
};

// -- what a state means, as printers/looks.py
function kindOf(s) {
  const ours = s.job ? s.job.status : "";
  if (!s.enabled) return "off";
  if (s.stale || s.status === "offline") {
    if (s.job) return "lost";
    return s.age === null || !s.stale ? "offline" : "stale";
  }
  if (ours === "unknown" && s.status !== "error") return "unclear";
  if (s.status !== "idle") return s.status;
  if (ours === "uploading") return "receiving";
  if (ours === "starting") return "starting";
  if (s.maintenance) return "maintenance";
  return s.bed_clear ? "ready" : "bed";
}

function titleOf(job) {
  return job.file || (job.status === "external" ? "Started at the machine" : "Another person's print");
}

function conditions(s, kind) {
  const job = s.job, heard = !s.stale, ours = Boolean(job && job.print && heard);
  return {
    job,
    left: job && job.left_s !== null,
    elapsed: job && job.elapsed_s !== null,
    ends: job && job.left_s !== null && s.status === "printing",
    message: s.message,
    maintenance: s.maintenance,
    heard: s.stale && s.age !== null,
    bed: kind === "bed",
    unclear: kind === "unclear",
    ready: kind === "ready",
    clear: heard && s.status === "idle" && !job && !s.bed_clear,
    pause: ours && s.status === "printing",
    resume: ours && s.status === "paused",
    cancel: ours && (s.status === "printing" || s.status === "paused"),
    still: !heard || s.status === "printing" || s.status === "busy",
    move: heard && s.status !== "printing" && s.status !== "busy",
  };
}

// -- painting
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const painters = {
  name: (el, s) => setText(el, s.name),
  place: (el, s) => setText(el, s.place),
  word: (el, s, kind) => setText(el, looks[kind][0]),
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
  left: (el, s) => setText(el, duration(s.job?.left_s)),
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

function paint(root) {
  const state = states.get(root.dataset.printer);
  if (!state) return;
  const kind = kindOf(state), look = looks[kind];
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

// -- the wall: counts, filter, order
let show = new URLSearchParams(location.search).get("show") || "";
let wanted = "";

function arrange() {
  const wall = $("[data-wall]");
  if (!wall) return;
  const cards = $$(".card", wall), counts = { "": cards.length };
  for (const card of cards) {
    counts[card.dataset.group] = (counts[card.dataset.group] || 0) + 1;
    const words = `${$("[data-f=name]", card).textContent} ${$("[data-f=place]", card).textContent}`.toLowerCase();
    card.hidden = Boolean(show && card.dataset.group !== show) || !words.includes(wanted);
  }
  for (const el of $$("[data-count]")) setText(el, String(counts[el.dataset.count] || 0));
  $("#nothing").hidden = !cards.length || cards.some((card) => !card.hidden);
  order(wall, cards);
}

function order(wall, cards) {
  // never under the hands of somebody who is about to press a button
  if (wall.matches(":hover") || wall.contains(document.activeElement) || $("#ask").open) return;
  const rank = (card) => looks[card.dataset.kind]?.[3] ?? 99;
  const name = (card) => $("[data-f=name]", card).textContent.toLowerCase();
  const sorted = [...cards].sort((a, b) => rank(a) - rank(b) || (name(a) < name(b) ? -1 : 1));
  if (sorted.some((card, i) => card !== cards[i])) wall.append(...sorted);
}

function filterWall(event) {
  const chip = event.target.closest?.("[data-show]");
  if (!chip || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  show = chip.dataset.show;
  for (const other of $$("[data-show]")) other.toggleAttribute("aria-current", other === chip);
  history.replaceState(null, "", chip.href);
  arrange();
}

// -- asking the server anew, at most once a second each; by id, because an answer replaces the element
const lastLook = new Map();

function look({ id }) {
  const wait = 1000 - (Date.now() - (lastLook.get(id) || 0));
  if (wait > 1000) return;  // one is on its way
  lastLook.set(id, Date.now() + Math.max(0, wait));
  setTimeout(() => {
    const element = document.getElementById(id);
    if (element) htmx.trigger(element, "farm-look");
  }, Math.max(0, wait));
}

function jobChanged(id) {
  for (const el of $$("[data-look]")) if (!el.dataset.look || el.dataset.look === id) look(el);
}

// -- what the server says
function take(printers, whole) {
  let anew = false;
  for (const [id, change] of Object.entries(printers)) {
    const before = states.get(id), state = { ...(whole ? {} : before), ...change, saidAt: Date.now() };
    if (!("job" in change) && before) state.saidAt = before.saidAt;
    states.set(id, state);
    if (change.age !== undefined && change.age !== null) heardAt.set(id, Date.now() - change.age * 1000);
    if (before && before.bed !== state.bed) anew = true;
    if ($("[data-wall]") && !document.getElementById(`card-${id}`)) look($("[data-wall]"));
    for (const root of $$(`[data-printer="${id}"]`)) paint(root);
  }
  if (anew) jobChanged("");
  arrange();
}

function gone(ids) {
  for (const id of ids) {
    states.delete(id);
    document.getElementById(`card-${id}`)?.remove();
  }
  arrange();
}

function hear(socket, message) {
  if (message.seq !== undefined) socket.send(JSON.stringify({ ack: message.seq }));
  if (message.type === "job") return jobChanged(message.id);
  take(message.printers || {}, message.type === "snapshot");
  gone(message.gone || []);
  if (message.type === "snapshot") {
    const unseen = [...states.keys()].filter((id) => !(id in message.printers));
    gone(unseen);
    if (lost) for (const el of $$("[data-look]")) look(el);  // what was said meanwhile was not heard
    lost = false;
  }
  return undefined;
}

// -- the connection
let failures = 0, timer = 0;
let lost = true;  // also at first: what changed since the server wrote this page was not heard

function online(yes) {
  connected = yes;
  document.body.classList.toggle("cut-off", !yes);
  $("#connection").hidden = yes;
}

function connect() {
  clearTimeout(timer);
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}${document.body.dataset.live}`);
  socket.onmessage = (event) => {
    failures = 0;
    online(true);
    hear(socket, JSON.parse(event.data));
  };
  socket.onclose = (event) => {
    if (event.code === 4401) return location.reload();  // the session ended: the server asks to log in
    lost = true;
    failures += 1;
    // the first break may be a restart or a page that is being left: say it when it lasts
    if (failures > 1) online(false);
    else connected = false;
    timer = setTimeout(connect, Math.min(30, 2 ** failures / 2) * 1000 * (0.5 + Math.random() / 2));
    return undefined;
  };
  current = socket;
}
let current = null;

function tick() {
  if (!connected) return;  // then nothing is known of any age: the page says so as a whole
  for (const [id, at] of heardAt) {
    const state = states.get(id);
    if (!state || state.age === null) continue;
    state.age = (Date.now() - at) / 1000;
    const stale = state.age > STALE_AFTER;
    if (!stale && !state.stale) continue;
    state.stale = stale;
    for (const root of $$(`[data-printer="${id}"]`)) paint(root);
  }
  arrange();
}

document.addEventListener("DOMContentLoaded", () => {
  looks = JSON.parse($("#looks")?.textContent || "{}");
  if (!document.body.dataset.live) return;
  document.addEventListener("click", filterWall);
  $("#find")?.addEventListener("input", (event) => { wanted = event.target.value.trim().toLowerCase(); arrange(); });
  document.addEventListener("htmx:afterSettle", (event) => {
    for (const root of $$("[data-printer]", event.target.parentElement || document)) paint(root);
    arrange();
  });
  document.addEventListener("error", (event) => {  // a job without a picture
    if (event.target.dataset?.f === "picture") {
      event.target.dataset.missing = event.target.getAttribute("src");
      event.target.hidden = true;
    }
  }, true);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && current?.readyState === WebSocket.CLOSED) connect();
  });
  setInterval(tick, 1000);
  connect();
});
