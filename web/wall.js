// The wall: counts, filter, order.
import { $, $$ } from "./farm.js";
import { look } from "./anew.js";
import { setText } from "./paint.js";
import { lookOf } from "./words.js";

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
  const rank = (card) => lookOf(card.dataset.kind)?.[3] ?? 99;
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

document.addEventListener("farm:state", ({ detail: { id } }) => {
  const wall = $("[data-wall]");
  if (wall && !document.getElementById(`card-${id}`)) look(wall);
});
document.addEventListener("farm:gone", ({ detail: { id } }) => document.getElementById(`card-${id}`)?.remove());
document.addEventListener("farm:heard", arrange);
document.addEventListener("htmx:afterSettle", arrange);
document.addEventListener("DOMContentLoaded", () => {
  if (!$("[data-wall]")) return;
  document.addEventListener("click", filterWall);
  $("#find")?.addEventListener("input", (event) => { wanted = event.target.value.trim().toLowerCase(); arrange(); });
});
