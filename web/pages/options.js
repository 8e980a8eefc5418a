// Where and how: the model on the bed of the chosen printer, and the grey values of all settings, which follow what is
// chosen above them as slicing/presets.py lays them over each other.
import { Estimate } from "../estimate.js";
import { $, $$ } from "../farm.js";
import { closeLayers, openLayers } from "../layers.js";

const read = (id) => JSON.parse($(`#${id}`).textContent);
const chosen = (form, name) => $(`[name=${name}]:checked`, form)?.value ?? "";

// -- all settings
function word(value) {
  if (typeof value === "boolean") return value ? "Yes" : "No";
  const text = String(value);
  return text[0].toUpperCase() + text.slice(1);
}

function show(field, value) {
  if (field.tagName === "SELECT") field.options[0].textContent = word(value);
  else field.placeholder = String(Math.round(value * 100) / 100);
}

function followSettings(form) {
  const { engine, rows } = read("usual"), printers = read("usual-on-printers");
  const all = $("#all-settings"), changed = $("[data-changed]", all), fields = $$("input, select", all);

  function follow() {
    const short = {};
    if (form.infill.value) short.infill_density = Number(form.infill.value);
    if (form.support.value) short.supports = form.support.value;
    const layers = [printers[chosen(form, "printer")], rows[chosen(form, "quality")], rows[chosen(form, "material")]];
    const usual = Object.assign({}, engine, ...layers, short);
    for (const field of fields) show(field, usual[field.name]);
    const count = fields.filter((field) => field.value !== "").length;
    changed.textContent = `${count} changed`;
    changed.hidden = !count;
  }
  form.addEventListener("change", follow);
  follow();
}

// -- the model on its bed
const mm = (size) => `${size.map((value) => String(Math.round(value * 10) / 10)).join(" × ")} mm`;
const room = (bed) => [bed.width, bed.depth, bed.height];
const fits = (size, bed) => size.every((part, axis) => part <= room(bed)[axis] + 1e-3);
const volume = (bed) => bed.width * bed.depth * bed.height;

// the chosen printer's; for any that fits the first that does, else the largest
function bedFor(beds, wanted, size) {
  return beds.find((bed) => bed.id === wanted) ?? beds.find((bed) => fits(size, bed)) ?? beds.toSorted((a, b) => volume(b) - volume(a))[0];
}

function stance(form) {
  const percent = Number(form.size.value), stand = chosen(form, "stand");
  return { scale: Array(3).fill(percent > 0 ? percent / 100 : 1), rotation: stand ? stand.split(",").map(Number) : [0, 0, 0] };
}

async function showModel(form) {
  const root = $("#model-view"), says = $("#model-says"), beds = read("beds");
  if (!beds.length) return;
  let view;
  try {
    view = await (await import("../model.js")).ModelView.open(root);
  } catch (error) {
    const why = /WebGL/i.test(error.message) ? "This browser shows nothing in 3D (WebGL is off)" : "The model cannot be shown in 3D now";
    says.textContent = $("img", root) ? `${why}: this is a picture of it.` : `${why}.`;
    return;
  }
  root.classList.add("in-3d");
  let stood = "", shown = null;
  function follow() {
    const { scale, rotation } = stance(form), now = JSON.stringify([scale, rotation]);
    const size = now === stood ? view.size.toArray() : view.stand(scale, rotation);
    const bed = bedFor(beds, chosen(form, "printer"), size), good = fits(size, bed);
    if (bed !== shown) view.stage.bed(bed);
    view.paint(good);
    if (bed !== shown || now !== stood) view.frame(!shown);
    [stood, shown] = [now, bed];
    $("#model-size").textContent = mm(size);
    const volume = $("#model-volume"), scaled = Number(volume.dataset.volume) * scale.reduce((a, b) => a * b);
    volume.textContent = `${(scaled / 1000).toFixed(1)} cm³`;
    says.textContent = `On the bed of ${bed.name}${view.coarse ? ", drawn coarser than it is" : ""}.`;
    const fit = $("#model-fit");
    fit.hidden = good;
    fit.textContent = good ? "" : `Too large: it is ${mm(size)}, and ${bed.name} prints at most ${mm(room(bed))}. Make it smaller, put it down another way, or choose another printer.`;
  }
  form.addEventListener("change", follow);
  form.size.addEventListener("input", follow);
  follow();
  view.stage.turn();
  addEventListener("pagehide", (event) => { if (!event.persisted) view.stage.end(); });
}

// -- what it would take, and its layers as soon as they are known
function showEstimate(form) {
  const choice = $("#model-or-layers"), layers = $("#looked-at-layers"), model = $("#looked-at-model");
  function look(at) {
    for (const button of $$("[data-look-at]", choice)) button.setAttribute("aria-pressed", button.dataset.lookAt === at);
    layers.hidden = at !== "layers";
    model.hidden = at !== "model";
    if (at === "layers") openLayers(layers);
  }
  choice.hidden = false;
  choice.addEventListener("click", (event) => {
    const at = event.target.closest("[data-look-at]")?.dataset.lookAt;
    if (at) look(at);
  });
  new Estimate(form, $("#estimate"), (template) => {
    for (const panel of $$("[data-toolpaths]", layers)) closeLayers(panel);
    layers.replaceChildren(...(template ? [template.content.cloneNode(true)] : []));
    $("[data-look-at=layers]", choice).disabled = !template;
    if (!template) look("model");
  });
}

document.addEventListener("DOMContentLoaded", () => {
  const form = $("#wishes");
  followSettings(form);
  showModel(form);
  if (!$(".bottom-bar button", form).disabled) showEstimate(form);
});
