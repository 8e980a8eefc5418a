// What pages do by themselves: questions before deeds, notices, clock times in the reader's own time zone, dropping files.
import { $, $$, shownTime } from "./farm.js";

function localTimes(root) {
  for (const element of $$("time[datetime]", root)) {
    element.textContent = shownTime(new Date(element.dateTime), "at" in element.dataset);
  }
}

// -- questions
let whenAnswered = () => {};

function ask(question, element, then) {
  const dialog = $("#ask");
  $("#ask-title").textContent = question;
  $("#ask-text").textContent = element.dataset.text || "";
  $("#ask-yes").textContent = element.dataset.yes || "Yes";
  $("#ask-no").textContent = element.dataset.no || "No";
  $("#ask-yes").className = "bad" in element.dataset ? "stop" : "primary";
  dialog.returnValue = "";
  whenAnswered = then;
  dialog.showModal();
  $("#ask-no").focus();
}

function answered(event) {
  if (event.target.returnValue === "yes") whenAnswered();
  whenAnswered = () => {};
}

document.addEventListener("htmx:confirm", (event) => {
  if (!event.detail.question) return;
  event.preventDefault();
  ask(event.detail.question, event.target, () => event.detail.issueRequest(true));
});

// plain forms (answered by another page) may ask too
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.ask || form.dataset.sure) return;
  event.preventDefault();
  const submitter = event.submitter;
  ask(form.dataset.ask, form, () => {
    form.dataset.sure = "yes";
    form.requestSubmit(submitter);
  });
});

// -- notices
function notice(text) {
  const box = document.createElement("div");
  box.className = "notice bad";
  box.setAttribute("role", "alert");
  const words = document.createElement("p");
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.dataset.dismiss = "";
  close.textContent = "Dismiss";
  box.append(words, close);
  $("#notices").replaceChildren(box);
}

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-dismiss]")) event.target.closest(".notice").remove();
});
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  const landed = xhr.responseURL ? new URL(xhr.responseURL).pathname : "";
  if (landed === document.body.dataset.login) {  // the session ended meanwhile
    event.detail.shouldSwap = false;
    location.reload();
  } else if (xhr.status >= 400 && !xhr.getResponseHeader("HX-Retarget")) {
    event.detail.shouldSwap = false;
    notice("The farm did not answer as it should. Try again in a moment.");
  } else if (xhr.status < 400 && event.detail.requestConfig.verb !== "get") {
    $("#notices").replaceChildren();
  }
});
document.addEventListener("htmx:sendError", (event) => {
  if (event.detail.requestConfig.verb !== "get") notice("The farm cannot be reached. Nothing was sent. Look at your connection and try again.");
});
document.addEventListener("htmx:afterSwap", (event) => localTimes(event.detail.elt));

// -- giving a file: dropped or chosen, with the progress of its way to the farm
function dropZone(form) {
  const input = $("input[type=file]", form), bar = $("progress", form), note = $("[data-note]", form);
  const most = Number(form.dataset.most);
  const say = (text) => { note.textContent = text; note.hidden = !text; };
  const given = () => {
    const file = input.files[0];
    if (!file) return;
    if (file.size > most) {
      say(`${file.name} is larger than ${Math.round(most / 1e6)} MB, the most this farm accepts.`);
      return;
    }
    say(`Sending ${file.name} …`);
    bar.hidden = false;
    htmx.trigger(form, "given");
  };
  input.addEventListener("change", given);
  for (const name of ["dragenter", "dragover"]) {
    form.addEventListener(name, (event) => { event.preventDefault(); form.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) {
    form.addEventListener(name, (event) => { event.preventDefault(); form.classList.remove("over"); });
  }
  form.addEventListener("drop", (event) => {
    if (event.dataTransfer.files.length !== 1) {
      say("Give one file at a time.");
      return;
    }
    input.files = event.dataTransfer.files;
    given();
  });
  form.addEventListener("htmx:xhr:progress", (event) => {
    if (!event.detail.lengthComputable) return;
    bar.value = event.detail.loaded / event.detail.total;
    if (bar.value >= 1) {
      bar.removeAttribute("value");
      say("Reading the model …");
    }
  });
  form.addEventListener("htmx:afterRequest", () => {
    bar.hidden = true;
    bar.value = 0;
    input.value = "";
    say("");
  });
  $("[data-plain]", form)?.remove();
}

document.addEventListener("DOMContentLoaded", () => {
  localTimes(document);
  $("#ask")?.addEventListener("close", answered);
  $$("form[data-drop]").forEach(dropZone);
  $("#notices .notice.bad")?.scrollIntoView({ block: "nearest" });
});
