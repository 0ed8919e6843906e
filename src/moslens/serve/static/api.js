// The two calls that the page makes, and the errors that they may end in. Addresses are relative to the page, which may
// lie below a prefix of a reverse proxy.

const TRIES = 20;

export class ApiError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

const sleep = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

async function fetchJson(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("unreachable", "the server cannot be reached");
  }
  let content = null;
  try {
    content = await answer.json();
  } catch {
    throw new ApiError("unreadable", `the server gave no readable answer (${answer.status})`);
  }
  if (answer.ok) return content;
  const error = new ApiError(content.error?.code ?? "unknown", content.error?.message ?? `status ${answer.status}`);
  error.wait = Number(answer.headers.get("Retry-After")) || 0;
  throw error;
}

// A busy server says when to come back; the upload is sent again then.
async function upload(address, file, signal) {
  try {
    await file.slice(0, 1).arrayBuffer(); // fetch would report a connection error
  } catch {
    throw new ApiError("unreadable", "the browser cannot read this file; is it a folder, or has it changed?");
  }
  const body = new FormData();
  body.append("file", file, file.name);
  for (let left = TRIES; ; left -= 1) {
    try {
      return await fetchJson(address, { method: "POST", body, signal });
    } catch (error) {
      if (error.code !== "busy" || left === 0 || signal.aborted) throw error;
      await sleep(Math.max(1, error.wait));
    }
  }
}

// The row of one photo with its map; `overlay` asks for the drawing too, which costs the server more than the score.
export async function score(file, overlay, signal) {
  const [row] = await upload(`v1/score?map=true&detail=true&overlay=${overlay}`, file, signal);
  return row;
}

export const models = () => fetchJson("v1/models");
