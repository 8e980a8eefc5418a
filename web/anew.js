// Asking the server anew for what it renders: elements with data-look (of any job, or of the job named there) get
// "farm-look" when that changed, at most once a second each; by id, because an answer replaces the element.
import { $, $$ } from "./farm.js";

const lastLook = new Map();
const keyboard = new Map();  // element id -> what reachedIn said of it

export function look({ id }) {
  const wait = 1000 - (Date.now() - (lastLook.get(id) || 0));
  if (wait > 1000) return;  // one is on its way
  lastLook.set(id, Date.now() + Math.max(0, wait));
  setTimeout(() => anew(id), Math.max(0, wait));
}

function anew(id) {
  // what somebody is being asked about must still be there when they answer
  if ($("#ask")?.open) return setTimeout(() => anew(id), 500);
  const element = document.getElementById(id);
  if (element) htmx.trigger(element, "farm-look");
  return undefined;
}

function jobChanged(id) {
  for (const el of $$("[data-look]")) if (!el.dataset.look || el.dataset.look === id) look(el);
}

document.addEventListener("farm:job", ({ detail: { id } }) => jobChanged(id));
document.addEventListener("farm:state", ({ detail: { state, before } }) => {
  if (before && before.bed !== state.bed) jobChanged("");
});
document.addEventListener("farm:found", () => { for (const el of $$("[data-look]")) look(el); });
// an answer that was on its way when somebody was asked: their form must not be replaced under the question
document.addEventListener("htmx:beforeSwap", (event) => {
  const { target } = event.detail;
  if (!target?.matches("[data-look]")) return;
  const looks = event.detail.requestConfig.verb === "get", reached = reachedIn(target);
  if (looks && $("#ask")?.open) {
    event.detail.shouldSwap = false;
    look(target);
  } else keyboard.set(target.id, looks ? reached : { ...reached, text: null });  // what was sent is not written again
});
document.addEventListener("htmx:afterSwap", ({ detail: { target } }) => {
  if (!keyboard.has(target?.id)) return;
  reachAgain(document.getElementById(target.id), keyboard.get(target.id));
  keyboard.delete(target.id);
});

// where somebody is with the keyboard in what is replaced, and what they have written there
const reachable = "a[href], button, summary, select, textarea, input:not([type=hidden])";
const written = ["text", "search", "number", "textarea"];

export function reachedIn(element) {
  const active = document.activeElement, n = $$(reachable, element).indexOf(active);
  return { n, text: written.includes(active.type) ? active.value : null };
}

export function reachAgain(element, { n, text }) {
  const again = element && $$(reachable, element)[n];
  if (!again) return;
  if (text !== null && written.includes(again.type)) again.value = text;
  again.focus({ preventScroll: true });
}
