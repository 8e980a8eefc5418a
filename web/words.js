// Numbers and states in words. Pure, except that the words of states and their order come from the page (#looks).
// The server says the same in farm/templatetags/shown.py and printers/looks.py.
import { $ } from "./farm.js";

// -- numbers, as farm/templatetags/shown.py
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60), hours = Math.floor(minutes / 60), days = Math.floor(minutes / 1440);
  if (!hours) return `${minutes} min`;
  return days ? `${days} d ${hours % 24} h` : `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
}
export const percent = (fraction) => `${Math.floor((fraction || 0) * 100)} %`;
export const degrees = (value) => (value === null || value === undefined ? "–" : value.toFixed(0));
export const heaterName = (name) => {
  if (!name.startsWith("tool")) return name[0].toUpperCase() + name.slice(1);
  const index = Number(name.slice(4));
  return index ? `Nozzle ${index + 1}` : "Nozzle";
};

// -- what a state means, as printers/looks.py
let looks = null;

// kind -> [word, tone, group, rank, icon]; undefined where the page says nothing of printers
export function lookOf(kind) {
  looks ??= JSON.parse($("#looks")?.textContent || "{}");
  return looks[kind];
}

export function kindOf(s) {
  const ours = s.job ? s.job.status : "";
  if (!s.enabled) return "off";
  if (s.stale || s.status === "offline") {
    if (s.job) return "lost";
    return s.age === null || !s.stale ? "offline" : "stale";
  }
  if (ours === "unknown" && s.status !== "error") return "unclear";
  if (s.status !== "idle") return s.status;
  if (ours === "uploading") return "receiving";
  if (ours === "starting") return "starting";
  if (s.maintenance) return "maintenance";
  return s.bed_clear ? "ready" : "bed";
}

export function titleOf(job) {
  return job.file || (job.status === "external" ? "Started at the machine" : "Another person's print");
}

const heatsUp = (heaters) => Object.values(heaters).some(({ actual, target }) => target && actual !== null && actual < target - 3);

// -- for how long, by the server's clock: a screen in a hall may have none of its own
let skew = null;  // ms

export function serverNow() {
  const said = Number($("[data-now]")?.dataset.now);
  skew ??= said ? said * 1000 - Date.now() : 0;
  return (Date.now() + skew) / 1000;
}

document.addEventListener("DOMContentLoaded", serverNow);

export const waited = (s) => (s.stale && s.age !== null ? s.age : Math.max(0, serverNow() - s.since));

export function nextOf(s) {
  if (!s.next) return s.waiting ? `${s.waiting} waiting` : "";
  const more = s.waiting - 1;
  return `${s.next.file} (${s.next.person})${more > 0 ? ` and ${more} more` : ""}`;
}

// what of a page is shown (data-if) or can be used (data-able) in this state
export function conditions(s, kind) {
  const job = s.job, heard = !s.stale, ours = Boolean(job && job.print && heard);
  return {
    job,
    left: job && job.left_s !== null,
    elapsed: job && job.elapsed_s !== null,
    ends: job && job.left_s !== null && s.status === "printing",
    heating: job && s.status === "printing" && job.progress < .01 && heatsUp(s.temperatures),
    waits: lookOf(kind)?.[2] === "attention",
    material: job && job.material,
    layer: job && job.layer,
    next: s.next || s.waiting,
    message: s.message,
    maintenance: s.maintenance,
    heard: s.stale && s.age !== null,
    bed: kind === "bed",
    unclear: kind === "unclear",
    ready: kind === "ready",
    clear: heard && s.status === "idle" && !job && !s.bed_clear,
    pause: ours && s.status === "printing",
    resume: ours && s.status === "paused",
    cancel: ours && (s.status === "printing" || s.status === "paused"),
    still: !heard || s.status === "printing" || s.status === "busy",
    move: heard && s.status !== "printing" && s.status !== "busy",
  };
}
