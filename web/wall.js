// The wall: counts, filters, search, order and groups. Cards are painted by paint.js; here they are only shown, hidden
// and put in order, and only when something of that changed: five hundred of them must stay smooth.
import { $, $$ } from "./farm.js";
import { look } from "./anew.js";
import { states } from "./live.js";
import { setText } from "./paint.js";
import { kindOf, lookOf, serverNow, titleOf, waited } from "./words.js";

const QUIET = 3000;  // ms without a movement until cards may change places under a hand
const asked = new URLSearchParams(location.search);
const view = {
  show: asked.get("show") || "",
  find: (asked.get("find") || "").toLowerCase(),
  by: asked.get("by") === "name" ? "name" : "attention",
  places: asked.get("places") === "1",
};
const entries = new Map();  // printer id -> what of its card decides where it stands
let movedAt = 0, orderDue = 0;

const wallOf = () => $("[data-wall]");

// -- what is known of each card
const ofCard = (card, field) => $(`[data-f=${field}]`, card)?.textContent || "";

function toldOf(card, state) {
  const { name, place, job } = state || {};
  const told = state ? [name, place, job ? titleOf(job) : "", job?.person] : ["name", "place", "title", "person"].map((field) => ofCard(card, field));
  return told.map((word) => word || "");
}

function entryOf(card) {
  const id = card.dataset.printer, state = states.get(id), told = toldOf(card, state);
  const kind = state ? kindOf(state) : card.dataset.kind;
  const since = state ? serverNow() - waited(state) : Number(card.dataset.since);
  const [, , group, rank] = lookOf(kind) || ["", "", "away", 99];
  return { id, card, words: told.join(" ").toLowerCase(), group, rank, since, name: told[0].toLowerCase(), place: told[1] };
}

function readAll() {
  entries.clear();
  for (const card of $$(".card", wallOf())) entries.set(card.dataset.printer, entryOf(card));
}

// -- shown or not, and how many are like that
function filter() {
  const counts = { "": entries.size };
  let any = false;
  for (const entry of entries.values()) {
    counts[entry.group] = (counts[entry.group] || 0) + 1;
    entry.shown = (!view.show || entry.group === view.show) && entry.words.includes(view.find);
    any ||= entry.shown;
    if (entry.card.hidden === entry.shown) entry.card.hidden = !entry.shown;
  }
  for (const el of $$("[data-count]")) setText(el, String(counts[el.dataset.count] || 0));
  $("#nothing").hidden = any || !entries.size;
  for (const head of $$("[data-head]", wallOf())) {
    head.hidden = ![...entries.values()].some((entry) => entry.shown && entry.place === head.dataset.head);
  }
}

// -- order
function before(a, b) {
  if (view.places && a.place !== b.place) return !a.place ? 1 : !b.place ? -1 : a.place.localeCompare(b.place);
  if (view.by === "attention") {
    if (a.rank !== b.rank) return a.rank - b.rank;
    if (a.group === "attention" && a.since !== b.since) return a.since - b.since;  // the longest first
  }
  return a.name < b.name ? -1 : Number(a.name > b.name);
}

function headOf(wall, place) {
  const known = $$("[data-head]", wall).find((head) => head.dataset.head === place);
  if (known) return known;
  const head = document.createElement("h2");
  head.className = "place-head";
  head.dataset.head = place;
  head.textContent = place || "No place given";
  return head;
}

function wantedOrder(wall) {
  const sorted = [...entries.values()].sort(before);
  if (!view.places) return sorted.map((entry) => entry.card);
  return sorted.flatMap((entry, i) => (
    i && sorted[i - 1].place === entry.place ? [entry.card] : [headOf(wall, entry.place), entry.card]
  ));
}

// Those that can stay where they are: the longest row that is in order already (patience sorting).
function staying(positions) {
  const tails = [], previous = [];
  positions.forEach((position, i) => {
    let low = 0, high = tails.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (positions[tails[middle]] < position) low = middle + 1;
      else high = middle;
    }
    previous[i] = low ? tails[low - 1] : -1;
    tails[low] = i;
  });
  const kept = new Set();
  for (let i = tails.at(-1) ?? -1; i >= 0; i = previous[i]) kept.add(i);
  return kept;
}

