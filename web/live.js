// The connection to the farm, and the newest state of every printer that this person may see.
// Says on the document what it heard, and knows nothing of pages:
//   farm:state  {id, state, before}  a printer changed (before: undefined when it is new)
//   farm:gone   {id}                 a printer is no longer to be seen
//   farm:job    {id, status}         a job changed
//   farm:heard                       after all that one message said
//   farm:found                       the connection is back: what was said meanwhile was not heard
import { $ } from "./farm.js";

const STALE_AFTER = 15;  // s, as printers.telemetry
export const states = new Map();  // printer id -> state
const heardAt = new Map();  // printer id -> ms, by this browser's clock
let connected = false;

const say = (type, detail) => document.dispatchEvent(new CustomEvent(`farm:${type}`, { detail }));

// -- what the server says
function take(printers, whole) {
  for (const [id, change] of Object.entries(printers)) {
    const before = states.get(id), state = { ...(whole ? {} : before), ...change, saidAt: Date.now() };
    if (!("job" in change) && before) state.saidAt = before.saidAt;
    states.set(id, state);
    if (change.age !== undefined && change.age !== null) heardAt.set(id, Date.now() - change.age * 1000);
    say("state", { id, state, before });
  }
}

function gone(ids) {
  for (const id of ids) {
    states.delete(id);
    say("gone", { id });
  }
}

function hear(socket, message) {
  if (message.seq !== undefined) socket.send(JSON.stringify({ ack: message.seq }));
  if (message.type === "job") return say("job", { id: message.id, status: message.status });
  take(message.printers || {}, message.type === "snapshot");
  gone(message.gone || []);
  if (message.type === "snapshot") {
    gone([...states.keys()].filter((id) => !(id in message.printers)));
    if (lost) say("found");
    lost = false;
  }
  return say("heard");
}

// -- the connection
let failures = 0, timer = 0, current = null;
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
