// Asking the server anew for what it renders: elements with data-look (of any job, or of the job named there) get
// "farm-look" when that changed, at most once a second each; by id, because an answer replaces the element.
import { $, $$ } from "./farm.js";

const lastLook = new Map();

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
  if (!$("#ask")?.open || !target?.matches("[data-look]") || event.detail.requestConfig.verb !== "get") return;
  event.detail.shouldSwap = false;
  look(target);
});
