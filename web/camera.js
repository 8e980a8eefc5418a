// Cameras: a picture every few seconds, live on a click. Nothing is fetched for what is off the screen or in a hidden tab.
import { $, $$, shownTime } from "./farm.js";

const EVERY = 10_000; // ms between two pictures
const AFTER_FAULT = 30_000;
const BRIEF = 3_000; // ms; a live picture that lasted no longer is not asked for again
const GONE = new Set([401, 403, 404]); // asking again does not help

class Fault extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

// -- fetching
async function ask(address, signal) {
  const answer = await fetch(address, { signal, cache: "no-store", redirect: "manual" });
  if (answer.type === "opaqueredirect") throw new Fault("Log in again to see the camera.", 401, "login");
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Fault(told.message || "The camera does not answer.", answer.status, told.code);
}

function turned(answer) {
  const flip = answer.headers.get("X-Camera-Flip") || "";
  return { degrees: Number(answer.headers.get("X-Camera-Rotation")) || 0, h: flip.includes("h"), v: flip.includes("v") };
}

function endOfHead(bytes) {
  for (let at = 0; at + 3 < bytes.length; at++) {
    if (bytes[at] === 13 && bytes[at + 1] === 10 && bytes[at + 2] === 13 && bytes[at + 3] === 10) return at;
  }
  return -1;
}

function joined(first, second) {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

// The farm's own multipart: every part has a type and a length.
async function* parts(body) {
  const reader = body.getReader();
  let bytes = new Uint8Array(0);
  try {
    for (;;) {
      const end = endOfHead(bytes.subarray(0, 4096));
      const head = end < 0 ? "" : new TextDecoder().decode(bytes.subarray(0, end));
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? NaN);
      if (end >= 0 && bytes.length >= end + 4 + length) {
        const type = /content-type: (\S+)/i.exec(head)?.[1];
        yield new Blob([bytes.subarray(end + 4, end + 4 + length)], { type });
        bytes = bytes.slice(end + 4 + length);
        continue;
      }
      const { done, value } = await reader.read();
      if (done) return;
      bytes = joined(bytes, value);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// -- one camera on a page
class Camera {
  constructor(element) {
    this.element = element;
    this.canvas = $("canvas", element);
    this.says = $("[data-camera-says]", element);
    this.when = $("[data-camera-when]", element);
    this.button = $("[data-camera-toggle]", element);
    this.live = false;
    this.onScreen = false;
    this.work = null;
    this.button?.addEventListener("click", () => this.toggle());
  }

  // on screen or not, tab visible or not, live or not: whatever was going on ends, what fits now begins
  look() {
    this.work?.abort();
    this.work = null;
    clearTimeout(this.timer);
    if (!this.onScreen || document.hidden) return;
    this.work = new AbortController();
    this.run(this.work.signal);
  }

  toggle() {
    this.setLive(!this.live);
    this.look();
  }

  setLive(live) {
    this.live = live;
    this.element.toggleAttribute("data-is-live", live);
    if (this.button) this.button.textContent = live ? "Stop" : "Watch live";
  }

  async run(signal) {
    try {
      if (this.live) await this.stream(signal);
      else await this.still(signal);
    } catch (fault) {
      if (!signal.aborted) this.fail(fault, signal);
    }
  }

  async still(signal) {
    const answer = await ask(this.element.dataset.camera, signal);
    await this.show(await answer.blob(), turned(answer));
    this.again(EVERY, signal);
  }

  async stream(signal) {
    const began = performance.now();
    const answer = await ask(this.element.dataset.cameraLive, signal);
    for await (const picture of parts(answer.body)) {
      if (signal.aborted) return;
      await this.show(picture, turned(answer));
    }
    // the farm ends every stream after a while; one that is looked at goes on
    if (performance.now() - began < BRIEF) throw new Fault("The camera has stopped.");
    this.again(0, signal);
  }

  again(wait, signal) {
    if (!signal.aborted) this.timer = setTimeout(() => this.look(), wait);
  }

  fail(fault, signal) {
    const known = fault instanceof Fault;
    this.setLive(false);
    this.element.toggleAttribute("data-is-old", true);
    if (this.button) this.button.hidden = GONE.has(fault.status);
    this.tell(fault.code === "no_camera" ? "No camera" : known ? fault.message : "The camera does not answer.");
    if (!GONE.has(fault.status)) this.again(AFTER_FAULT, signal);
  }

  async show(blob, { degrees, h, v }) {
    const picture = await createImageBitmap(blob);
    const across = degrees % 180 === 0;
    this.canvas.width = across ? picture.width : picture.height;
    this.canvas.height = across ? picture.height : picture.width;
    const pen = this.canvas.getContext("2d");
    pen.translate(this.canvas.width / 2, this.canvas.height / 2);
    pen.rotate((degrees * Math.PI) / 180);
    pen.scale(h ? -1 : 1, v ? -1 : 1);
    pen.drawImage(picture, -picture.width / 2, -picture.height / 2);
    picture.close();
    this.canvas.hidden = false;
    this.element.toggleAttribute("data-is-old", false);
    if (this.button) this.button.hidden = false;
    if (this.when) this.when.textContent = this.live ? "Live" : `Picture of ${shownTime(new Date(), true)}`;
    this.tell("");
  }

  // only news: a screen reader says whatever is put there
  tell(words) {
    if (this.says.textContent !== words) this.says.textContent = words;
    this.says.hidden = !words;
  }
}

const known = new WeakMap();
const onScreen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const camera = known.get(entry.target);
    camera.onScreen = entry.isIntersecting;
    camera.look();
  }
});

export function cameras(root = document) {
  for (const element of $$("[data-camera]", root)) {
    if (known.has(element)) continue;
    known.set(element, new Camera(element));
    onScreen.observe(element);
  }
}

document.addEventListener("visibilitychange", () => {
  for (const element of $$("[data-camera]")) known.get(element)?.look();
});
document.addEventListener("htmx:load", (event) => cameras(event.detail.elt));
cameras();
