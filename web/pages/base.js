// On every page.
import "../ui.js";
import "../live.js";
