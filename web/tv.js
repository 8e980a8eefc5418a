// A screen on the wall: the clock, pages that turn when there are more printers than fit, and asking the farm anew when
// a printer comes to be another. What moves on a cell is painted by paint.js.
import { $, $$ } from "./farm.js";
import { look } from "./anew.js";
import { kindOf } from "./words.js";

const TURN = 12000;  // ms a page stays
const SILENT = 25000;  // ms without an answer until the screen says so
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });
let page = 0, answeredAt = Date.now();

function perPage(cells) {
  const box = $("[data-cells]"), style = getComputedStyle(box), gap = parseFloat(style.rowGap) || 0;
  const columns = style.gridTemplateColumns.split(" ").length;
  const tallest = Math.max(...cells.map((cell) => cell.offsetHeight), 1);
  return Math.max(columns, columns * Math.floor((box.clientHeight + gap) / (tallest + gap)));
}

function turn(by) {
  const cells = $$("[data-cells] > .tv-cell");
  if (!cells.length) return;
  for (const cell of cells) cell.hidden = false;
  const most = perPage(cells), pages = Math.ceil(cells.length / most), said = $("[data-page]");
  page = (page + by) % pages;
  cells.forEach((cell, i) => { cell.hidden = Math.floor(i / most) !== page; });
  said.hidden = pages === 1;
  said.textContent = `Page ${page + 1} of ${pages}`;
}

function tick() {
  $("[data-clock]").textContent = clock.format(new Date());
  const silent = Date.now() - answeredAt > SILENT;
  $("#connection").hidden = !silent && !document.body.classList.contains("cut-off");
}

document.addEventListener("DOMContentLoaded", () => {
  if (!$("[data-cells]")) return;
  tick();
  turn(0);
  setInterval(tick, 1000);
  setInterval(() => turn(1), TURN);
  window.addEventListener("resize", () => turn(0));
  document.addEventListener("htmx:afterOnLoad", () => { answeredAt = Date.now(); });
  document.addEventListener("htmx:afterSettle", () => {
    if ($("[data-cells]")) turn(0);
    else location.reload();  // closed: nothing of the old screen stays
  });
  document.addEventListener("farm:state", ({ detail: { state, before } }) => {
    if (!before || kindOf(before) !== kindOf(state)) look($("[data-tv-part]"));
  });
  document.addEventListener("farm:gone", () => look($("[data-tv-part]")));
});
