// The page: asks the server as you type and shows what it answers.
//
// 1. Typing waits for a pause; a newer question makes an older one's answer void. A slow answer is announced.
// 2. Everything from documents becomes text nodes, never markup.
// 3. A text runs from the side where its script begins.
// 4. The question stands in the address, as `/search` takes it, so that it can be linked.
"use strict";

const PAUSE = 180; // milliseconds
const LONG = 500; // milliseconds
const NAMES = { hybrid: "Both", dense: "Meaning", bm25: "Words" };
const find = (id) => document.getElementById(id);
let waiting = null; // the pause that runs
let asking = null; // the question that is out
let readOnly = false;

// ---- making elements

function make(tag, attributes = {}, ...inside) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...inside);
  return element;
}

const pieces = (list) => list.map((piece) => (piece.match ? make("mark", {}, piece.text) : piece.text));
const counted = (count, name) => `${number(count)} ${name}${count === 1 ? "" : "s"}`;
const number = (value) => value.toLocaleString("en", { maximumFractionDigits: 3 });

// ---- asking the server

async function call(method, path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const key = sessionStorage.getItem("key");
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer.");
  }
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401) askForKey();
  if (!response.ok) throw new Error(answer.error || `The server answered with status ${response.status}.`);
  return answer;
}

function askForKey() {
  find("access").hidden = false;
  find("access").open = true;
}

function say(sentence, isBad = false) {
  find("status").textContent = sentence;
  find("status").classList.toggle("bad", isBad);
}

function question() {
  return {
    q: find("q").value,
    mode: document.querySelector("input[name=mode]:checked").value,
    k: Math.min(100, Math.max(1, Number(find("k").value) || 10)),
    filters: find("filters").value.match(/(?:"[^"]*"?|[^\s"])+/g) ?? [], // quotes may hold blanks
  };
}

async function search() {
  asking?.abort();
  const { q, mode, k, filters } = question();
  remember(q, mode, k, filters);
  if (!q.trim()) {
    find("results").replaceChildren();
    return say("");
  }
  asking = new AbortController();
  const { signal } = asking;
  const modes = mode === "all" ? Object.keys(NAMES) : [mode];
  const patience = setTimeout(() => say("Searching …"), LONG);
  const ask = (one) => call("POST", "search", { q, k, filters, mode: one, explain: true }, signal);
  try {
    const answers = await Promise.all(modes.map(ask));
    find("results").replaceChildren(...answers.map((answer) => column(answer, modes.length > 1)));
    const hits = answers.reduce((sum, answer) => sum + answer.hits.length, 0);
    const took = Math.max(...answers.map((answer) => answer.took_ms));
    say(hits ? `${counted(hits, "hit")} in ${number(Number(took.toPrecision(2)))} ms` : "Nothing found.");
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
  } finally {
    clearTimeout(patience);
  }
}

function later() {
  clearTimeout(waiting);
  waiting = setTimeout(search, PAUSE);
}

// ---- showing hits

function column(answer, isOneOfSeveral) {
  const list = make("ol", {}, ...answer.hits.map(card));
  if (!isOneOfSeveral) return list;
  return make("section", { class: "column", "aria-label": NAMES[answer.mode] }, make("h2", {}, NAMES[answer.mode]), list);
}

function card(hit) {
  const title = hit.heading.length ? pieces(hit.heading) : [hit.id];
  const item = make(
    "li",
    { class: "hit", tabindex: "-1", "data-id": hit.id },
    make("h3", { dir: "auto" }, ...title),
    make("p", { class: "about" }, `#${hit.rank} · `, make("bdi", {}, hit.id), ` · score ${number(hit.score)}`),
    make("p", { dir: "auto" }, ...pieces(hit.passage)),
    why(hit),
  );
  if (!readOnly) item.append(make("button", { type: "button", onclick: () => remove(hit.id) }, "Delete"));
  return item;
}

