// Small helpers: elements by id, new elements, bars, a limit on how many tasks run at once.

export const byId = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// The content security policy forbids style attributes, but not setting properties.
export function setStyle(element, styles) {
  for (const [name, value] of Object.entries(styles)) element.style.setProperty(name, value);
}

export function setBar(bar, row) {
  const [range, point] = bar.children;
  const width = Math.max(1, row.high - row.low);
  setStyle(range, {
    left: `${row.low}%`,
    width: `${width}%`,
    "--whole": `${(100 * 100) / width}%`,
    "--shift": width >= 100 ? "0" : `${(100 * row.low) / (100 - width)}%`,
  });
  setStyle(point, { left: `${row.score}%` });
}

export function makeBar(row) {
  const bar = make("span", { className: "bar" }, make("span", { className: "range" }), make("span", { className: "point" }));
  bar.setAttribute("aria-hidden", "true");
  setBar(bar, row);
  return bar;
}

// Runs tasks in the order given, at most `most` at a time; gives a promise of what each returns.
export function limitConcurrency(most) {
  const waiting = [];
  let running = 0;
  const next = async () => {
    if (running >= most || waiting.length === 0) return;
    running += 1;
    await waiting.shift()();
    running -= 1;
    next();
  };
  return (task) =>
    new Promise((resolve) => {
      waiting.push(async () => resolve(await task()));
      next();
    });
}
