// What a print would take, worked out by the farm while somebody chooses: asked for anew a moment after each change.
import { $ } from "./farm.js";

const PAUSE = 1200, AGAIN = 700;  // ms

/** `box` says how far it is; `told(template or null)` hears when there are layers to look at, and when no longer. */
export class Estimate {
  constructor(form, box, told) {
    Object.assign(this, { form, box, told, asked: "" });
    form.addEventListener("input", () => this.soon());
    form.addEventListener("change", () => this.soon());
    this.soon(0);
  }

  // what decides the print: not how many, not when
  #wish() {
    const wish = new FormData(this.form);
    for (const name of ["copies", "hold"]) wish.delete(name);
    return wish;
  }

  soon(pause = PAUSE) {
    clearTimeout(this.timer);
    const wish = this.#wish(), now = new URLSearchParams(wish).toString();
    if (now === this.asked) return;
    this.told(null);
    this.box.replaceChildren();
    this.timer = setTimeout(() => {
      if (!this.form.checkValidity()) return;
      this.asked = now;
      this.#go({ method: "POST", body: wish });
    }, pause);
  }

  async #go(options) {
    const mine = this.asked;
    let html = "";
    try {
      const answer = await fetch(this.box.dataset.url, options);
      if (mine !== this.asked) return;
      if (!answer.ok) throw new Error(`${answer.status}`);
      html = await answer.text();
    } catch {
      this.#say("The farm does not answer now: time and filament are not known.");
    }
    if (mine !== this.asked) return;
    if (html) this.box.innerHTML = html;
    if ($("[data-again]", this.box)) this.timer = setTimeout(() => this.#go({}), AGAIN);
    this.told($("template", this.box));
  }

  #say(text) {
    const words = document.createElement("p");
    words.className = "small muted";
    words.textContent = text;
    this.box.replaceChildren(words);
  }
}
