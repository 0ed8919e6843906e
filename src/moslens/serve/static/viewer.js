// The chosen photo: its score and interval, what is wrong with it, and the map over it.

import { byId, make, setBar, setStyle } from "./dom.js";
import { drawMap, mark, removeMap } from "./map.js";
import { atFullSize, fault, noteWords, outOf100, place, plain, range, story, summary, whole } from "./words.js";

const NO_MAP = "This model scores the photo as a whole; it does not say where it is bad.";
const photo = byId("photo");
const overlay = byId("overlay");
const stage = byId("stage");

let shown = null; // the item in view
let address = null;

// Shows an item; called again when the answer for the one in view is there.
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
  if (item.map) showMap(item);
  else if (item.row?.status === "ok") byId("map-note").textContent = NO_MAP;
}

function showScore(item) {
  const row = item.row;
  const good = row?.status === "ok";
  byId("gauge").hidden = !good;
  const verdict = good ? [make("span", { className: "number", textContent: whole(row.score) }), outOf100(row)] : [item.error ? "No score" : "Scoring\u2026"];
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
  byId("full-size").textContent = row ? atFullSize(row) : "";
  byId("notes").textContent = row ? noteWords(row) : "";
  byId("faults").replaceChildren(...(row?.distortions ?? []).map((each) => makeFault(each, where(each.kind))));
}

function makeFault(found, where) {
  const { kind, severity } = found;
  const button = make("button", { type: "button", title: `${plain(found)}, severity ${severity.toFixed(1)} of 5`, textContent: fault(found, where) });
  button.setAttribute("aria-pressed", "false");
  button.dataset.kind = kind;
  button.addEventListener("click", () => press(button));
  return button;
}

function press(button) {
  const on = button.getAttribute("aria-pressed") !== "true";
  for (const other of byId("faults").children) other.setAttribute("aria-pressed", String(on && other === button));
  mark(on ? button.dataset.kind : undefined);
}

function showPhoto(item) {
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(item.file);
  stage.classList.remove("alone");
  byId("no-preview").hidden = true;
  photo.hidden = false;
  photo.alt = `The photo ${item.file.name}`;
  photo.src = address;
}

photo.addEventListener("load", () => setStyle(stage, { "--ratio": String(photo.naturalWidth / photo.naturalHeight) }));
photo.addEventListener("error", () => {
  photo.hidden = true;
  stage.classList.add("alone");
  showOverlay();
});

// Where the browser cannot decode the photo, the drawing that the service made stands in for photo and map.
function showOverlay() {
  const alone = stage.classList.contains("alone");
  const needed = alone && Boolean(shown?.map?.overlay);
  byId("no-preview").hidden = !alone || needed;
  overlay.hidden = !needed;
  byId("map-slider").hidden = needed;
  if (!needed) return;
  overlay.src = shown.map.overlay;
  overlay.alt = photo.alt;
  setStyle(stage, { "--ratio": String(shown.map.width / shown.map.height) });
}

function clearMap() {
  overlay.hidden = true;
  overlay.removeAttribute("src");
  removeMap();
  stage.classList.remove("mapped");
  byId("region").textContent = "";
  byId("map-control").hidden = true;
  byId("map-note").textContent = "";
}

function showMap(item) {
  drawMap(item.map, item.row.worst_block);
  stage.classList.add("mapped");
  byId("map-control").hidden = false;
  byId("map-note").textContent = "";
  byId("region").textContent = "Point at a part, tap it or move with the arrow keys to see what is wrong there.";
  showOverlay();
  setStrength();
}

function setStrength() {
  const value = byId("opacity").value;
  setStyle(stage, { "--map": String(value / 100) });
  byId("opacity").setAttribute("aria-valuetext", `${value} %`);
}

byId("opacity").addEventListener("input", setStrength);
