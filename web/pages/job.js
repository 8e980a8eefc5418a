// One job: its layers, which are there as soon as it is sliced.
import { openLayers } from "../layers.js";

document.addEventListener("DOMContentLoaded", () => openLayers());
document.addEventListener("htmx:afterSettle", () => openLayers());
