// The map of one photo: colours for quality, hatching, outlines and words for what is wrong, and a button for every block.

import { byId, make, setStyle } from "./dom.js";
import { plain, region } from "./words.js";

// The colour map cividis, which people with a colour vision deficiency can read too; as in moslens/scoring/draw_map.py
const COLOURS = ["00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "e1cc55", "fee838"].map((code) =>
  [0, 2, 4].map((at) => parseInt(code.slice(at, at + 2), 16)),
);
const tint = byId("tint");
const blocks = byId("blocks");
const labels = byId("labels");

export function colour(score) {
  const at = (Math.min(100, Math.max(0, score)) / 100) * (COLOURS.length - 1);
  const low = COLOURS[Math.floor(at)];
  const high = COLOURS[Math.ceil(at)];
  return low.map((value, i) => Math.round(value + (at - Math.floor(at)) * (high[i] - value)));
}

export function drawMap(map, worst) {
  drawTint(map.grid);
  blocks.replaceChildren(...map.grid.blocks.map((block, index) => makeBlock(map, block, index, worst)));
  labels.replaceChildren();
  for (const group of largest(map.grid)) addLabel(map, group);
}

export function removeMap() {
  tint.getContext("2d").clearRect(0, 0, tint.width, tint.height);
  blocks.replaceChildren();
  labels.replaceChildren();
}

export function mark(kind) {
  for (const block of blocks.children) block.classList.toggle("marked", kind !== undefined && block.dataset.kind === kind);
}

// One pixel for each block; the browser smooths them when it scales the canvas.
function drawTint({ rows, columns, blocks: cells }) {
  Object.assign(tint, { width: columns, height: rows });
  const context = tint.getContext("2d");
  const pixels = context.createImageData(columns, rows);
  cells.forEach((cell, index) => pixels.data.set([...colour(cell.score), 255], 4 * index));
  context.putImageData(pixels, 0, 0);
}

const inPercent = (part, whole) => `${(100 * part) / whole}%`;

function makeBlock(map, block, index, worst) {
  const { columns, blocks: cells } = map.grid;
  const button = make("button", { type: "button", className: "block", tabIndex: index === 0 ? 0 : -1 });
  setStyle(button, {
    left: inPercent(block.x, map.width),
    top: inPercent(block.y, map.height),
    width: inPercent(block.width, map.width),
    height: inPercent(block.height, map.height),
  });
  button.dataset.kind = block.kind ?? "";
  button.classList.toggle("faulty", block.kind !== null);
  for (const [side, next] of Object.entries(neighbours(index, columns, cells.length)))
    if (hasEdge(block, side, cells[next])) button.classList.add(`edge-${side}`);
  if (worst && worst.x === block.x && worst.y === block.y) button.classList.add("worst");
  const words = region(block);
  button.setAttribute("aria-label", `Row ${Math.floor(index / columns) + 1}, column ${(index % columns) + 1}: ${words}`);
  const activate = () => {
    for (const other of blocks.children) other.classList.toggle("active", other === button);
    byId("region").textContent = words;
  };
  for (const event of ["pointerenter", "focus", "click"]) button.addEventListener(event, activate);
  button.addEventListener("keydown", (event) => move(event, index, columns));
  return button;
}

// Blocks with the same fault share an outline. Between two faults only one of the two blocks draws the line.
function hasEdge(block, side, next) {
  if (block.kind === null || next?.kind === block.kind) return false;
  return side === "right" || side === "bottom" || (next?.kind ?? null) === null;
}

// The indices of the blocks beside a block; -1 beyond the edge of the photo.
function neighbours(index, columns, count) {
  const column = index % columns;
  return {
    left: column > 0 ? index - 1 : -1,
    right: column < columns - 1 ? index + 1 : -1,
    top: index - columns >= 0 ? index - columns : -1,
    bottom: index + columns < count ? index + columns : -1,
  };
}

// For each kind of fault the largest group of blocks that touch; the largest group first.
function largest({ columns, blocks: cells }) {
  const seen = new Set();
  const found = new Map();
  cells.forEach(({ kind }, start) => {
    if (kind === null || seen.has(start)) return;
    const group = [];
    const open = [start];
    seen.add(start);
    while (open.length > 0) {
      const index = open.pop();
      group.push(cells[index]);
      for (const next of Object.values(neighbours(index, columns, cells.length)))
        if (next >= 0 && !seen.has(next) && cells[next].kind === kind) {
          seen.add(next);
          open.push(next);
        }
    }
    if (group.length > (found.get(kind)?.length ?? 0)) found.set(kind, group);
  });
  return [...found.values()].sort((a, b) => b.length - a.length);
}

// Puts the label on the block nearest to the middle of its group where it covers no other label. Without such a block
// there is no label; the outline, and the words on pointing at it, are still there.
function addLabel(map, group) {
  const middle = (cell) => [cell.x + cell.width / 2, cell.y + cell.height / 2];
  const mean = [0, 1].map((axis) => group.reduce((sum, cell) => sum + middle(cell)[axis], 0) / group.length);
  const distance = (cell) => Math.hypot(middle(cell)[0] - mean[0], middle(cell)[1] - mean[1]);
  const label = make("span", { className: "label", textContent: plain(group[0]) });
  const others = [...labels.children].map((other) => other.getBoundingClientRect());
  labels.append(label);
  for (const cell of [...group].sort((a, b) => distance(a) - distance(b))) {
    const [x, y] = middle(cell);
    setStyle(label, { "--x": inPercent(x, map.width), "--y": inPercent(y, map.height) });
    const box = label.getBoundingClientRect();
    const apart = (other) => box.right <= other.left || box.left >= other.right || box.bottom <= other.top || box.top >= other.bottom;
    if (others.every(apart)) return;
  }
  label.remove();
}

function move(event, index, columns) {
  const last = blocks.children.length - 1;
  const beside = neighbours(index, columns, last + 1);
  const keys = { ArrowLeft: beside.left, ArrowRight: beside.right, ArrowUp: beside.top, ArrowDown: beside.bottom, Home: 0, End: last };
  const target = keys[event.key];
  if (target === undefined) return;
  event.preventDefault();
  if (target < 0) return;
  blocks.children[index].tabIndex = -1;
  blocks.children[target].tabIndex = 0;
  blocks.children[target].focus();
}
