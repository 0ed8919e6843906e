// The chosen photo: its score and interval, what is wrong with it, and the map over it.

import { explain } from "./api.js";
import { byId, make, place as style, setBar } from "./dom.js";
import { drawMap, mark, removeMap } from "./map.js";
import { fault, place, range, story, summary, whole, word } from "./words.js";

const NO_MAP = "The model served here scores the photo as a whole; it does not say where.";
const photo = byId("photo");
const overlay = byId("overlay");
const stage = byId("stage");

let shown = null; // the item in view
let address = null;
let asking = new AbortController();
let maps = true;

export function setMaps(possible) {
  maps = possible;
}

export function show(item) {
  const changed = item !== shown;
  shown = item;
  if (item === null) return;
  byId("viewer-name").textContent = item.file.name;
  if (changed) {
    showPhoto(item);
    clearMap();
  }
  showScore(item);
  if (item.row?.status === "ok" && !item.map && !item.asked) ask(item);
  if (changed && item.map) showMap(item);
}

function showScore(item) {
  const row = item.row;
  const good = row?.status === "ok";
  byId("gauge").hidden = !good;
  const verdict = good ? [make("span", { className: "number", textContent: whole(row.score) }), ` of 100, ${word(row.score)}`] : [item.error ? "No score" : "Scoring\u2026"];
  byId("verdict").replaceChildren(...verdict);
  byId("meaning").textContent = good ? `90 % range: ${range(row)}. ${row.width} x ${row.height} pixels.` : (item.error ?? "");
  if (good) {
    byId("interval").setAttribute("aria-label", `Score ${summary(row)}; 90 % range ${range(row)}`);
    setBar(byId("interval"), row);
  }
  showFaults(item);
}

function showFaults(item) {
  const row = item.row?.status === "ok" ? item.row : null;
  const map = item.map;
  const where = (kind) => map && place(map.grid.blocks.filter((block) => block.kind === kind), map.width, map.height);
  byId("story").textContent = row ? story(row, where) : "";
  const found = row?.distortions ?? [];
  const buttons = [...byId("faults").children];
  // once the map is there the same faults only get their places: replacing their buttons would drop the focus
  if (buttons.length !== found.length || buttons.some((button, at) => button.dataset.kind !== found[at].kind))
    byId("faults").replaceChildren(...found.map(makeFault));
  found.forEach((each, at) => {
    byId("faults").children[at].textContent = fault(each, where(each.kind));
  });
}

function makeFault({ kind, severity }) {
  const button = make("button", { type: "button", title: `${kind}, severity ${severity.toFixed(1)} of 5` });
  button.setAttribute("aria-pressed", "false");
  button.dataset.kind = kind;
  button.addEventListener("click", () => press(button));
  return button;
}

const pressedKind = () => byId("faults").querySelector("[aria-pressed=true]")?.dataset.kind;

function press(button) {
  const on = button.getAttribute("aria-pressed") !== "true";
  for (const other of byId("faults").children) other.setAttribute("aria-pressed", String(on && other === button));
  mark(pressedKind());
}

function showPhoto(item) {
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(item.file);
  stage.classList.remove("alone");
  byId("no-preview").hidden = true;
  byId("faults").replaceChildren();
  photo.hidden = false;
  photo.alt = `The photo ${item.file.name}`;
  photo.src = address;
}

photo.addEventListener("load", () => style(stage, { "--ratio": String(photo.naturalWidth / photo.naturalHeight) }));
photo.addEventListener("error", () => {
  photo.hidden = true;
  stage.classList.add("alone");
  byId("no-preview").hidden = Boolean(shown?.map);
  showOverlay();
});

// Where the browser cannot decode the photo, the drawing that the service made stands in for photo and map.
function showOverlay() {
  const needed = stage.classList.contains("alone") && Boolean(shown?.map);
  overlay.hidden = !needed;
  byId("map-slider").hidden = needed;
  if (!needed) return;
  overlay.src = shown.map.overlay;
  overlay.alt = photo.alt;
  style(stage, { "--ratio": String(shown.map.width / shown.map.height) });
}

function clearMap() {
  asking.abort();
  overlay.hidden = true;
  overlay.removeAttribute("src");
  removeMap();
  stage.classList.remove("mapped");
  byId("region").textContent = "";
  byId("map-control").hidden = true;
  byId("map-note").textContent = maps ? "" : NO_MAP;
}

async function ask(item) {
  if (!maps) return;
  asking.abort();
  asking = new AbortController();
  item.asked = true;
  byId("map-note").textContent = "Looking where\u2026";
  try {
    item.map = await explain(item.file, asking.signal);
    if (item === shown) showMap(item);
  } catch (error) {
    item.asked = false;
    if (error.name === "AbortError") return;
    if (error.code === "no_map") maps = false;
    if (item === shown) byId("map-note").textContent = maps ? `No map: ${error.message}` : NO_MAP;
  }
}

function showMap(item) {
  drawMap(item.map, item.row?.worst_block);
  stage.classList.add("mapped");
  byId("no-preview").hidden = true;
  byId("map-control").hidden = false;
  byId("map-note").textContent = "";
  byId("region").textContent = "Point at a part, tap it or move with the arrow keys to see what is wrong there.";
  showOverlay();
  showFaults(item);
  mark(pressedKind());
  setStrength();
}

function setStrength() {
  const value = byId("opacity").value;
  style(stage, { "--map": String(value / 100) });
  byId("opacity").setAttribute("aria-valuetext", `${value} %`);
}

byId("opacity").addEventListener("input", setStrength);
