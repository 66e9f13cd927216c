"use strict";
const set = JSON.parse(document.getElementById("data").textContent);
const words = JSON.parse(document.getElementById("words").textContent);
const at = (id) => document.getElementById(id);
const STORE = `ctscribe-reader-study:${set.study}:${set.reader}`;
const SCALES = Object.keys(words.scales), ERRORS = Object.keys(words.errors), WEIGHTS = Object.keys(words.weights);
const MARKS = Object.keys(words.marks), FINDINGS = Object.keys(set.findings);
const PAUSE = 60; // seconds without a sign of life after which time no longer counts

let answers = {}, here = 0, active = 0, unsaved = false, alive = Date.now(), keeps = true;
let lang = set.language, theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";

// ------------------------------------------------------------------------------------------ memory
try {
  const kept = JSON.parse(localStorage.getItem(STORE) || "{}");
  answers = kept.answers || {}; here = Math.min(kept.here || 0, set.items.length - 1);
  lang = kept.lang || lang; theme = kept.theme || theme; unsaved = Boolean(kept.unsaved);
  localStorage.setItem(STORE + ":probe", "1"); localStorage.removeItem(STORE + ":probe");
} catch (error) { keeps = false; }

function keep() {
  try { localStorage.setItem(STORE, JSON.stringify({ answers, here, lang, theme, unsaved })); } catch (error) { keeps = false; }
}
const item = () => set.items[here];
const answer = (code) => (answers[code] ||= {});
const said = (entry) => (words.page[entry] || {})[lang] || entry;
const asked = (entry) => (entry.kind === "scan" ? FINDINGS : SCALES);
const filled = (entry) => Object.keys(answers[entry.code] || {}).some((name) => name !== "seconds");
const begun = () => set.items.some(filled);
const isDone = (entry) => asked(entry).every((name) => (answers[entry.code] || {})[name] !== undefined);

function change(name, value) {
  const mine = answer(item().code);
  if (value === undefined || value === "") delete mine[name]; else mine[name] = value;
  unsaved = true; keep(); progress();
}

// ------------------------------------------------------------------------------------------ drawing
function make(tag, properties = {}, ...children) {
  const { dataset, ...plain } = properties;
  const node = Object.assign(document.createElement(tag), plain);
  Object.assign(node.dataset, dataset || {});
  node.append(...children.filter((child) => child !== null));
  return node;
}

function dress() {
  document.documentElement.lang = lang; document.documentElement.dataset.theme = theme;
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = said(node.dataset.word);
  for (const node of document.querySelectorAll("[data-label]")) node.title = node.ariaLabel = said(node.dataset.label);
  at("comment").placeholder = said("comment_hint");
  at("kept").textContent = said(keeps ? "saved_here" : "not_saved");
  at("begin").textContent = said(begun() ? "resume" : "start");
  guide();
}

function progress() {
  const done = set.items.filter(isDone).length, all = set.items.length;
  at("filled").style.width = `${(100 * done) / all}%`;
  at("counted").textContent = `${done} ${said("of")} ${all} ${said("done")}`;
  const complete = done === all, banner = at("banner");
  banner.hidden = !complete; banner.className = "banner good"; banner.textContent = complete ? said("all_done") : "";
}

// Texts stay closed until every scan has been read without one.
const gate = () => set.items.findIndex((entry) => entry.kind === "scan" && !isDone(entry));

