// Takes photos from the picker, a drop or a paste, scores two at a time, and shows one of them.

import { models, score } from "./api.js";
import { save, toCsv } from "./csv.js";
import { byId, limitConcurrency } from "./dom.js";
import { arrange, makeCard, offerKinds, showState } from "./list.js";
import { show } from "./viewer.js";
import { summary } from "./words.js";

const run = limitConcurrency(2);
let items = [];
let chosen = null;
let added = 0;

const say = (text) => {
  byId("status").textContent = text;
};

function add(files) {
  const fresh = [...files].filter((file) => file.size > 0 || file.type !== "");
  if (fresh.length === 0) {
    say("There is no file to score in that.");
    return;
  }
  document.body.classList.add("started");
  byId("panes").hidden = false;
  for (const file of fresh) {
    const item = { file, number: (added += 1), row: null, map: null, error: null, abort: new AbortController() };
    items.push(item);
    makeCard(item, { choose, remove, retry });
    run(() => process(item));
  }
  say(fresh.length === 1 ? `Scoring ${fresh[0].name}` : `Scoring ${fresh.length} photos`);
  arrange(items);
  if (chosen === null) choose(items[0], false);
  showTools();
}

// One photo alone needs no sorting, no filters and no way to the next.
function showTools() {
  byId("tools").hidden = byId("turn").hidden = items.length < 2;
}

async function process(item) {
  if (item.removed) return;
  try {
    const overlay = !(await item.decodable); // it stands in for a photo that the browser cannot show
    const { map, ...row } = await score(item.file, overlay, item.abort.signal);
    item.map = map;
    item.row = { ...row, path: item.file.name }; // forms escape quotes in names
    item.error = item.row.error ? reason(item.row.error.message) : null;
  } catch (error) {
    if (item.removed) return;
    item.error = error.message;
  }
  showState(item);
  offerKinds(items);
  arrange(items);
  if (item === chosen) show(item);
  report(item);
}

// a message begins with the name of the file, which the card shows already
const reason = (message) => message.slice(message.indexOf(": ") + 2);

function report(item) {
  const done = items.filter((each) => each.row || each.error).length;
  const outcome = item.row?.status === "ok" ? summary(item.row) : `no score: ${item.error}`;
  const progress = items.length > 1 ? ` (${done} of ${items.length} done)` : "";
  say(`${item.file.name}: ${outcome}${progress}`);
}

function choose(item, scroll = true) {
  if (chosen) chosen.card.querySelector(".choose").setAttribute("aria-pressed", "false");
  if (item !== chosen) show(item);
  chosen = item;
  byId("viewer").hidden = item === null;
  if (item === null) return;
  item.card.querySelector(".choose").setAttribute("aria-pressed", "true");
  if (scroll) byId("viewer").scrollIntoView({ block: "nearest" });
}

// Shows the photo before or after this one, in the list as it is sorted and filtered; the ends are joined.
function step(by) {
  const wanted = arrange(items);
  if (wanted.length > 0) choose(wanted.at((wanted.indexOf(chosen) + by) % wanted.length));
}

function forget(item) {
  item.removed = true;
  item.abort.abort();
  if (item.thumbnail) URL.revokeObjectURL(item.thumbnail);
}

function remove(item) {
  const next = item.card.nextElementSibling ?? item.card.previousElementSibling;
  forget(item);
  items = items.filter((each) => each !== item);
  (next?.querySelector(".remove") ?? byId("pick")).focus();
  arrange(items);
  if (item === chosen) choose(items[0] ?? null, false);
  byId("panes").hidden = items.length === 0;
  showTools();
  say(`Removed ${item.file.name}`);
}

function retry(item) {
  item.error = null;
  showState(item);
  run(() => process(item));
}

function clear() {
  items.forEach(forget);
  items = [];
  arrange(items);
  choose(null);
  byId("panes").hidden = true;
  document.body.classList.remove("started");
  byId("pick").focus();
  say("All photos removed");
}

function exportCsv() {
  const rows = arrange(items).filter((item) => item.row || item.error).map((item) => item.row ?? { path: item.file.name, status: "error", error: { code: "unsent", message: item.error } });
  save(toCsv(rows), "moslens.csv");
  say(`${rows.length} rows exported`);
}

byId("pick").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length > 0) add(event.clipboardData.files);
});

const holdsFiles = (event) => [...event.dataTransfer.types].includes("Files");
document.addEventListener("dragover", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  byId("drop-here").hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) byId("drop-here").hidden = true;
});
document.addEventListener("drop", (event) => {
  byId("drop-here").hidden = true;
  if (!holdsFiles(event)) return;
  event.preventDefault();
  add(event.dataTransfer.files);
});

for (const id of ["sort", "show", "at-most", "search"]) byId(id).addEventListener("input", () => arrange(items));
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("export").addEventListener("click", exportCsv);
byId("clear").addEventListener("click", clear);

const THEMES = ["system", "light", "dark"];
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = `Theme: ${theme}`;
}
byId("theme").addEventListener("click", () => {
  const theme = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % THEMES.length];
  setTheme(theme);
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // without storage the theme still changes, for this visit
  }
});
try {
  const stored = localStorage.getItem("theme");
  if (THEMES.includes(stored)) setTheme(stored);
} catch {
  // as above
}

try {
  const [model] = await models();
  byId("model").textContent = model.id;
} catch (error) {
  say(`The server does not answer: ${error.message}`);
}
