// One printer: its heat, its console, the keys of its jog pad, and what can be asked of it now.
import { $, $$ } from "../farm.js";
import { openConsole } from "../console.js";
import { watchHeat } from "../heat.js";
import { states } from "../live.js";
import "../layers.js";

// -- what can be asked of it, and why not (words of printers.parts)
const NOT_THERE = new Set(["", "offline", "connecting", "error"]);

function allow(reasons, state) {
  const doing = state.stale ? "" : state.status;
  const why = { still: reasons.still[doing] || "", mute: reasons.mute[doing] || "", reachable: NOT_THERE.has(doing) ? "no" : "" };
  for (const field of $$("[data-usable]")) field.disabled = Boolean(why[field.dataset.usable]);
  for (const words of $$("[data-why]")) {
    words.hidden = !why[words.dataset.why];
    if (words.textContent !== why[words.dataset.why]) words.textContent = why[words.dataset.why];
  }
  for (const words of $$("[data-unless]")) words.hidden = Boolean(why[words.dataset.unless]);
}

// -- the pad: one move for each press, however long a key is held
function padKeys(form) {
  $(".jog", form).addEventListener("keydown", (event) => {
    const meant = $(`[data-key="${CSS.escape(event.key)}"]`, form);
    if (!meant || event.ctrlKey || event.metaKey || event.altKey || $("fieldset", form).disabled) return;
    event.preventDefault();
    if (event.repeat) return;
    if (meant.tagName === "BUTTON") meant.click();
    else meant.checked = true;
  });
}

// -- what became of what was just asked, where the list of commands is out of sight (it is read out from the list)
let asked = false, timer = 0;

function tell() {
  const note = $("#became"), list = $("#commands"), newest = $(".outcomes li", list), box = list.getBoundingClientRect();
  clearTimeout(timer);
  note.hidden = !asked || !newest || (box.top < innerHeight - 80 && box.bottom > 80);
  if (note.hidden) return;
  note.dataset.tone = newest.dataset.tone;
  note.replaceChildren(...[...newest.children].slice(0, 2).map((part) => part.cloneNode(true)));
  if (newest.dataset.tone === "blue") return;  // not over yet: the list is on its way again
  timer = setTimeout(() => { note.hidden = true; }, 4000);
  asked = false;
}

document.addEventListener("htmx:afterRequest", ({ detail }) => {
  if (detail.successful && detail.requestConfig.verb === "post" && detail.target?.id === "commands") asked = true;
});
document.addEventListener("htmx:afterSettle", ({ detail }) => { if (detail.target?.id === "commands" || detail.elt?.id === "commands") tell(); });

document.addEventListener("DOMContentLoaded", () => {
  const heat = $("#heat"), terminal = $("#console"), pad = $("[data-jog]"), printer = $("[data-one]").dataset.one;
  const reasons = JSON.parse($("#reasons")?.textContent || "null");
  watchHeat(heat);
  if (terminal) openConsole(terminal);
  if (pad) padKeys(pad);
  if (!reasons) return;
  document.addEventListener("farm:state", ({ detail: { id, state } }) => { if (id === printer) allow(reasons, state); });
  if (states.has(printer)) allow(reasons, states.get(printer));
});
