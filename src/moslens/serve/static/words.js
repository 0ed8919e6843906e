// Numbers, faults and places in words.

const WORDS = ["bad", "poor", "fair", "good", "excellent"]; // the five grades of ITU-R BT.500
const STRENGTHS = ["faint", "mild", "clear", "strong", "severe"]; // levels 1 to 5 of `moslens distortions`

const NAMES = {
  gaussian_blur: "blur",
  lens_blur: "out of focus",
  motion_blur: "motion blur",
  color_diffusion: "bleeding colours",
  color_shift: "colour fringes",
  color_quantization: "too few colours",
  hsv_saturation: "faded colours",
  lab_saturation: "garish colours",
  jpeg2000: "JPEG 2000 smear",
  jpeg: "JPEG blocks",
  white_noise: "noise",
  color_noise: "colour noise",
  impulse_noise: "salt-and-pepper noise",
  multiplicative_noise: "speckle noise",
  denoise: "smeared details",
  brighten: "too bright",
  darken: "too dark",
  mean_shift: "shifted brightness",
  jitter: "jittered pixels",
  non_eccentricity: "misplaced patches",
  pixelate: "pixelation",
  quantization: "too few tones",
  color_block: "blank patches",
  high_sharpen: "oversharpening",
  contrast_change: "wrong contrast",
  nonlinear_contrast: "flat contrast",
};

export const word = (score) => WORDS[Math.min(4, Math.floor(score / 20))];
export const whole = (score) => String(Math.round(score));
export const plain = (kind) => NAMES[kind] ?? kind.replaceAll("_", " ");
export const percent = (share) => `${Math.round(100 * share)}\u00a0%`;
export const strength = (severity) => STRENGTHS[Math.min(5, Math.max(1, Math.round(severity))) - 1];
export const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);

export const summary = (row) => `${whole(row.score)} of 100, ${word(row.score)}`;
export const range = (row) => `${whole(row.low)} to ${whole(row.high)}`;

// Where some blocks of a photo are: "top left", "everywhere".
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
  const third = (value, names) => names[Math.min(2, Math.floor(3 * value))];
  const down = third(y / area / height, ["top", "", "bottom"]);
  const across = third(x / area / width, ["left", "", "right"]);
  return `${down} ${across}`.trim() || "in the middle";
}

// One fault of the photo; `where` is null without a map.
export function fault({ kind, severity, share }, where) {
  const at = where ? `${where}, ` : "";
  return `${upper(plain(kind))}, ${strength(severity)}: ${at}${percent(share)} of the photo`;
}

// One sentence on the worst fault of a photo.
export function story(row, where) {
  const [worst] = [...row.distortions].sort((a, b) => b.severity * b.share - a.severity * a.share);
  if (worst) {
    const at = where(worst.kind);
    return `What hurts most: ${plain(worst.kind)}, ${strength(worst.severity)}${at ? `, ${at}` : ""}.`;
  }
  if (!row.worst_block) return "";
  const at = place([row.worst_block], row.width, row.height);
  return row.score >= 60 ? "Nothing in particular is wrong." : `No single fault stands out. The weakest part: ${at}.`;
}

export function region(block) {
  const score = `this part scores ${whole(block.score)}`;
  if (block.kind === null) return `Nothing wrong found here, ${score}`;
  const severity = block.severity === null ? "" : `, ${strength(block.severity)} (${block.severity.toFixed(1)} of 5)`;
  const sure = block.confidence === null ? "" : `, ${percent(block.confidence)} sure`;
  return `${upper(plain(block.kind))}${severity}${sure}, ${score}`;
}
