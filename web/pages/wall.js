// The wall of printers.
import "../wall.js";
import "../many.js";
import "../ondrop.js";