function show() {
  const closed = item().kind !== "scan" && gate() >= 0;
  if (closed) here = gate();
  const entry = item(), facts = set.cases[entry.case], scan = entry.kind === "scan";
  at("place").textContent = `${said("item")} ${entry.number} ${said("of")} ${set.items.length}`;
  at("case").textContent = `${said("study")} ${entry.case}`;
  at("report-card").hidden = scan; at("scan-card").hidden = !scan;
  at("report").textContent = entry.text || "";
  at("reference-card").hidden = scan || !facts.reference; at("reference").textContent = facts.reference;
  at("images-card").hidden = !facts.images.length;
  at("images").replaceChildren(...facts.images.map((source, i) => {
    const button = make("button", { type: "button", ariaLabel: `${said("images")} ${i + 1}` }, make("img", { src: source, alt: "" }));
    button.onclick = () => { at("zoomed").src = source; at("zoom").showModal(); };
    return button;
  }));
  const first = asked(entry).findIndex((name) => (answers[entry.code] || {})[name] === undefined);
  active = first < 0 ? 0 : first;
  at("comment").value = (answers[entry.code] || {}).comment || "";
  at("previous").disabled = here === 0; at("next").disabled = here === set.items.length - 1;
  questions(); progress(); keep();
  if (closed) say(said("scan_first"));
}

function questions() {
  const scan = item().kind === "scan";
  at("questions").replaceChildren(...(scan ? [checks()] : [make("h3", { textContent: said("ratings") }), ...SCALES.map(scale), errors()]));
}

function scale(name, index) {
  const facts = words.scales[name], value = answer(item().code)[name];
  const chosen = value === undefined ? facts.question[lang] : value === set.cannot ? said("cannot") : facts.anchors[value][lang];
  const head = make("button", { type: "button", ariaExpanded: String(index === active) }, make("b", { textContent: facts.name[lang] }),
    make("span", { className: "says", textContent: index === active ? facts.question[lang] : chosen }),
    make("span", { className: "value", textContent: value === undefined ? "–" : value === set.cannot ? "n/a" : value }));
  head.onclick = () => { active = index; questions(); };
  const choice = (score, mark, text, more = "") => {
    const button = make("button", { type: "button", className: more, role: "radio", ariaChecked: String(value === score) },
      make("i", { textContent: mark }), make("span", { textContent: text }));
    button.onclick = () => { active = index; rate(score); };
    return button;
  };
  const anchors = make("div", { className: "anchors", role: "radiogroup", ariaLabel: facts.name[lang] },
    ...[...set.scores].reverse().map((score) => choice(score, score, facts.anchors[score][lang])), choice(set.cannot, "0", said("cannot"), "cannot"));
  return make("div", { className: `scale${index === active ? " active" : ""}${value === undefined ? "" : " done"}` }, head, anchors);
}

function rate(score) {
  const entry = item();
  change(asked(entry)[active], score);
  const open = asked(entry).findIndex((name, i) => i > active && answers[entry.code][name] === undefined);
  if (open >= 0) active = open; else if (entry.kind === "scan") active = Math.min(active + 1, FINDINGS.length - 1);
  questions();
}