function order() {
  const wall = wallOf(), wanted = wantedOrder(wall);
  if (!view.places) for (const head of $$("[data-head]", wall)) head.remove();
  const places = new Map([...wall.children].map((child, i) => [child, i]));
  const kept = staying(wanted.map((child) => places.get(child) ?? Infinity));
  let next = null;
  for (let i = wanted.length - 1; i >= 0; i -= 1) {
    if (!kept.has(i) || wanted[i].parentElement !== wall) wall.insertBefore(wanted[i], next);
    next = wanted[i];
  }
}

// never under the hands of somebody who is about to press a button
function busyHands(wall) {
  const near = wall.matches(":hover") && Date.now() - movedAt < QUIET;
  return near || wall.contains(document.activeElement) || $("dialog[open]") || wall.matches(".selecting");
}

function orderSoon() {
  if (orderDue) return;
  orderDue = setTimeout(() => {
    orderDue = 0;
    const wall = wallOf();
    if (!wall) return;
    if (busyHands(wall)) orderSoon();
    else order();
  }, 1000);
}

function arrange({ now = false } = {}) {
  if (!wallOf()) return;
  if (now) order();
  filter();
}

// -- what changes it
function refresh(ids) {
  let place = false, any = false;
  for (const id of ids) {
    const old = entries.get(id);
    if (!old) continue;
    const entry = { ...entryOf(old.card), shown: old.shown };
    if (Math.abs(entry.since - old.since) <= 2) entry.since = old.since;  // the age of what is silent is known roughly
    place ||= ["rank", "name", "place", "since"].some((key) => entry[key] !== old[key]);
    any ||= entry.group !== old.group || entry.words !== old.words;
    entries.set(id, entry);
  }
  if (any) arrange();
  if (place) orderSoon();
}

function address() {
  const query = new URLSearchParams();
  if (view.show) query.set("show", view.show);
  if (view.find) query.set("find", view.find);
  if (view.by === "name") query.set("by", "name");
  if (view.places) query.set("places", "1");
  const text = query.toString();
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
}

function viewChanged() {
  address();
  for (const chip of $$("[data-show]")) chip.toggleAttribute("aria-current", chip.dataset.show === view.show);
  arrange({ now: true });
}

function chipPressed(event) {
  const chip = event.target.closest?.("[data-show]");
  if (!chip || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  view.show = chip.dataset.show;
  viewChanged();
}

function resize(size) {
  document.documentElement.dataset.cards = size;
  localStorage.setItem("cards", size);
}

function menu() {
  const size = localStorage.getItem("cards") || "normal";
  document.documentElement.dataset.cards = size;
  for (const [name, value] of [["size", size], ["by", view.by]]) {
    for (const input of $$(`[name=${name}]`)) input.checked = input.value === value;
  }
  const places = $("[name=places]");
  if (places) places.checked = view.places;
  $("[data-view]")?.addEventListener("change", ({ target }) => {
    if (target.name === "size") return resize(target.value);
    if (target.name === "by") view.by = target.value;
    if (target.name === "places") view.places = target.checked;
    return viewChanged();
  });
}

function closeMenus(event) {
  for (const open of $$("details.menu[open]")) {
    if (event.type === "keydown" ? event.key === "Escape" : !open.contains(event.target)) open.open = false;
  }
}

document.addEventListener("DOMContentLoaded", () => {
  if (!wallOf()) return;
  readAll();
  menu();
  arrange({ now: view.places || view.by === "name" });
  document.addEventListener("click", chipPressed);
  document.addEventListener("click", closeMenus);
  document.addEventListener("keydown", closeMenus);
  for (const sign of ["pointermove", "pointerdown"]) {  // a click where the hand rests comes without a movement
    document.addEventListener(sign, () => { movedAt = Date.now(); }, { passive: true });
  }
  $("#find")?.addEventListener("input", ({ target }) => {
    view.find = target.value.trim().toLowerCase();
    address();
    arrange();
  });
  document.addEventListener("farm:state", ({ detail: { id } }) => { if (!entries.has(id)) look(wallOf()); });
  document.addEventListener("farm:painted", ({ detail: { ids } }) => refresh(ids));
  document.addEventListener("farm:gone", ({ detail: { id } }) => {
    document.getElementById(`card-${id}`)?.remove();
    if (entries.delete(id)) arrange();
  });
  document.addEventListener("htmx:afterSettle", () => {
    if (!wallOf()) return;
    readAll();
    arrange({ now: view.places || view.by === "name" });
  });
});
