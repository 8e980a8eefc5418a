// A file dropped on a card is given to the farm, with the progress of its way, and its options open with this printer
// chosen. Only where this person may print.
import { $, $$ } from "./farm.js";

const hasFile = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
const cardUnder = (event) => event.target.closest?.("[data-wall] .card");
let sending = false;

function say(card, text, progress) {
  if (!text) return $(".drop-here", card)?.remove();
  if (!$(".drop-here", card)) card.append($("#drop-here").content.cloneNode(true));
  const box = $(".drop-here", card), bar = $("progress", box);
  $("span", box).textContent = text;
  bar.hidden = progress === undefined;
  if (progress < 1) bar.value = progress;
  else bar.removeAttribute("value");
  return undefined;
}

function clear(except) {
  for (const card of $$(".card.over")) {
    if (card === except) continue;
    card.classList.remove("over");
    if ("submits" in card.dataset) say(card, "");
  }
}

function over(event) {
  if (!hasFile(event) || sending || !$("[data-wall]")) return;
  const card = cardUnder(event);
  clear(card);
  event.preventDefault();  // else the browser would open it
  const may = card && "submits" in card.dataset;
  event.dataTransfer.dropEffect = may ? "copy" : "none";
  if (!card) return;
  card.classList.add("over");
  if (may) say(card, "Drop it to print here");
}

function notice(html) {
  $("#notices").innerHTML = html;  // from the farm, as htmx would put it
}

function refuse(text) {
  const box = document.createElement("div"), words = document.createElement("p");
  box.className = "notice bad";
  box.setAttribute("role", "alert");
  words.textContent = text;
  box.append(words);
  $("#notices").replaceChildren(box);
}

function send(card, file) {
  const { submit, most } = $("[data-wall]").dataset, request = new XMLHttpRequest(), form = new FormData();
  if (file.size > Number(most)) {
    clear();
    return refuse(`${file.name} is larger than ${Math.round(Number(most) / 1e6)} MB, the most this farm accepts.`);
  }
  form.append("file", file);
  sending = true;
  request.open("POST", `${submit}?printer=${card.dataset.printer}`);
  for (const [name, value] of Object.entries(JSON.parse(document.body.getAttribute("hx-headers")))) {
    request.setRequestHeader(name, value);
  }
  request.setRequestHeader("HX-Request", "true");
  request.upload.onprogress = ({ loaded, total }) => {
    say(card, loaded < total ? `Sending ${file.name} …` : "Reading the model …", loaded / total);
  };
  request.onloadend = () => {
    sending = false;
    const where = request.getResponseHeader("HX-Redirect");
    if (request.status < 400 && where) return location.assign(where);
    clear();
    if (request.responseURL.includes(document.body.dataset.login)) return location.reload();  // the session ended
    if (request.status) return notice(request.responseText);
    return refuse("The farm cannot be reached. Nothing was sent. Look at your connection and try again.");
  };
  say(card, `Sending ${file.name} …`, 0);
  return request.send(form);
}

function dropped(event) {
  if (!hasFile(event) || !$("[data-wall]")) return;
  event.preventDefault();
  const card = cardUnder(event), { files } = event.dataTransfer;
  if (!card || sending || !("submits" in card.dataset)) return clear();
  if (files.length === 1) return send(card, files[0]);
  clear();
  return refuse("Give one file at a time.");
}

document.addEventListener("DOMContentLoaded", () => {
  if (!$("[data-wall] [data-submits]")) return;
  document.addEventListener("dragover", over);
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) clear(); });
  document.addEventListener("drop", dropped);
});
