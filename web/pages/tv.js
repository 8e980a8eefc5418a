// A screen on the wall, by its link.
import "../live.js";
import "../paint.js";
import "../tv.js";
