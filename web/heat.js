// One printer's temperatures: the list of its heaters, and a chart that opens with the last half hour and goes on live.
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { $, $$, shownTime } from "./farm.js";
import { states } from "./live.js";
import { degrees, heaterName } from "./words.js";

const KEPT = 30 * 60, EVERY = 2, SILENCE = 40;  // s; as printers.history
const SAID_EVERY = 15;  // s; the chart in words

// -- the list
function row(list, name) {
  const found = $(`[data-heater="${CSS.escape(name)}"]`, list);
  if (found) return found;
  const made = document.createElement("li");  // one that the printer did not report when the page was written
  made.dataset.heater = name;
  made.innerHTML = '<span class="heater-name"></span><span class="heater-now"><b data-now></b> <span data-aim>→ <b data-target></b></span> °C</span>';
  $(".heater-name", made).textContent = heaterName(name);
  list.append(made);
  return made;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function paintHeaters(list, temperatures) {
  const silent = $$("[data-heater]", list).map((li) => [li.dataset.heater, { actual: null, target: 0 }]);
  for (const [name, { actual, target }] of Object.entries({ ...Object.fromEntries(silent), ...temperatures })) {
    const li = row(list, name);
    setText($("[data-now]", li), degrees(actual));
    setText($("[data-target]", li), degrees(target));
    $("[data-aim]", li).hidden = !target;
  }
}

// -- the chart
const wanted = (target) => target || null;  // a heater that is off wants nothing: no line

export class Chart {
  constructor(figure, printer) {
    this.figure = figure;
    this.printer = printer;
    this.times = [];
    this.heat = new Map();  // heater -> {actual: [], target: []}, as long as times
    this.saidAt = 0;
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(figure);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.plot?.redraw());
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.load(); });
    setInterval(() => this.tick(), EVERY * 1000);
    this.load();
  }

  size() {
    const width = Math.max(200, this.figure.clientWidth);
    return { width, height: Math.round(Math.min(260, Math.max(170, width * 0.36))) };
  }

  colour(name) {
    const token = name.startsWith("tool") ? `tool${Number(name.slice(4)) % 4}` : name;
    return this.token(`--heat-${token}`) || this.token("--muted");
  }

  token(name) {
    return getComputedStyle(this.figure).getPropertyValue(name).trim();
  }

  async load() {
    if (this.loading) return;
    this.loading = true;
    try {
      const answer = await fetch(this.figure.dataset.chart, { headers: { Accept: "application/json" } });
      if (answer.ok) this.take(await answer.json());
    } catch {  // the page says that the farm is away; the chart goes on with what comes
    } finally {
      this.loading = false;
      this.tick();
    }
  }

  take({ now, times, heaters }) {
    const ahead = Date.now() / 1000 - now;  // of this browser's clock
    this.times = times.map((at) => at + ahead);
    this.heat = new Map(Object.entries(heaters).map(([name, { actual, target }]) => [name, { actual, target: target.map(wanted) }]));
    this.build();
  }

  tick() {
    const state = states.get(this.printer), at = Date.now() / 1000, last = this.times.at(-1);
    if (document.hidden || this.loading) return;
    if (state && (last === undefined || at - last > EVERY * 0.9)) this.add(at, state);
    this.show();
  }

  add(at, state) {
    const known = state.stale ? {} : state.temperatures, anew = Object.keys(known).filter((name) => !this.heat.has(name));
    if (at - this.times.at(-1) > SILENCE) this.push(this.times.at(-1) + 1, {});
    for (const name of anew) {
      const nothing = () => this.times.map(() => null);
      this.heat.set(name, { actual: nothing(), target: nothing() });
    }
    this.push(at, known);
    if (anew.length) this.build();
  }

  push(at, known) {
    this.times.push(at);
    for (const [name, column] of this.heat) {
      column.actual.push(known[name]?.actual ?? null);
      column.target.push(wanted(known[name]?.target));
    }
    while (this.times[0] < at - KEPT - 60) {
      this.times.shift();
      for (const column of this.heat.values()) [column.actual, column.target].forEach((values) => values.shift());
    }
  }

  data() {
    return [this.times, ...[...this.heat.values()].flatMap(({ actual, target }) => [actual, target])];
  }

  show() {
    if (!this.plot && this.heat.size) this.build();
    this.plot?.setData(this.data());
    if (Date.now() - this.saidAt > SAID_EVERY * 1000) this.say();
  }

  build() {
    this.plot?.destroy();
    this.plot = this.heat.size ? new uPlot(this.options(), this.data(), $(".plot", this.figure)) : null;
    this.say();
  }

  options() {
    const series = [...this.heat.keys()].flatMap((name) => [
      { label: heaterName(name), stroke: () => this.colour(name), width: 2, points: { show: false } },
      { label: `${heaterName(name)}, wanted`, stroke: () => this.colour(name), width: 1.5, dash: [5, 5], points: { show: false } },
    ]);
    const axis = { stroke: () => this.token("--muted"), grid: { stroke: () => this.token("--line"), width: 1 }, ticks: { show: false } };
    return {
      ...this.size(),
      series: [{}, ...series],
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { size: 7 } },
      hooks: { setCursor: [(plot) => this.point(plot.cursor.idx)] },
      scales: {
        x: { time: true, range: () => [Date.now() / 1000 - KEPT, Date.now() / 1000] },
        y: { range: (_, low, high) => [0, Math.max(50, Math.ceil(((high ?? 0) * 1.08) / 10) * 10)] },
      },
      axes: [
        { ...axis, size: 28, space: 70, values: (_, ticks) => ticks.map((at) => shownTime(new Date(at * 1000))) },
        { ...axis, size: 44, space: 34, values: (_, ticks) => ticks.map((value) => `${value}°`) },
      ],
    };
  }

  // what the chart showed where the pointer is
  point(index) {
    const read = $("[data-chart-at]", this.figure);
    read.hidden = index === null || index === undefined;
    if (read.hidden) return;
    const values = [...this.heat].filter(([, column]) => column.actual[index] !== null)
      .map(([name, column]) => `${heaterName(name)} ${degrees(column.actual[index])} °C`);
    setText(read, [shownTime(new Date(this.times[index] * 1000), true), ...values].join(" · "));
  }

  say() {
    this.saidAt = Date.now();
    const words = [...this.heat].map(([name, { actual, target }]) => {
      const known = actual.filter((value) => value !== null);
      if (!known.length) return "";
      const aim = target.at(-1) ? `, to be ${degrees(target.at(-1))} °C` : "";
      return `${heaterName(name)} ${degrees(known.at(-1))} °C${aim}; in the last half hour between ${degrees(Math.min(...known))} and ${degrees(Math.max(...known))} °C.`;
    });
    setText($("[data-chart-says]", this.figure), words.join(" ") || "Nothing is known of the last half hour.");
  }
}

export function watchHeat(panel) {
  const list = $("[data-heaters]", panel), figure = $("[data-chart]", panel), printer = panel.dataset.printer;
  document.addEventListener("farm:state", ({ detail: { id, state } }) => {
    if (id !== printer) return;
    panel.classList.toggle("is-stale", state.stale);
    paintHeaters(list, state.temperatures);
  });
  return new Chart(figure, printer);
}
