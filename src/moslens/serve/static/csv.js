// Rows as CSV, with the columns of `moslens score --format csv`.

const COLUMNS = ["path", "status", "score", "low", "high", "width", "height", "distortions", "worst_block", "notes", "detail_score", "detail", "model", "version", "error"];

// Those of the first fault, and where its distortion has them.
const FAULT = { fault: "kind", fault_group: "group", fault_label: "label", fault_kind_certain: "kind_certain", fault_severity: "severity", fault_share: "share" };

// Spreadsheets run text that begins like a formula, and a file name may begin so. A quote in front keeps it text.
const harmless = (text) => (/^[=+\-@\t\r\n]/.test(text) ? `'${text}` : text);

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = harmless(typeof value === "string" ? value : JSON.stringify(value));
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function toCsv(rows) {
  const lines = rows.map((row) => {
    const cells = COLUMNS.map((name) => cell(name === "detail_score" ? row.detail?.score : row[name]));
    const [first] = row.distortions ?? [];
    return [...cells, ...Object.values(FAULT).map((name) => cell(first?.[name]))].join(",");
  });
  return [[...COLUMNS, ...Object.keys(FAULT)].join(","), ...lines, ""].join("\r\n");
}

export function save(text, name) {
  const address = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
