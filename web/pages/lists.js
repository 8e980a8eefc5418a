// The queue and the history.
import "../rows.js";
