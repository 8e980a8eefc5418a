// The console of one printer: sends with Enter, brings back what was typed, shows answers while they come.
import { $, $$, shownTime } from "./farm.js";

const SOON = 500;  // ms between two looks while a command is on its way
const KEPT = 50;  // lines that can be brought back

const known = new Map();  // entry's id -> as the server wrote it

function fill(log, html) {
  const anew = new DOMParser().parseFromString(html, "text/html").querySelector("ol"), list = $("ol", log);
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const ids = new Set($$("li", anew).map((entry) => entry.id));
  for (const old of $$("li", list)) if (!ids.has(old.id)) old.remove();
  for (const entry of $$("li", anew)) {  // only what changed: this is read out
    if (known.get(entry.id) === entry.innerHTML && document.getElementById(entry.id)) continue;
    known.set(entry.id, entry.innerHTML);
    for (const time of $$("time", entry)) time.textContent = shownTime(new Date(time.dateTime), true);
    const old = document.getElementById(entry.id);
    old ? old.replaceWith(entry) : list.append(entry);
  }
  if (atEnd) log.scrollTop = log.scrollHeight;
  if ("waiting" in anew.dataset) lookSoon(log);
}

let timer = 0;

function lookSoon(log) {
  clearTimeout(timer);
  timer = setTimeout(() => htmx.trigger(log, "farm-said"), SOON);
}

class Prompt {
  constructor(form, printer) {
    this.form = form;
    this.field = $("textarea", form);
    this.key = `farm-console-${printer}`;
    this.typed = JSON.parse(sessionStorage.getItem(this.key) || "[]");
    this.at = this.typed.length;
    this.field.addEventListener("keydown", (event) => this.press(event));
    this.field.addEventListener("input", () => this.fit());
    form.addEventListener("htmx:afterRequest", (event) => { if (event.detail.successful) this.sent(); });
  }

  fit() {
    this.field.rows = Math.min(8, this.field.value.split("\n").length);
  }

  press(event) {
    const oneLine = !this.field.value.includes("\n");
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      if (this.field.value.trim()) this.form.requestSubmit();
    } else if (oneLine && (event.key === "ArrowUp" || event.key === "ArrowDown") && this.typed.length) {
      event.preventDefault();
      this.leaf(event.key === "ArrowUp" ? -1 : 1);
    }
  }

  leaf(by) {
    this.at = Math.max(0, Math.min(this.typed.length, this.at + by));
    this.field.value = this.typed[this.at] || "";
    this.fit();
  }

  sent() {
    const line = this.field.value.trim();
    if (line && line !== this.typed.at(-1)) this.typed = [...this.typed, line].slice(-KEPT);
    this.at = this.typed.length;
    sessionStorage.setItem(this.key, JSON.stringify(this.typed));
    this.field.value = "";
    this.fit();
    this.field.focus();
    htmx.trigger("#commands", "farm-look");  // the list of who did what
  }
}

export function openConsole(panel) {
  const log = $("#console-log", panel);
  log.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, target } = event.detail;
    if (target !== log || xhr.status >= 400 || xhr.getResponseHeader("HX-Retarget") || !xhr.responseText.includes("<ol")) return;
    event.detail.shouldSwap = false;
    fill(log, xhr.responseText);
    log.scrollTop = event.detail.requestConfig.verb === "post" ? log.scrollHeight : log.scrollTop;
  });
  log.scrollTop = log.scrollHeight;
  if ("waiting" in $("ol", log).dataset) lookSoon(log);
  return new Prompt($("[data-console]", panel), panel.dataset.printer);
}
