// All settings of a slice: the grey values follow what is chosen above, as slicing/presets.py lays them over each other.
import { $, $$ } from "../farm.js";

const read = (id) => JSON.parse($(`#${id}`).textContent);

function word(value) {
  if (typeof value === "boolean") return value ? "Yes" : "No";
  const text = String(value);
  return text[0].toUpperCase() + text.slice(1);
}

function show(field, value) {
  if (field.tagName === "SELECT") field.options[0].textContent = word(value);
  else field.placeholder = String(Math.round(value * 100) / 100);
}

document.addEventListener("DOMContentLoaded", () => {
  const { engine, rows } = read("usual"), printers = read("usual-on-printers");
  const all = $("#all-settings"), form = all.closest("form"), changed = $("[data-changed]", all);
  const fields = $$("input, select", all);
  const chosen = (name) => $(`[name=${name}]:checked`, form)?.value;

  function follow() {
    const short = {};
    if (form.infill.value) short.infill_density = Number(form.infill.value);
    if (form.support.value) short.supports = form.support.value;
    const usual = { ...engine, ...printers[chosen("printer")], ...rows[chosen("quality")], ...rows[chosen("material")], ...short };
    for (const field of fields) show(field, usual[field.name]);
    const count = fields.filter((field) => field.value !== "").length;
    changed.textContent = `${count} changed`;
    changed.hidden = !count;
  }
  form.addEventListener("change", follow);
  follow();
});
