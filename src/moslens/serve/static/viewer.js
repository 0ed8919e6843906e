// The chosen photo: its score and interval, the map over it, and what is wrong in each region.

import { explain } from "./api.js";
import { byId, make, place, setBar } from "./dom.js";
import { fault, range, region, summary } from "./words.js";

const photo = byId("photo");
const overlay = byId("overlay");
const stage = byId("stage");
const blocks = byId("blocks");

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
  showScore(item);
  if (changed) {
    showPhoto(item);
    clearMap();
  }
  if (item.row?.status === "ok" && !item.map && !item.asked) ask(item);
  if (changed && item.map) showMap(item.map);
}

function showScore(item) {
  const row = item.row;
  const good = row?.status === "ok";
  byId("interval").hidden = !good;
  byId("verdict").textContent = good ? summary(row) : item.error ? "No score" : "Scoring";
  byId("meaning").textContent = good ? `90 % range: ${range(row)}. ${row.width} x ${row.height} pixels.` : (item.error ?? "");
  if (good) {
    byId("interval").setAttribute("aria-label", `Score ${summary(row)}; 90 % range ${range(row)}`);
    setBar(byId("interval"), row);
  }
  showFaults(good ? row.distortions : []);
}

function showFaults(distortions) {
  byId("faults").replaceChildren(
    ...distortions.map((each) => {
      const button = make("button", { type: "button", textContent: fault(each) });
      button.setAttribute("aria-pressed", "false");
      button.dataset.kind = each.kind;
      button.addEventListener("click", () => press(button));
      return button;
    }),
  );
}

function press(button) {
  const on = button.getAttribute("aria-pressed") !== "true";
  for (const other of byId("faults").children) other.setAttribute("aria-pressed", String(on && other === button));
  markRegions();
}

function markRegions() {
  const kind = byId("faults").querySelector("[aria-pressed=true]")?.dataset.kind;
  for (const block of blocks.children) block.classList.toggle("marked", kind !== undefined && block.dataset.kind === kind);
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

photo.addEventListener("error", () => {
  photo.hidden = true;
  stage.classList.add("alone");
  byId("no-preview").hidden = !overlay.hidden;
});

function clearMap() {
  asking.abort();
  overlay.hidden = true;
  overlay.removeAttribute("src");
  blocks.replaceChildren();
  byId("region").textContent = "";
  byId("map-control").hidden = true;
  byId("map-note").textContent = maps ? "" : "The model served here scores the photo as a whole; it does not say where.";
}

async function ask(item) {
  if (!maps) return;
  asking.abort();
  asking = new AbortController();
  item.asked = true;
  byId("map-note").textContent = "Looking where";
  try {
    item.map = await explain(item.file, asking.signal);
    if (item === shown) showMap(item.map);
  } catch (error) {
    item.asked = false;
    if (error.name === "AbortError") return;
    if (error.code === "no_map") maps = false;
    if (item === shown) byId("map-note").textContent = maps ? `No map: ${error.message}` : "The model served here scores the photo as a whole; it does not say where.";
  }
}

function showMap(map) {
  overlay.src = map.overlay;
  overlay.hidden = false;
  byId("no-preview").hidden = true;
  byId("map-control").hidden = false;
  byId("map-note").textContent = "";
  byId("region").textContent = "Point at a region, tap it or move with the arrow keys to see what is wrong there.";
  const { columns } = map.grid;
  blocks.replaceChildren(...map.grid.blocks.map((block, index) => makeBlock(map, block, index, columns)));
  markRegions();
  setOpacity();
}

function makeBlock(map, block, index, columns) {
  const button = make("button", { type: "button", className: "block", tabIndex: index === 0 ? 0 : -1 });
  const across = (value) => `${(100 * value) / map.width}%`;
  const down = (value) => `${(100 * value) / map.height}%`;
  place(button, { left: across(block.x), top: down(block.y), width: across(block.width), height: down(block.height) });
  button.dataset.kind = block.kind ?? "";
  const where = `Row ${Math.floor(index / columns) + 1}, column ${(index % columns) + 1}`;
  button.setAttribute("aria-label", `${where}: ${region(block)}`);
  const activate = () => {
    for (const other of blocks.children) other.classList.toggle("active", other === button);
    byId("region").textContent = `${where}: ${region(block)}`;
  };
  button.addEventListener("pointerenter", activate);
  button.addEventListener("focus", activate);
  button.addEventListener("click", activate);
  button.addEventListener("keydown", (event) => move(event, index, columns));
  return button;
}

function move(event, index, columns) {
  const column = index % columns;
  const last = blocks.children.length - 1;
  const target = {
    ArrowLeft: column > 0 ? index - 1 : index,
    ArrowRight: column < columns - 1 ? index + 1 : index,
    ArrowUp: index - columns,
    ArrowDown: index + columns,
    Home: 0,
    End: last,
  }[event.key];
  if (target === undefined) return;
  event.preventDefault();
  if (target < 0 || target > last) return;
  blocks.children[index].tabIndex = -1;
  blocks.children[target].tabIndex = 0;
  blocks.children[target].focus();
}

function setOpacity() {
  const value = byId("opacity").value;
  place(overlay, { opacity: String(stage.classList.contains("alone") ? 1 : value / 100) });
  byId("opacity").setAttribute("aria-valuetext", `${value} %`);
}

byId("opacity").addEventListener("input", setOpacity);