function why(hit) {
  const rows = Object.entries(hit.parts).map(([name, part]) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, NAMES[name]),
      make("td", {}, part ? String(part.rank) : "not among the first"),
      make("td", {}, part ? number(part.score) : "–"),
    ),
  );
  const head = ["Looked for", "Rank", "Score"].map((name) => make("th", { scope: "col" }, name));
  const told = Object.entries(hit.metadata).flatMap(([name, value]) => [
    make("dt", { dir: "auto" }, name),
    make("dd", { dir: "auto" }, typeof value === "string" ? value : JSON.stringify(value)),
  ]);
  return make(
    "details",
    {},
    make("summary", {}, "Why this hit?"),
    make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)),
    ...(told.length ? [make("dl", {}, ...told)] : []),
    make("p", { dir: "auto" }, hit.text),
  );
}

// ---- changing the index

async function remove(id) {
  if (!confirm(`Delete ${id}?`)) return;
  try {
    await call("DELETE", `documents/${encodeURIComponent(id).replaceAll(".", "%2E")}`);
    await search();
    say(`${id} is deleted.`);
    describe();
  } catch (error) {
    say(error.message, true);
  }
}

async function add(event) {
  event.preventDefault();
  const [id, title, text] = ["id", "title", "text"].map((name) => find(name).value);
  try {
    const metadata = find("metadata").value.trim() ? JSON.parse(find("metadata").value) : {};
    const answer = await call("POST", "documents", { documents: [{ id, title, text, metadata }] });
    find("add").reset();
    await search();
    say(`${id} is ${answer.replaced ? "replaced" : "added"}.`);
    describe();
  } catch (error) {
    say(error instanceof SyntaxError ? "The metadata are no JSON object." : error.message, true);
  }
}

async function describe() {
  try {
    const info = await call("GET", "info");
    readOnly = info.read_only || !info.index;
    find("change").hidden = readOnly;
    const served = info.index ? counted(info.index.documents, "document") : counted(info.labels.labels, "label");
    find("facts").textContent = `${served} · ${info.model}`;
    return true;
  } catch (error) {
    say(error.message, true);
    return false;
  }
}

async function enter(event) {
  event.preventDefault();
  sessionStorage.setItem("key", find("key").value);
  if (await describe()) await search();
}

// ---- address and keyboard

function remember(q, mode, k, filters) {
  const parts = new URLSearchParams({ q, mode, k });
  for (const filter of filters) parts.append("filters", filter);
  history.replaceState(null, "", q ? `?${parts}` : location.pathname);
}

function recall() {
  const parts = new URLSearchParams(location.search);
  find("q").value = parts.get("q") ?? "";
  find("k").value = parts.get("k") ?? 10;
  find("filters").value = parts.getAll("filters").join(" ");
  const mode = document.querySelector(`input[name=mode][value="${CSS.escape(parts.get("mode") ?? "hybrid")}"]`);
  if (mode) mode.checked = true;
}

function press(event) {
  if (event.isComposing) return; // the keys belong to who writes Japanese or Chinese
  const isTyping = event.target.matches("input:not([type=radio]), textarea");
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    find("q").select();
  } else if (event.key === "Escape") {
    find("q").value = "";
    find("q").focus();
    search();
  } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && (!isTyping || event.target === find("q"))) {
    step(event, event.key === "ArrowDown" ? 1 : -1);
  }
}

function step(event, by) {
  const hits = [...document.querySelectorAll(".hit")];
  if (!hits.length || event.target.matches("input[type=radio]")) return;
  event.preventDefault();
  const next = hits.indexOf(document.activeElement.closest(".hit")) + by;
  if (next < 0) find("q").focus();
  else hits[Math.min(next, hits.length - 1)].focus();
}

async function start() {
  recall();
  find("key").value = sessionStorage.getItem("key") ?? "";
  find("access").hidden = !find("key").value;
  find("ask").addEventListener("input", later);
  find("ask").addEventListener("submit", (event) => (event.preventDefault(), search()));
  find("add").addEventListener("submit", add);
  find("key").addEventListener("change", enter);
  find("enter").addEventListener("submit", enter);
  document.addEventListener("keydown", press);
  if (await describe()) await search();
}

start();
