// Long lists that stay true: data-rows="<address>" on an element with an id. When jobs change, that address is asked
// anew, at most once a second, with ?changed=<their ids>; the answer is the whole list in its new order, in which rows
// that did not change are empty (data-same): those stay the elements that they are.
import { reachAgain, reachedIn } from "./anew.js";
import { $, $$ } from "./farm.js";

const PAUSE = 1;  // s between two questions, unless data-pause says otherwise
const ANYWAY = 20000;  // ms; not everybody hears of every job that is before their own
const MOST = 60;  // ids in one question

const changed = new Set();
const served = new Map();  // row id -> as the server wrote it, to leave rows alone that are written the same again
let whole = false, timer = 0, asking = false, last = 0;

const written = (row) => row.outerHTML.replace(/ value="\w{64}"/g, "");  // each answer has another token against forgery

function later() {
  const pause = 1000 * Number($("[data-rows]")?.dataset.pause || PAUSE);
  if (!timer && !asking) timer = setTimeout(ask, Math.max(0, last + pause - Date.now()));
}

function address(list) {
  const url = new URL(list.dataset.rows, location.href);
  if (!whole && changed.size <= MOST) url.searchParams.set("changed", [...changed].join(","));
  changed.clear();
  whole = false;
  return url;
}

async function ask() {
  const list = $("[data-rows]");
  timer = 0;
  last = Date.now();
  if (!list) return;
  if ($("#ask").open) return later();  // somebody is being asked about one of these rows
  asking = true;
  try {
    const answer = await fetch(address(list));
    if (answer.redirected) return location.reload();  // the session ended
    if (answer.ok) take(list, await answer.text());
  } catch {
    // the farm is away: all of it is asked for when it is found
  } finally {
    asking = false;
    if (changed.size || whole) later();
  }
}

// where somebody is with the keyboard: a row, or the whole list, and what they reached in it
function place() {
  const active = document.activeElement, row = active?.closest("[data-rows] [id]") || active?.closest("[data-rows]");
  return row && { id: row.id, reached: reachedIn(row) };
}

function take(list, html) {
  if ($("#ask").open) {  // since it was asked for
    whole = true;
    return;
  }
  const fresh = new DOMParser().parseFromString(html, "text/html").getElementById(list.id);
  if (!fresh) return;
  const was = place();
  for (const row of $$("[data-job]", fresh)) {
    const kept = document.getElementById(row.id), same = "same" in row.dataset;
    if (!same && (!kept || served.get(row.id) !== written(row))) {
      served.set(row.id, written(row));
      continue;
    }
    if (!kept) {
      changed.add(row.dataset.job);
      continue;
    }
    const order = $("[data-order]", kept);
    if (order && row.dataset.place) order.lastChild.textContent = row.dataset.place;
    row.replaceWith(document.adoptNode(kept));
  }
  list.dataset.rows = fresh.dataset.rows;
  list.replaceChildren(...fresh.childNodes);
  htmx.process(list);
  for (const said of ["htmx:afterSwap", "htmx:afterSettle"]) htmx.trigger(list, said, { elt: list });
  if (was) reachAgain(document.getElementById(was.id) || list, was.reached);
}

for (const row of $$("[data-rows] [data-job]")) served.set(row.id, written(row));
document.addEventListener("farm:job", ({ detail: { id } }) => {
  changed.add(id);
  later();
});
document.addEventListener("farm:state", ({ detail: { state, before } }) => {  // another person's print begins or ends
  if (before && Boolean(before.job) !== Boolean(state.job)) later();
});
document.addEventListener("farm:found", () => {
  whole = true;
  later();
});
setInterval(() => {
  if (document.hidden || !$("[data-rows]")) return;
  whole = true;
  later();
}, ANYWAY);
