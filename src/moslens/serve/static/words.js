// Numbers and names as people read them.

const WORDS = ["bad", "poor", "fair", "good", "excellent"]; // the five grades of ITU-R BT.500

export const word = (score) => WORDS[Math.min(4, Math.floor(score / 20))];
export const whole = (score) => String(Math.round(score));
export const plain = (kind) => kind.replaceAll("_", " ");
export const percent = (share) => `${Math.round(100 * share)} %`;

export function summary(row) {
  return `${whole(row.score)} of 100, ${word(row.score)}`;
}

export function range(row) {
  return `${whole(row.low)} to ${whole(row.high)}`;
}

export function fault(distortion) {
  const share = distortion.share === undefined ? "" : `, on ${percent(distortion.share)} of the photo`;
  return `${plain(distortion.kind)}: ${distortion.severity.toFixed(1)} of 5${share}`;
}

export function region(block) {
  const score = `region score ${whole(block.score)}`;
  if (block.kind === null) return `Nothing wrong found here, ${score}`;
  const severity = block.severity === null ? "" : `, severity ${block.severity.toFixed(1)} of 5`;
  const sure = block.confidence === null ? "" : `, ${percent(block.confidence)} sure`;
  return `${plain(block.kind)}${severity}${sure}, ${score}`;
}
