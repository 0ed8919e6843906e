// Numbers, faults and places in words.

const WORDS = ["bad", "poor", "fair", "good", "excellent"]; // the five grades of ITU-R BT.500
const STRENGTHS = ["faint", "mild", "moderate", "strong", "severe"]; // levels 1 to 5 of `moslens distortions`

const NO_FAULT = "No fault named"; // the model may be unsure, or not know the fault
const SURE = 0.5; // a block without a name is sound where the model says so with at least this confidence

const NOTES = {
  not_a_photo: "Not a photo: the score is outside what this model knows.",
  monochrome: "Black and white or toned.",
  tiny: "Fewer than 0.1 megapixel.",
  hdr: "High dynamic range, brought to the range of a screen.",
  preview: "The preview inside a raw file.",
};

export const word = (score) => WORDS[Math.min(4, Math.floor(score / 20))];
export const whole = (score) => String(Math.round(score));
export const plain = ({ kind, label }) => label ?? kind.replaceAll("_", " ");
export const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
export const strength = (severity) => STRENGTHS[Math.min(5, Math.max(1, Math.round(severity))) - 1];
export const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const isPhoto = ({ notes }) => !notes?.includes("not_a_photo");
// A score of what is not a photo gets no word.
export const outOf100 = (row) => ` of 100${isPhoto(row) ? `, ${word(row.score)}` : ""}`;
export const summary = (row) => whole(row.score) + outOf100(row);
export const range = (row) => `${whole(row.low)} to ${whole(row.high)}`;

// Where some blocks of a photo are: "top left", "everywhere". A place is named where at least half of them lie there.
export function place(blocks, width, height) {
  let [area, x, y] = [0, 0, 0];
  for (const block of blocks) {
    const own = block.width * block.height;
    area += own;
    x += own * (block.x + block.width / 2);
    y += own * (block.y + block.height / 2);
  }
  const share = area / (width * height);
  if (share > 0.9) return "everywhere";
  if (share > 0.6) return "nearly everywhere";
  const middle = ({ x, y, width: wide, height: tall }) => [(x + wide / 2) / width, (y + tall / 2) / height];
  const [column, row] = [x / area / width, y / area / height].map((value) => Math.min(2, Math.floor(3 * value)));
  const central = column === 1 && row === 1;
  // within a half of the photo; a direction without a word does not count
  const near = (value, third) => (third === 1 && !central) || (value > third / 3 - 1 / 6 && value < third / 3 + 1 / 2);
  const isThere = (block) => middle(block).every((value, axis) => near(value, [column, row][axis]));
  const there = blocks.filter(isThere).reduce((sum, block) => sum + block.width * block.height, 0);
  const isCentral = (block) => middle(block).every((value) => value > 1 / 3 && value < 2 / 3);
  if (there < area / 2) return central && !blocks.some(isCentral) ? "around the middle" : "in several places";
  return `${["top", "", "bottom"][row]} ${["left", "", "right"][column]}`.trim() || "in the middle";
}

// One fault of the photo; `where` is null without a map.
export function fault(found, where) {
  const at = where ? `${where}, ` : "";
  return `${upper(plain(found))}, ${strength(found.severity)}: ${at}${percent(found.share)} of the photo`;
}

// How good a photo is at 100 %, without a word: the words fit scores of whole photos. Nothing where the row does not say.
export function atFullSize({ detail }) {
  if (!detail) return "";
  const faults = detail.distortions.map((each) => `${plain(each)}, ${strength(each.severity)}`).join("; ");
  return `At 100\u00a0%, pixel for pixel: ${whole(detail.score)} of 100${faults ? ` (${faults})` : ""}.`;
}

// What a reader of the score should know.
export const noteWords = (row) => (row.notes ?? []).map((note) => NOTES[note] ?? note.replaceAll("_", " ")).join(" ");

// One sentence on the worst fault of a photo.
export function story(row, where) {
  const [worst] = [...row.distortions].sort((a, b) => b.severity * b.share - a.severity * a.share);
  if (worst) {
    const at = where(worst.kind);
    return `What hurts most: ${plain(worst)}, ${strength(worst.severity)}${at ? `, ${at}` : ""}.`;
  }
  if (!row.worst_block) return "";
  const at = place([row.worst_block], row.width, row.height);
  return row.score >= 60 ? `${NO_FAULT}.` : `${NO_FAULT}. The weakest part: ${at}.`;
}

export function region(block) {
  const score = `this part scores ${whole(block.score)}`;
  if (block.kind === null) return `${block.confidence < SURE ? "Perhaps a fault, too unsure to name" : "No fault"} here, ${score}`;
  const severity = block.severity === null ? "" : `, ${strength(block.severity)} (${block.severity.toFixed(1)} of 5)`;
  const sure = block.confidence === null ? "" : `, ${percent(block.confidence)} sure`;
  return `${upper(plain(block))}${severity}${sure}, ${score}`;
}
