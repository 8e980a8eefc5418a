// Leafing through the layers of a print: in 3D where there is WebGL, else as pictures that the farm draws. A panel says
// what it shows:
//   data-toolpaths       where its lines are (see web/toolpaths.js); data-layers where its pictures are, with layer 0
//   data-bed             width, depth, height, and x and y of the front left corner, mm
//   data-layer-of-printer  follows what that printer prints now, until somebody leafs
// A place with data-layers-of-printer gets such a panel while that printer prints something that this person may see.
import { $, $$ } from "./farm.js";
import { states } from "./live.js";
import { duration } from "./words.js";

const AWAY = 2000;  // ms until what is no longer printed goes
const panels = new WeakMap();

class Panel {
  constructor(root) {
    this.root = root;
    this.slider = $("[data-layer]", root);
    this.number = Number(this.slider.value);
    this.following = states.get(root.dataset.layerOfPrinter)?.job?.layer;
    root.addEventListener("input", (event) => {
      if (event.target === this.slider) this.leaf(Number(this.slider.value));
      else this.show();
    });
    root.addEventListener("click", (event) => {
      const step = event.target.closest("[data-leaf]")?.dataset.leaf;
      if (step) this.leaf(this.number + Number(step));
    });
    // heavy: only for those who come to see it
    this.coming = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      this.coming.disconnect();
      this.open();
    }, { rootMargin: "200px" });
    this.coming.observe(root);
  }

  async open() {
    const { toolpaths, bed } = this.root.dataset, view = $(".view", this.root);
    if (!toolpaths) return undefined;
    this.opening = true;
    this.say("Reading the layers …");
    try {
      const { PathsView } = await import("./toolpaths.js");
      const [width, depth, height, x, y] = (bed || "").split(" ").map(Number);
      this.paths = await PathsView.open(view, toolpaths, bed ? { width, depth, height, x, y } : undefined);
      view.classList.add("in-3d");
      for (const tool of $$("[data-in-3d]", this.root)) tool.hidden = false;
      this.slider.max = this.paths.layers;
      if (!this.byHand) return this.go(this.following ?? this.paths.layers);
    } catch (error) {
      this.opening = false;
      this.without = /WebGL/i.test(error.message) ? "This browser shows nothing in 3D (WebGL is off)" : error.message;
    }
    return this.show();
  }

  /** By hand: from then on it follows no printer. */
  leaf(number) {
    this.byHand = true;
    this.go(number);
  }

  follow(number) {
    this.following = number;
    if (!this.byHand && number && number !== this.number) this.go(number);
  }

  go(number) {
    this.number = Math.min(Math.max(number, 1), Number(this.slider.max));
    this.slider.value = this.number;
    this.show();
  }

  show() {
    if (!this.paths) return this.opening ? undefined : this.picture();
    const only = $("[data-only]", this.root)?.checked, travels = $("[data-travels]", this.root)?.checked;
    this.paths.show(this.number, { only, travels });
    const [at, all] = this.paths.time(this.number);
    return this.say(`${this.place()} · ${this.paths.z(this.number).toFixed(2)} mm · after ${duration(at)} of ${duration(all)}`);
  }

  place() {
    return `Layer ${this.number} of ${this.slider.max}`;
  }

  say(text) {
    $("[data-layer-says]", this.root).textContent = text;
  }

  // one request at a time, for the newest wish
  picture() {
    if (!this.root.dataset.layers || this.loading) return;
    this.loading = true;
    const { number } = this, picture = new Image(), shown = $("img", this.root);
    this.say(`${this.place()}, drawing …`);
    picture.onload = picture.onerror = (event) => {
      this.loading = false;
      if (event.type === "load") {
        shown.src = picture.src;
        shown.hidden = false;
      }
      this.root.classList.toggle("failed", event.type === "error");
      if (this.number !== number) return this.picture();
      const why = this.without ? `. ${this.without.replace(/\.$/, "")}: this is a picture.` : "";
      return this.say(event.type === "load" ? `${this.place()}${why}` : `Layer ${number} cannot be shown now.`);
    };
    picture.src = this.root.dataset.layers.replace("/0/", `/${number}/`);
  }

  end() {
    this.coming.disconnect();
    this.paths?.end();
  }
}

/** Brings the panels below `root` to life; harmless for those that are. */
export function openLayers(root = document) {
  for (const panel of $$("[data-toolpaths]", root)) {
    if (!panels.has(panel)) panels.set(panel, new Panel(panel));
  }
}

/** Frees what a panel holds that leaves the page. */
export function closeLayers(panel) {
  panels.get(panel)?.end();
  panels.delete(panel);
}

async function fill(place, job) {
  if (place.dataset.job === job) return;
  place.dataset.job = job;
  for (const panel of $$("[data-toolpaths]", place)) closeLayers(panel);
  place.replaceChildren();
  if (!job) return;
  await htmx.ajax("GET", `/jobs/${job}/layers/?printer=${place.dataset.layersOfPrinter}`, { target: place, swap: "innerHTML" });
  openLayers(place);
}

document.addEventListener("farm:state", ({ detail: { id, state } }) => {
  for (const root of $$(`[data-layer-of-printer="${id}"]`)) panels.get(root)?.follow(state.job?.layer);
  const named = () => states.get(id)?.job?.id || "";
  for (const place of $$(`[data-layers-of-printer="${id}"]`)) {
    if (named()) fill(place, named());
    else setTimeout(() => fill(place, named()), AWAY);  // with a new snapshot whose it is comes after what it is
  }
});
