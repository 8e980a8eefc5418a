// On every page.
import "../ui.js";
import "../live.js";
import "../paint.js";
import "../anew.js";
import "../camera.js";
