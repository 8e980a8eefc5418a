// Leafing through the layers of a job: one picture each, drawn by the farm when it is first looked at.
import { $ } from "../farm.js";

let wanted = 0, loading = false;

const say = (panel, text) => { $("[data-layer-says]", panel).textContent = text; };

const place = (panel) => `Layer ${wanted} of ${$("[data-layer]", panel).max}`;

// one request at a time, for the newest wish: a drag over three hundred layers asks for few of them
function load(panel) {
  if (loading) return;
  loading = true;
  const number = wanted, picture = new Image();
  picture.onload = picture.onerror = (event) => {
    loading = false;
    if (event.type === "load") $("img", panel).src = picture.src;
    panel.classList.toggle("failed", event.type === "error");
    if (wanted !== number) return load(panel);
    return say(panel, event.type === "load" ? place(panel) : `Layer ${number} cannot be shown now`);
  };
  picture.src = panel.dataset.layers.replace("/0/", `/${number}/`);
}

function show(panel) {
  const slider = $("[data-layer]", panel);
  wanted = Number(slider.value);
  say(panel, `${place(panel)}, drawing …`);
  load(panel);
}

document.addEventListener("input", (event) => {
  if (event.target.matches("[data-layer]")) show(event.target.closest("[data-layers]"));
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-leaf]");
  if (!button) return;
  const panel = button.closest("[data-layers]"), slider = $("[data-layer]", panel);
  slider.value = Number(slider.value) + Number(button.dataset.leaf);
  show(panel);
});
