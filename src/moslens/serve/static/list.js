// The list of photos: cards, sorting and filtering.

import { byId, limitConcurrency, make, makeBar } from "./dom.js";
import { isPhoto, plain, range, summary } from "./words.js";

const THUMBNAIL = 320;
const list = byId("list");
const decode = limitConcurrency(2); // a decoded photo can take hundreds of megabytes

export function makeCard(item, actions) {
  const thumb = make("span", { className: "thumb" });
  thumb.setAttribute("aria-hidden", "true");
  const state = make("span", { className: "state" });
  const choose = make("button", { type: "button", className: "choose" }, thumb, make("span", { className: "name", textContent: item.file.name }), state);
  choose.setAttribute("aria-pressed", "false");
  choose.addEventListener("click", () => actions.choose(item));
  const remove = make("button", { type: "button", className: "remove", textContent: "\u00d7" });
  remove.setAttribute("aria-label", `Remove ${item.file.name}`);
  remove.addEventListener("click", () => actions.remove(item));
  const again = make("button", { type: "button", className: "again", textContent: "Try again", hidden: true });
  again.setAttribute("aria-label", `Try again: ${item.file.name}`);
  again.addEventListener("click", () => actions.retry(item));
  item.card = make("li", { className: "card" }, choose, again, remove);
  item.decodable = decode(() => showThumbnail(item, thumb));
  showState(item);
}

export function showState(item) {
  const state = item.card.querySelector(".state");
  const row = item.row;
  if (row?.status === "ok") {
    state.replaceChildren(make("span", { className: "word", textContent: summary(row) }), makeBar(row), make("span", { className: "quiet", textContent: cardNote(row) }));
  } else if (item.error) {
    state.replaceChildren(make("span", { className: "error", textContent: item.error }));
  } else {
    state.replaceChildren(make("span", { className: "quiet", textContent: "scoring" }));
  }
  item.card.querySelector(".again").hidden = !(item.error && !row);
}

// What a card says below the bar: the range, or that the score says little.
const cardNote = (row) => (isPhoto(row) ? `range ${range(row)}` : "not a photo");

// Whether the browser can decode the photo.
async function showThumbnail(item, place) {
  if (item.removed) return false;
  try {
    const picture = await createImageBitmap(item.file, { resizeWidth: THUMBNAIL, resizeQuality: "medium" });
    const canvas = make("canvas", { width: picture.width, height: picture.height });
    canvas.getContext("2d").drawImage(picture, 0, 0);
    picture.close();
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.8));
    item.thumbnail = URL.createObjectURL(blob);
    place.replaceChildren(make("img", { src: item.thumbnail, alt: "" }));
    return true;
  } catch {
    place.textContent = item.file.name.split(".").pop().slice(0, 5).toUpperCase() || "?";
    return false;
  }
}

const ORDERS = {
  added: (a, b) => a.number - b.number,
  worst: (a, b) => value(a, Infinity) - value(b, Infinity) || a.number - b.number,
  best: (a, b) => value(b, -Infinity) - value(a, -Infinity) || a.number - b.number,
  name: (a, b) => a.file.name.localeCompare(b.file.name, undefined, { numeric: true }) || a.number - b.number,
};

// Infinity - Infinity is NaN, which sorts as equal
const value = (item, missing) => item.row?.score ?? missing;

function matches(item) {
  const show = byId("show").value;
  const most = byId("at-most").value;
  const part = byId("search").value.trim().toLowerCase();
  if (show === "ok" && item.row?.status !== "ok") return false;
  if (show === "error" && !item.error) return false;
  if (show.startsWith("kind:") && !item.row?.distortions.some((each) => `kind:${each.kind}` === show)) return false;
  if (most !== "" && !((item.row?.score ?? NaN) <= Number(most))) return false;
  return item.file.name.toLowerCase().includes(part);
}

export function arrange(items) {
  const wanted = items.filter(matches).sort(ORDERS[byId("sort").value]);
  const cards = new Set(wanted.map((item) => item.card));
  for (const card of [...list.children]) if (!cards.has(card)) card.remove();
  // only cards out of place are moved, so that the card with the focus keeps it
  wanted.forEach((item, index) => {
    if (list.children[index] !== item.card) list.insertBefore(item.card, list.children[index] ?? null);
  });
  byId("count").textContent = `${wanted.length} of ${items.length} shown`;
  return wanted;
}

export function offerKinds(items) {
  const select = byId("show");
  const known = new Set([...select.options].map((option) => option.value));
  for (const item of items)
    for (const found of item.row?.distortions ?? []) {
      const value = `kind:${found.kind}`;
      if (!known.has(value)) {
        known.add(value);
        select.append(make("option", { value, textContent: plain(found) }));
      }
    }
}