function errors() {
  const head = make("tr", {}, make("th"), ...WEIGHTS.map((weight) => make("th", { textContent: words.weights[weight][lang] })));
  const rows = ERRORS.map((kind) => make("tr", {},
    make("td", {}, words.errors[kind].name[lang], make("small", { textContent: words.errors[kind].hint[lang] })),
    ...WEIGHTS.map((weight) => make("td", {}, stepper(kind, weight)))));
  return make("div", { className: "errors" }, make("h3", { textContent: said("errors") }),
    make("p", { className: "hint", textContent: said("errors_hint") }), make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
}

function stepper(kind, weight) {
  const name = `${kind}_${weight}`;
  const label = `${words.errors[kind].name[lang]}, ${words.weights[weight][lang]}`;
  const input = make("input", { type: "number", min: 0, max: set.most_errors, inputMode: "numeric", value: answer(item().code)[name] || 0, ariaLabel: label });
  const box = make("div", { className: `step ${weight}` });
  const put = (value) => {
    const count = Math.max(0, Math.min(set.most_errors, Math.round(Number(value)) || 0));
    input.value = count; box.classList.toggle("some", count > 0); change(name, count || undefined);
  };
  input.onchange = () => put(input.value);
  const button = (text, by) => { const b = make("button", { type: "button", textContent: text, tabIndex: -1, ariaLabel: `${label} ${text}` }); b.onclick = () => put(Number(input.value) + by); return b; };
  box.append(button("−", -1), input, button("+", 1));
  box.classList.toggle("some", Number(input.value) > 0);
  return box;
}

function checks() {
  const mine = answer(item().code);
  const rows = FINDINGS.map((name, index) => {
    const buttons = MARKS.map((mark) => {
      const button = make("button", { type: "button", className: mark, role: "radio", ariaChecked: String(mine[name] === mark), textContent: words.marks[mark][lang] });
      button.onclick = () => { active = index; rate(mark); };
      return button;
    });
    return make("div", { className: `check${index === active ? " active" : ""}`, role: "radiogroup" }, make("span", { textContent: set.findings[name][lang] }), ...buttons);
  });
  const rest = make("button", { type: "button", className: "rest", textContent: said("rest_absent") });
  rest.onclick = () => { for (const name of FINDINGS) if (mine[name] === undefined) change(name, "absent"); questions(); };
  return make("div", { className: "checks" }, ...rows, rest);
}

function guide() {
  const points = ["guide_blind", "guide_alone", "guide_truth", "guide_pause", "guide_private"].map((point) => make("li", { textContent: said(point) }));
  const tables = SCALES.map((name) => make("table", {}, make("thead", {}, make("tr", {}, make("th", { colSpan: 2 }, make("b", { textContent: words.scales[name].name[lang] }), ` ${words.scales[name].question[lang]}`))),
    make("tbody", {}, ...[...set.scores].reverse().map((score) => make("tr", {}, make("td", { textContent: score }), make("td", { textContent: words.scales[name].anchors[score][lang] }))))));
  const keys = [["1 … 5", "key_rate"], ["0", "key_cannot"], ...(FINDINGS.length ? [["1 2 3", "key_mark"]] : []), ["↑ ↓", "key_scale"], ["← →", "key_move"], ["E", "key_error"], ["C", "key_comment"], ["?", "key_help"]];
  const list = make("p", { className: "keys" }, ...keys.map(([key, meaning]) => make("span", {}, make("kbd", { textContent: key }), ` ${said(meaning)}`)));
  at("guide-text").replaceChildren(make("h2", { textContent: said("title") }), make("ul", {}, ...points), make("h3", { textContent: said("keys") }), list, make("div", { className: "tables" }, ...tables));
}

function openGuide() { at("guide").showModal(); at("guide").scrollTop = 0; }

function chips() {
  at("chips").replaceChildren(...set.items.map((entry, i) => {
    const chip = make("button", { type: "button", className: `${isDone(entry) ? "done" : ""}${i === here ? " here" : ""}`, textContent: entry.number });
    chip.onclick = () => { at("list").close(); go(i); };
    return chip;
  }));
}

function go(index) {
  if (index < 0 || index >= set.items.length) return;
  here = index; show(); scrollTo(0, 0);
}

// ------------------------------------------------------------------------------------------ files
const row = (entry) => ({ study: set.study, reader: set.reader, number: entry.number, item: entry.code, case: entry.case, ...(answers[entry.code] || {}) });

function asJson() {
  const items = set.items.filter(filled).map((entry) => ({ ...row(entry), kind: entry.kind || "text" }));
  return JSON.stringify({ format: "ctscribe-reader-study-answers", version: 1, study: set.study, reader: set.reader, instrument: set.instrument, items }, null, 1);
}

function asCsv(kind) {
  const columns = set.columns[kind], entries = set.items.filter((entry) => (entry.kind === "scan") === (kind === "findings"));
  const cell = (value) => {
    let text = value === undefined ? "" : String(value);
    if (/^[=+\-@\t\r]/.test(text)) text = "'" + text;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [columns, ...entries.map((entry) => columns.map((name) => row(entry)[name]))].map((line) => line.map(cell).join(","));
  return "\ufeff" + lines.join("\r\n") + "\r\n";
}

function hand(name, text, type) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click(); setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  unsaved = false; keep();
}

function warnOpen() {
  const open = set.items.filter((entry) => !isDone(entry)).length;
  if (open) say(`${open} ${said("open_items")}`);
}

function say(text) { const banner = at("banner"); banner.hidden = false; banner.className = "banner"; banner.textContent = text; }

at("save-json").onclick = () => { hand(`answers-${set.study}-${set.reader}.json`, asJson(), "application/json"); warnOpen(); };
at("save-csv").onclick = () => {
  hand(`answers-${set.study}-${set.reader}.csv`, asCsv("answers"), "text/csv");
  if (FINDINGS.length) hand(`findings-${set.study}-${set.reader}.csv`, asCsv("findings"), "text/csv");
  warnOpen();
};
at("load").onchange = async (event) => {
  const file = event.target.files[0];
  if (!file) return;
  event.target.value = "";
  let body = null;
  try { body = JSON.parse(await file.text()); } catch (error) { body = null; }
  const known = new Map(set.items.map((entry) => [entry.code, entry]));
  if (!body || body.study !== set.study || body.reader !== set.reader || !Array.isArray(body.items) || !body.items.every((one) => known.has(one.item))) { say(said("wrong_file")); return; }
  if (begun() && !confirm(said("confirm_load"))) return;
  const names = new Set([...set.columns.answers, ...set.columns.findings].filter((name) => !["study", "reader", "number", "item", "case"].includes(name)));
  answers = Object.fromEntries(body.items.map((one) => [one.item, Object.fromEntries(Object.entries(one).filter(([name]) => names.has(name)))]));
  keep(); dress(); show();
};

// ------------------------------------------------------------------------------------------ hands
at("previous").onclick = () => go(here - 1);
at("next").onclick = () => go(here + 1);
at("open-list").onclick = () => { chips(); at("list").showModal(); };
at("open-guide").onclick = openGuide;
at("begin").onclick = () => at("guide").close();
at("language").onclick = () => { lang = lang === "en" ? "zh" : "en"; keep(); dress(); show(); };
at("theme").onclick = () => { theme = theme === "dark" ? "light" : "dark"; keep(); dress(); };
at("comment").oninput = () => change("comment", at("comment").value);
at("form").onsubmit = (event) => event.preventDefault();
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector(".close").onclick = () => dialog.close();
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const writing = event.target.closest && event.target.closest("textarea, input");
  if (event.key === "Escape" && writing) { event.target.blur(); return; }
  if (writing) return;
  const scan = item().kind === "scan", count = asked(item()).length, key = event.key.toLowerCase();
  const digit = /^[0-9]$/.test(key) ? Number(key) : null;
  if (digit !== null && !scan && (digit === 0 || set.scores.includes(digit))) rate(digit === 0 ? set.cannot : digit);
  else if (digit !== null && scan && MARKS[digit - 1]) rate(MARKS[digit - 1]);
  else if (key === "arrowdown") { active = Math.min(active + 1, count - 1); questions(); }
  else if (key === "arrowup") { active = Math.max(active - 1, 0); questions(); }
  else if (key === "arrowright") go(here + 1);
  else if (key === "arrowleft") go(here - 1);
  else if (key === "e" && !scan) document.querySelector(".step input").focus();
  else if (key === "c") at("comment").focus();
  else if (key === "?") openGuide();
  else return;
  event.preventDefault();
});

for (const sign of ["keydown", "pointermove", "pointerdown", "scroll", "wheel"]) addEventListener(sign, () => { alive = Date.now(); }, { passive: true });
setInterval(() => {
  if (document.hidden || document.querySelector("dialog[open]") || Date.now() - alive > 1000 * PAUSE) return;
  const mine = answer(item().code); mine.seconds = (mine.seconds || 0) + 1; keep();
}, 1000);
addEventListener("beforeunload", (event) => { if (unsaved && !keeps) event.preventDefault(); });

dress(); show();
if (!begun()) openGuide();
