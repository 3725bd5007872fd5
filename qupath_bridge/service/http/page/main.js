// The page: which view is shown, and when it asks again.

import { token } from "./client.js";
import { tick } from "./elements.js";
import { jobView } from "./job.js";
import { jobsView } from "./jobs.js";

const PERIOD = 3000;  // milliseconds from an answer to the next question
const get = (id) => document.getElementById(id);
const main = get("main");

let load = null;
let timer = 0;
let asking = 0;
let arrived = false;
let refused = false;

// Ask now; what was asked before is forgotten.
async function refresh() {
  clearTimeout(timer);
  const mine = ++asking;
  const view = load;
  try {
    await view();
    if (mine !== asking || view !== load) return;
    get("problem").hidden = !refused;
    get("login").hidden = true;
    get("leave").hidden = !token.get();
    get("updated").textContent = `at ${new Date().toLocaleTimeString()}`;
    arrive();
  } catch (error) {
    if (mine !== asking || view !== load) return;
    if (error.status === 401) {
      askForToken();
      return;
    }
    show(error);
  }
  timer = setTimeout(() => (document.hidden ? null : refresh()), PERIOD);
}

// The keyboard goes to the title of a view that was opened, and does not move after.
function arrive() {
  if (arrived) return;
  arrived = true;
  get("title")?.focus({ preventScroll: true });
}

function show(error) {
  get("problem").textContent = error.message;
  get("problem").hidden = false;
}

// Show that something that a person asked for failed, until something else is asked for.
function failed(error) {
  refused = true;
  show(error);
}

function say(text) {
  refused = false;
  get("said").textContent = text;
}

function ask(question, answer) {
  const dialog = get("ask");
  get("question").textContent = question;
  get("yes").textContent = answer;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((done) => {
    // The event of a dialog that was closed before may come late, when this one is open.
    dialog.onclose = () => (dialog.open ? null : done(dialog.returnValue === "yes"));
  });
}

function askForToken() {
  if (token.get()) show(new Error("The service does not know this token."));
  token.forget();
  main.replaceChildren();
  get("leave").hidden = true;
  get("login").hidden = false;
  get("token").focus();
}

function open() {
  const [, job] = location.hash.match(/^#\/jobs\/(.+)$/) ?? [];
  document.title = "Jobs · qupath-bridge";
  get("problem").hidden = true;
  arrived = refused = false;
  window.scrollTo(0, 0);
  load = job ? jobView(main, refresh, decodeURIComponent(job), { ask, say, failed })
    : jobsView(main, refresh);
  refresh();
}

get("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set(get("token").value.trim());
  get("token").value = "";
  open();
});
get("leave").addEventListener("click", () => {
  token.forget();
  open();
});
get("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.addEventListener("visibilitychange", () => (document.hidden || !load ? null : refresh()));
addEventListener("hashchange", open);
setInterval(tick, 10000);
open();
