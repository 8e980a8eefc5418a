// Many printers at once: selecting cards, asking once, and saying what became of each.
import { $, $$ } from "./farm.js";
import { states } from "./live.js";
import { conditions, kindOf } from "./words.js";

// deed -> [question, what it means, yes, whether this state allows it, what of the state is meant by it]
const DEEDS = {
  pause: ["Pause", "They stay warm and can be resumed.", "Pause", (can) => can.pause, (s) => `print ${s.job.print}`],
  resume: ["Resume", "They go on where they stopped.", "Resume", (can) => can.resume, (s) => `print ${s.job.print}`],
  cancel: ["Cancel the prints of", "What is printed so far is lost. This cannot be undone.", "Cancel the prints", (can) => can.cancel, (s) => `print ${s.job.print}`],
  clear_bed: ["Are the beds empty of", "The next prints may start at once. Only if you have just looked at each.", "Yes, they are empty", (can) => can.clear, (s) => `bed ${s.bed}`],
  begin_maintenance: ["Begin maintenance of", "Nothing new starts on them; what prints goes on.", "Begin", (can, s) => !s.maintenance, () => ""],
  end_maintenance: ["End maintenance of", "Prints may start on them again.", "End it", (can, s) => Boolean(s.maintenance), () => ""],
};
const chosen = new Set();  // printer ids
let lastPicked = null;

const wall = () => $("[data-wall]");
const picks = () => $$(".card:not([hidden]) [data-pick]", wall());
const idOf = (pick) => pick.closest(".card").dataset.printer;

const selecting = () => wall().classList.contains("selecting");

function allowed(deed) {
  return [...chosen].filter((id) => {
    const state = states.get(id);
    return state && DEEDS[deed][3](conditions(state, kindOf(state)), state);
  });
}

function show() {
  if (!selecting()) return;
  for (const pick of $$("[data-pick]", wall())) {
    pick.checked = chosen.has(idOf(pick));
    pick.closest(".card").classList.toggle("picked", pick.checked);
  }
  $("[data-many-count]").textContent = chosen.size;
  for (const button of $$("[data-deed]")) {
    const count = allowed(button.dataset.deed).length;
    button.disabled = !count;
    button.hidden = !count && button.dataset.deed === "resume";
    $("[data-deed-count]", button).textContent = count || "";
  }
}

function begin(on) {
  wall().classList.toggle("selecting", on);
  $("#select").setAttribute("aria-pressed", String(on));
  $("#many").hidden = !on;
  if (!on) {
    chosen.clear();
    lastPicked = null;
    for (const card of $$(".card.picked", wall())) card.classList.remove("picked");
    for (const pick of $$("[data-pick]:checked", wall())) pick.checked = false;
  }
  show();
}

function set(id, on) {
  if (on) chosen.add(id);
  else chosen.delete(id);
}

function picked(pick, range) {
  const all = picks(), here = all.indexOf(pick), from = all.findIndex((other) => idOf(other) === lastPicked);
  const row = range && from >= 0 ? all.slice(Math.min(here, from), Math.max(here, from) + 1) : [pick];
  for (const other of row) set(idOf(other), pick.checked);
  lastPicked = idOf(pick);
  show();
}

function selectShown() {
  const ids = picks().map(idOf), every = ids.every((id) => chosen.has(id));
  for (const id of ids) set(id, !every);
  show();
}

// -- asking, and sending what was seen when it was asked
const names = (ids) => ids.map((id) => states.get(id).name).sort((a, b) => a.localeCompare(b));

function hidden(name, value) {
  const input = document.createElement("input");
  Object.assign(input, { type: "hidden", name, value });
  return input;
}

function ask(deed) {
  const [question, means, yes, , seen] = DEEDS[deed], ids = allowed(deed), dialog = $("#deed"), form = $("form", dialog);
  const others = [...chosen].filter((id) => states.has(id) && !ids.includes(id));
  $("#deed-title").textContent = `${question} ${ids.length} printer${ids.length === 1 ? "" : "s"}?`;
  $("[data-deed-text]").textContent = means;
  $("[data-deed-names]").replaceChildren(...names(ids).map((name) => Object.assign(document.createElement("li"), { textContent: name })));
  $("[data-deed-not]").hidden = !others.length;
  $("[data-deed-not]").textContent = `Not possible now, and left alone: ${names(others).join(", ")}.`;
  $("[data-deed-printers]").replaceChildren(...ids.map((id) => hidden("printer", `${id} ${seen(states.get(id))}`.trim())));
  form.elements.deed.value = deed;
  $("[data-deed-reason]").hidden = deed !== "begin_maintenance";
  form.elements.reason.required = deed === "begin_maintenance";
  const button = $(".yes", form);
  button.textContent = yes;
  button.className = deed === "cancel" ? "stop yes" : "primary yes";
  dialog.showModal();
  (deed === "begin_maintenance" ? form.elements.reason : $("[data-deed-no]")).focus();
}

// whoever was refused stays selected, to be looked at
function answered(event) {
  if (event.target !== $("#deed form")) return;
  $("#deed").close();
  if (!event.detail.successful) return;
  const refused = ($("[data-refused]")?.dataset.refused || "").split(" ").filter(Boolean);
  chosen.clear();
  for (const id of refused) chosen.add(id);
  if (refused.length) show();
  else begin(false);
}

function clicked(event) {
  const { target } = event;
  if (target.closest("#select")) return begin(!selecting());
  if (target.closest("[data-many-end]")) return begin(false);
  if (target.closest("[data-many-all]")) return selectShown();
  if (target.closest("[data-deed-no]")) return $("#deed").close();
  const button = target.closest("[data-deed]");
  if (button) return ask(button.dataset.deed);
  if (!selecting()) return undefined;
  const pick = target.closest("[data-pick]");
  if (pick) return picked(pick, event.shiftKey);
  const card = target.closest(".card[data-operates]");
  if (!card || target.closest("a, button, input, label")) return undefined;
  const box = $("[data-pick]", card);
  box.checked = !box.checked;
  return picked(box, event.shiftKey);
}

document.addEventListener("DOMContentLoaded", () => {
  if (!$("#many")) return;
  document.addEventListener("click", clicked);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && selecting() && !$("dialog[open]")) begin(false);
  });
  document.addEventListener("mousedown", (event) => {  // shift-click selects cards, not words
    if (event.shiftKey && selecting() && event.target.closest(".card")) event.preventDefault();
  });
  document.addEventListener("htmx:afterRequest", answered);
  document.addEventListener("htmx:afterSettle", () => { if (!$("#many").hidden) begin(true); });
  document.addEventListener("farm:painted", show);
  document.addEventListener("farm:gone", ({ detail: { id } }) => { if (chosen.delete(id)) show(); });
});
