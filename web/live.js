// The connection to the farm, and the newest state of every printer that this person may see.
// Says on the document what it heard, and knows nothing of pages:
//   farm:state  {id, state, before}  a printer changed (before: undefined when it is new)
//   farm:gone   {id}                 a printer is no longer to be seen
//   farm:job    {id, status}         a job changed
//   farm:heard                       after all that one message said
//   farm:found                       the connection is back: what was said meanwhile was not heard
import { $ } from "./farm.js";

const STALE_AFTER = 15;  // s, as printers.telemetry
export const states = new Map();  // printer id -> state: the base with its overlay
const bases = new Map();  // printer id -> what everybody is told (see farm/hub.py)
const overlays = new Map();  // printer id -> what only this person is told
const heardAt = new Map();  // printer id -> ms, by this browser's clock
let connected = false;

const say = (type, detail) => document.dispatchEvent(new CustomEvent(`farm:${type}`, { detail }));

// -- what the server says
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

// RFC 7396; the target stays as it is
function patched(target, patch) {
  const result = { ...(isObject(target) ? target : {}) };
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = isObject(value) ? patched(result[key], value) : value;
  }
  return result;
}

// a field that is not there has no value
const ABSENT = { job: null, age: null, message: "", place: "", maintenance: "" };
const ABSENT_JOB = { elapsed_s: null, left_s: null, progress: null };

function renew(id) {
  const base = bases.get(id), over = overlays.get(id) || {}, before = states.get(id);
  const job = base.job ? { ...ABSENT_JOB, ...base.job, ...over.job } : null;
  const told = before?.job && job && before.job.left_s === job.left_s && before.job.progress === job.progress;
  const state = { ...ABSENT, ...base, ...over, job, age: null, saidAt: told ? before.saidAt : Date.now() };
  if (heardAt.has(id)) state.age = (Date.now() - heardAt.get(id)) / 1000;
  states.set(id, state);
  say("state", { id, state, before });
}

function snapshot(message) {
  const missing = message.all ? [...bases.keys()].filter((id) => !(id in message.printers)) : [];
  for (const [id, base] of Object.entries(message.printers)) {
    bases.set(id, base);
    overlays.delete(id);
    renew(id);
  }
  gone(missing);
  if (message.all && lost) say("found");
  if (message.all) lost = false;
}

function changes(message) {
  for (const [id, patch] of Object.entries(message.printers)) {
    if (!bases.has(id)) continue;  // the next versions tell that it is missing
    bases.set(id, patched(bases.get(id), patch));
    heardAt.set(id, Date.now());
    renew(id);
  }
  gone(message.gone || []);
}

function overlay(message) {
  for (const [id, over] of Object.entries(message.printers)) {
    if (over) overlays.set(id, over);
    else overlays.delete(id);
    if (bases.has(id)) renew(id);
  }
}

function versions(message, socket) {
  const lacking = [];
  for (const [id, [fence, n, revision, age]] of Object.entries(message.printers)) {
    const mine = bases.get(id)?.v || [];
    if (mine[0] !== fence || mine[1] !== n || mine[2] !== revision) lacking.push(id);
    if (age === null) heardAt.delete(id);
    else heardAt.set(id, Date.now() - age * 1000);
    const state = states.get(id);
    if (state) state.age = age;
  }
  if (lacking.length) socket.send(JSON.stringify({ type: "resync", printers: lacking }));
}

function gone(ids) {
  for (const id of ids) {
    for (const known of [bases, overlays, heardAt, states]) known.delete(id);
    say("gone", { id });
  }
}

const jobs = (message) => Object.entries(message.jobs).forEach(([id, status]) => say("job", { id, status }));

const hearing = { snapshot, changes, overlay, versions, jobs };

function hear(socket, message) {
  socket.send(JSON.stringify({ type: "ack", seq: message.seq }));
  hearing[message.type]?.(message, socket);
  if (message.type !== "jobs") say("heard");
}

// -- the connection
let failures = 0, timer = 0, current = null;
let lost = true;  // also at first: what changed since the server wrote this page was not heard

function online(yes) {
  connected = yes;
  document.body.classList.toggle("cut-off", !yes);
  const note = $("#connection");  // not on every page: errors have none
  if (note) note.hidden = yes;
}

function connect() {
  clearTimeout(timer);
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const { live, tv } = document.body.dataset;  // a screen in the lab is known by the secret of its link
  const socket = new WebSocket(`${scheme}://${location.host}${live}`, tv ? ["farm.tv", tv] : []);
  socket.onmessage = (event) => {
    failures = 0;
    online(true);
    hear(socket, JSON.parse(event.data));
  };
  socket.onclose = (event) => {
    if (event.code === 4401) return location.reload();  // the session or the link ended: the server says so
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

// ages grow by themselves
function tick() {
  if (!connected) return;  // then nothing is known of any age: the page says so as a whole
  for (const [id, at] of heardAt) {
    const state = states.get(id);
    if (!state || state.age === null) continue;
    state.age = (Date.now() - at) / 1000;
    const stale = state.age > STALE_AFTER;
    if (!stale && !state.stale) continue;
    state.stale = stale;
    say("state", { id, state, before: state });
  }
  say("heard");
}

document.addEventListener("DOMContentLoaded", () => {
  if (!document.body.dataset.live) return;
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && current?.readyState === WebSocket.CLOSED) connect();
  });
  setInterval(tick, 1000);
  connect();
});
