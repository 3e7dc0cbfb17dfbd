// The console of predictd. Text of models and answers reaches the page as text alone, never as HTML.

const MOST_SHOWN = 100;
const POLL = 5000;
const LATENCIES = ["p50", "p95", "p99"];

const $ = (id) => document.getElementById(id);
const state = { info: null, now: null, form: null, file: null, models: "", current: "", replicas: new Set(), isEdited: false };

/** An element: `h("p", {class: "quiet"}, "text", child)`. */
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1) return `${value.toPrecision(3)} s`;
  return value >= 1e-3 ? `${(value * 1e3).toPrecision(3)} ms` : `${Math.round(value * 1e6)} µs`;
}

/** Numbers that JavaScript would round stay as they are written. */
function parse(text) {
  return JSON.parse(text, (_, value, context) => {
    const isLost = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
    return isLost && context?.source ? context.source : value;
  });
}

// ---- talking to the worker

const address = (path) => new URL(path, document.baseURI);

function target(path, model, version) {
  const url = address(path);
  if (model) url.searchParams.set("model", model);
  if (version) url.searchParams.set("version", version);
  return url;
}

async function send(url, options = {}) {
  const headers = new Headers(options.headers);
  const token = sessionStorage.getItem("predictd-token");
  if (token) headers.set("authorization", `Bearer ${token}`);
  const response = await fetch(url, { ...options, headers, cache: "no-store" });
  if (response.status === 401) askForToken(Boolean(token));
  return response;
}

async function data(url) {
  const response = await send(url);
  const text = await response.text();
  if (!response.ok) throw Object.assign(new Error(errorOf(text).message), { status: response.status });
  return JSON.parse(text);
}

function errorOf(text) {
  try {
    const { error } = JSON.parse(text);
    return typeof error === "string" ? { code: "", message: error } : { code: error.code, message: error.message };
  } catch {
    return { code: "", message: text };
  }
}

function askForToken(wasWrong) {
  state.isLocked = true;
  if ($("token").hidden) {
    $("token").hidden = false;
    for (const view of ["try", "now", "models"]) $(view).hidden = true;
    $("token-value").focus();
  }
  $("token-error").textContent = wasWrong ? "The worker does not know this token." : "";
}

$("token").addEventListener("submit", async (event) => {
  event.preventDefault();
  sessionStorage.setItem("predictd-token", $("token-value").value.trim());
  $("token-error").textContent = "";
  state.isLocked = false;
  if ((await poll()) && !state.isLocked) {
    $("token").hidden = true;
    $("token-value").value = "";
    show();
    $("main").focus();
  }
});

// ---- what the worker says of itself

let timer;

/** Reads the figures, and the models where they changed. True when the worker answered. */
async function poll() {
  clearTimeout(timer);
  let isAnswered = false;
  try {
    const [model, version] = view() === "now" ? chosenSeries() : [];
    const now = await data(target("console/now.json", model, version));
    isAnswered = true;
    state.now = now;
    state.replicas.add(now.replica);
    const several = state.replicas.size > 1 ? ` (one of ${state.replicas.size} replicas that answer)` : "";
    $("replica").textContent = `${now.replica}${several} · ${now.build}`;
    say("trouble", now.not_ready_because.length ? `Not ready: ${now.not_ready_because.join("; ")}` : "");
    if (now.models !== state.models) {
      state.info = await data(address("info"));
      state.models = now.models;
      modelsChanged();
    }
    if (view() === "now") showNow();
  } catch (error) {
    isAnswered &&= error.status !== undefined;
    if (error.status === undefined) say("trouble", "The worker cannot be reached. Trying again …");
    else if (error.status !== 401) say("trouble", error.message);
  }
  clearTimeout(timer);
  if (!document.hidden && !state.isLocked) timer = setTimeout(poll, isAnswered ? POLL : 1000);
  return isAnswered;
}

document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : poll()));

function say(place, text) {
  if ($(place).textContent !== text) $(place).textContent = text;
}

function modelsChanged() {
  const of = state.info.models[state.current];
  const version = of?.serving?.version;
  if (!state.current) {
    const [wanted] = [new URLSearchParams(location.hash.split("?")[1]).get("model")];
    const names = Object.keys(state.info.models);
    const served = names.filter((name) => state.info.models[name].serving);
    const first = names.includes(wanted) ? wanted : served[0] ?? names[0];
    if (first) {
      choose(first);
    } else {
      about();
      fill();
    }
  } else if (version !== state.version) {
    const what = version ? `is served by version ${version} now` : "is not served any more";
    say("news", `The model ${state.current} ${what}.`);
    choose(state.current, state.isEdited && Boolean(state.form));
  } else if (version && !state.form) {
    choose(state.current);
  } else {
    about();
    versions();
  }
  if (!$("model-list").hidden) openList(list.isAll);
  if (view() === "models") showModels();
}

// ---- views

const view = () => {
  const name = location.hash.slice(1).split("?")[0];
  return ["try", "now", "models"].includes(name) ? name : "try";
};

function show() {
  if (state.isLocked) return;
  const current = view();
  for (const name of ["try", "now", "models"]) $(name).hidden = name !== current;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${current}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const wanted = new URLSearchParams(location.hash.split("?")[1]).get("model");
  if (current === "try" && wanted && wanted !== state.current && state.info?.models[wanted]) choose(wanted);
  if (current === "models" && state.info) showModels();
  if (current === "now" && state.info) poll();
}

addEventListener("hashchange", () => {
  show();
  $("main").focus();
  scrollTo(0, 0);
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("main").focus();
});

// ---- the list of models

const list = { names: [], at: -1, isAll: true };

function openList(all) {
  list.isAll = all;
  const typed = all ? "" : $("model").value.trim().toLowerCase();
  const names = Object.keys(state.info?.models ?? {});
  const found = names.filter((name) => name.toLowerCase().includes(typed));
  // Names that begin with what was typed come first.
  found.sort((a, b) => b.toLowerCase().startsWith(typed) - a.toLowerCase().startsWith(typed));
  list.names = found.slice(0, MOST_SHOWN);
  list.at = all ? list.names.indexOf(state.current) : list.names.length ? 0 : -1;
  const items = list.names.map((name, index) =>
    h("li", { role: "option", id: `option-${index}`, "aria-selected": String(index === list.at), onmousedown: (event) => {
      event.preventDefault();
      pick(name);
    } }, name));
  const rest = found.length - list.names.length;
  const note = !found.length ? "No model has this in its name" : rest ? `${rest.toLocaleString("en")} more: type to narrow` : "";
  if (note) items.push(h("li", { role: "option", "aria-disabled": "true", "aria-selected": "false" }, note));
  $("model-list").replaceChildren(...items);
  $("model-list").hidden = false;
  $("model").setAttribute("aria-expanded", "true");
  mark();
}

function mark() {
  $("model-list").querySelectorAll("[id]").forEach((item, index) => item.setAttribute("aria-selected", String(index === list.at)));
  const item = $(`option-${list.at}`);
  if (item) $("model").setAttribute("aria-activedescendant", item.id);
  else $("model").removeAttribute("aria-activedescendant");
  item?.scrollIntoView({ block: "nearest" });
}

function closeList() {
  $("model-list").hidden = true;
  $("model").setAttribute("aria-expanded", "false");
  $("model").removeAttribute("aria-activedescendant");
}

function pick(name) {
  closeList();
  if (name === state.current) $("model").value = name;
  else choose(name);
}

$("model").addEventListener("focus", () => $("model").select());
$("model").addEventListener("click", () => openList(true));
$("model").addEventListener("input", () => openList(false));
$("model").addEventListener("blur", () => {
  closeList();
  $("model").value = state.current;
});
$("model").addEventListener("keydown", (event) => {
  const isOpen = !$("model-list").hidden;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if (!isOpen) return openList(true);
    const step = event.key === "ArrowDown" ? 1 : -1;
    list.at = Math.min(Math.max(list.at + step, 0), list.names.length - 1);
    mark();
  } else if (event.key === "Enter" && isOpen) {
    event.preventDefault();
    if (list.names[list.at] !== undefined) pick(list.names[list.at]);
  } else if (event.key === "Escape" && isOpen) {
    event.preventDefault();
    $("model").value = state.current;
    closeList();
  }
});

// ---- the form of a model

/** Takes a model; `keeps`: with what was written into its form. */
async function choose(name, keeps) {
  const isOther = name !== state.current;
  state.current = name;
  state.version = state.info.models[name]?.serving?.version;
  // Not over what is being typed.
  if ($("model-list").hidden) $("model").value = name;
  if (isOther) {
    state.file = null;
    $("file").value = "";
    result(h("p", { class: "quiet" }, "The prediction appears here."));
    $("commands").hidden = true;
    say("news", "");
  }
  versions();
  about();
  let form = null;
  try {
    form = await data(target("console/sample.json", name));
  } catch (error) {
    if (error.status === undefined) state.models = ""; // Read again once the worker answers.
  }
  if (state.current !== name) return;
  // A worker that starts anew serves no model for a while.
  if (keeps && !form) return;
  const isSame = keeps && form?.kind === state.form?.kind && sameFields(form, state.form);
  state.form = form;
  if (!isSame) fill();
}

const sameFields = (a, b) => JSON.stringify(a?.fields.map((field) => field.name)) === JSON.stringify(b?.fields.map((field) => field.name));

function versions() {
  const of = state.info?.models[state.current];
  const before = $("version").value;
  const options = [h("option", { value: "" }, of?.serving ? `served: ${of.serving.version}` : "served")];
  if (of?.serving) options.push(h("option", { value: of.serving.version }, `only ${of.serving.version}`));
  for (const { version } of (of?.refused ?? [])) options.push(h("option", { value: version }, `${version}, refused`));
  $("version").replaceChildren(...options);
  if (options.some((option) => option.value === before)) $("version").value = before;
}

$("version").addEventListener("change", () => {
  about();
  commands();
});

const tensor = ({ name, datatype, shape, type }) => `${name}: ${type ?? `${datatype} [${shape.map((n) => (n < 0 ? "?" : n)).join(", ")}]`}`;

function about() {
  const of = state.info?.models[state.current];
  const lines = [];
  if (!of) {
    const text = state.info ? "No model is served yet. Put one into the source of the models; it appears here by itself." : "Loading the models …";
    lines.push(h("p", { class: "quiet" }, text));
  }
  const refused = of?.refused.find(({ version }) => version === $("version").value);
  if (of?.serving && !refused) {
    lines.push(h("p", { class: "quiet" }, `Takes ${of.serving.inputs.map(tensor).join(", ")}`));
    lines.push(h("p", { class: "quiet" }, `Gives ${of.serving.outputs.map(tensor).join(", ")}`));
  }
  if (of && !of.serving) lines.push(h("p", { class: "bad" }, "No version of this model is served."));
  if (of?.warning) lines.push(h("p", { class: "bad" }, of.warning));
  const told = refused ? [refused] : of?.serving ? [] : (of?.refused ?? []);
  for (const { version, reason } of told) {
    lines.push(h("p", { class: "bad" }, `Version ${version} is refused: ${reason}`));
  }
  $("about").replaceChildren(...lines);
}

/** The values of a request's first row, by column. */
function row(body, names) {
  let request;
  try {
    request = JSON.parse(body, (_, value, context) => (typeof value === "number" && context?.source ? { source: context.source } : value));
  } catch {
    return {};
  }
  const byName = (values) => (Array.isArray(values) ? Object.fromEntries(names.map((name, index) => [name, values[index]])) : values);
  const first = request.instances?.[0] ?? request.dataframe_records?.[0];
  if (first && typeof first === "object") return byName(first.source === undefined ? first : [first]);
  const split = request.dataframe_split;
  if (split?.data?.[0]) return Object.fromEntries((split.columns ?? names).map((name, index) => [name, split.data[0][index]]));
  return {};
}

function fill() {
  const form = state.form;
  const kind = form?.kind ?? "json";
  state.isEdited = false;
  $("json").value = form ? pretty(form.body) : "";
  const first = form ? row(form.body, form.fields.map((field) => field.name)) : {};
  $("fields").replaceChildren(...(form?.fields ?? []).map((field, index) => input(field, index, first[field.name])));
  $("text").value = kind === "text" && form.is_declared ? textOf(form.body) : "";
  $("ways").hidden = kind === "json";
  document.querySelector("input[name=way][value=form]").checked = true;
  preview();
  way();
}

function textOf(body) {
  try {
    const first = JSON.parse(body).instances[0];
    return typeof first === "string" ? first : String(Object.values(first)[0]);
  } catch {
    return "";
  }
}

/** JSON with a line for each row, where that is short; numbers stay as they are written. */
function pretty(body) {
  try {
    const value = JSON.parse(body, (_, inner, context) => (typeof inner === "number" && context?.source ? JSON.rawJSON?.(context.source) ?? inner : inner));
    const text = JSON.stringify(value, null, 2);
    return text.length > 4000 ? body : text.replace(/\[\s+([^[\]{}]{1,400}?)\s+\]/g, (_, inner) => `[${inner.replace(/\s*\n\s*/g, " ")}]`);
  } catch {
    return body;
  }
}

function input(field, index, given) {
  const id = `field-${index}`;
  const isNumber = !field.value.startsWith('"') && !["true", "false"].includes(field.value);
  const value = given === undefined || given === null ? JSON.parse(field.value) : given.source ?? given;
  const shown = typeof value === "object" ? JSON.stringify(value) : String(value);
  const choices = field.choices.length ? field.choices : ["true", "false"].includes(field.value) ? ["true", "false"] : null;
  const control = choices
    ? h("select", { id }, ...choices.map((choice) => h("option", { value: choice, selected: choice === shown }, choice)))
    : h("input", { id, autocomplete: "off", inputmode: isNumber ? "decimal" : undefined });
  if (!choices) control.value = shown;
  return h("div", {}, h("label", { for: id }, ...breakable(field.name)), control);
}

/** Text that a narrow page may break between the words of a name. */
const breakable = (name) => name.split(/(?<=[_/.-])/).flatMap((part, index) => (index ? [h("wbr"), part] : [part]));

/** Shows the part of the form for the chosen way. */
function way() {
  const kind = state.form?.kind ?? "json";
  const isJson = kind === "json" || document.querySelector("input[name=way]:checked").value === "json";
  $("fields").hidden = isJson || kind !== "columns";
  $("as-text").hidden = isJson || kind !== "text";
  $("as-image").hidden = isJson || kind !== "image";
  $("as-json").hidden = !isJson;
  $("invalid").textContent = "";
  commands();
}

for (const radio of document.querySelectorAll("input[name=way]")) {
  radio.addEventListener("change", () => {
    // What the fields say is the start of what JSON says.
    if (radio.value === "json" && state.form?.kind === "columns") $("json").value = pretty(records());
    if (radio.value === "json" && state.form?.kind === "text" && $("text").value) $("json").value = pretty(JSON.stringify({ instances: [$("text").value] }));
    way();
  });
}
$("reset").addEventListener("click", () => {
  $("file").value = "";
  state.file = null;
  fill();
});
$("request").addEventListener("input", (event) => {
  if (event.target !== $("model") && event.target !== $("version")) state.isEdited = true;
  $("invalid").textContent = "";
  commands();
});

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

/** The fields as a request. Numbers go as they are written; the worker judges everything else. */
function records() {
  const cells = state.form.fields.flatMap((field, index) => {
    const text = $(`field-${index}`).value.trim();
    const isString = field.value.startsWith('"');
    if (text === "") return isString ? [`${JSON.stringify(field.name)}: ""`] : [];
    const isPlain = !isString && (NUMBER.test(text) || ["true", "false"].includes(text));
    return [`${JSON.stringify(field.name)}: ${isPlain ? text : JSON.stringify(text)}`];
  });
  return `{"dataframe_records": [{${cells.join(", ")}}]}`;
}

/** The request that the form describes; throws what is missing. */
function request() {
  const kind = state.form?.kind ?? "json";
  if (!$("as-json").hidden) {
    try {
      JSON.parse($("json").value);
    } catch (error) {
      throw new Error(`This is no JSON: ${error.message}`);
    }
    return { body: $("json").value, type: "application/json" };
  }
  if (kind === "text") {
    if (!$("text").value) throw new Error("Write a text first.");
    return { body: $("text").value, type: "text/plain; charset=utf-8" };
  }
  if (kind === "image") {
    if (!state.file) throw new Error("Choose an image first.");
    return { body: state.file, type: state.file.type || "application/octet-stream", file: state.file.name };
  }
  return { body: records(), type: "application/json" };
}

// ---- images

let shown = "";

function preview() {
  if (shown) URL.revokeObjectURL(shown);
  shown = state.file ? URL.createObjectURL(state.file) : "";
  $("preview").hidden = !state.file;
  if (state.file) {
    $("preview").src = shown;
    $("preview").alt = `Preview of ${state.file.name}`;
    $("drop-text").replaceChildren(h("b", {}, state.file.name), h("br"), h("small", {}, plural(state.file.size, "byte")));
  } else {
    $("preview").removeAttribute("src");
    $("drop-text").replaceChildren(h("b", {}, "Choose an image"), " or drop it here", h("br"), h("small", {}, "JPEG, PNG or WebP"));
  }
}

function take(file) {
  state.file = file ?? null;
  $("invalid").textContent = "";
  preview();
  commands();
}

$("file").addEventListener("change", () => take($("file").files[0]));
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
}

// ---- a prediction

let running;

$("request").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("request").requestSubmit();
});
$("request").addEventListener("submit", async (event) => {
  event.preventDefault();
  let asked;
  try {
    asked = request();
  } catch (error) {
    $("invalid").textContent = error.message;
    return;
  }
  running?.abort();
  const own = (running = new AbortController());
  $("result").setAttribute("aria-busy", "true");
  const began = performance.now();
  try {
    const url = target("predict", state.current, $("version").value);
    const response = await send(url, { method: "POST", body: asked.body, headers: { "content-type": asked.type }, signal: own.signal });
    const bytes = await response.arrayBuffer();
    answered(response, bytes, performance.now() - began);
  } catch (error) {
    if (own.signal.aborted) return;
    const text = "No answer came: the connection broke, or the worker cannot be reached. Nothing is known of the request; it can be sent again.";
    result(failure("No answer", text, `(${error.message})`));
  } finally {
    if (running === own) {
      $("result").setAttribute("aria-busy", "false");
      reveal();
    }
  }
});

function result(...parts) {
  $("result").replaceChildren($("result-title"), ...parts);
}

/** On a phone the result stands below the form. */
function reveal() {
  if ($("result").getBoundingClientRect().top > innerHeight * 0.8) $("result").scrollIntoView({ block: "start" });
}

function failure(title, ...texts) {
  return h("div", { class: "error" }, h("p", {}, h("strong", {}, `✕ ${title}`)), ...texts.map((text) => h("p", {}, text)));
}

function answered(response, bytes, took) {
  const text = new TextDecoder().decode(bytes);
  const model = response.headers.get("x-predictd-model") ?? state.current;
  const version = response.headers.get("x-predictd-model-version");
  const parts = [];
  const facts = [version && `version ${version}`, `${took.toPrecision(3)} ms round trip`, `status ${response.status}`, plural(bytes.byteLength, "byte")];
  parts.push(h("ul", { class: "meta", "aria-label": "About the answer" }, ...facts.filter(Boolean).map((fact) => h("li", {}, fact))));
  if (response.ok) {
    parts.push(rendered(text));
  } else {
    const { code, message } = errorOf(text);
    const after = response.headers.get("retry-after");
    const again = after && `Try again in ${plural(Number(after), "second")}.`;
    parts.push(failure(code || `Status ${response.status}`, message, ...(again ? [again] : [])));
  }
  const raw = text.length > 200000 ? `${text.slice(0, 200000)}\n… the download has all of it` : text;
  parts.push(h("details", {}, h("summary", {}, "The response as it came"), h("pre", { tabindex: "0" }, raw)));
  if (answered.link) URL.revokeObjectURL(answered.link);
  const type = response.headers.get("content-type") ?? "application/json";
  answered.link = URL.createObjectURL(new Blob([bytes], { type }));
  const name = `${model.replace(/[^\w.-]+/g, "_") || "model"}_prediction_results.json`;
  parts.push(h("p", { class: "actions" }, h("a", { class: "button", href: answered.link, download: name }, "Download the response")));
  result(...parts);
}

function rendered(text) {
  let body;
  try {
    body = parse(text);
  } catch {
    return h("pre", { tabindex: "0" }, text);
  }
  if (Array.isArray(body.predictions)) {
    return body.predictions.length === 1 ? value(body.predictions[0]) : rows(body.predictions);
  }
  if (Array.isArray(body.outputs)) return value(Object.fromEntries(body.outputs.map(({ name, data }) => [name, data])));
  return value(body.predictions ?? body.outputs ?? body);
}

const isPlain = (value) => value === null || typeof value !== "object";
const isShare = (value) => typeof value === "number" && value >= 0 && value <= 1;
const sumsToOne = (values) => Math.abs(values.reduce((sum, share) => sum + share, 0) - 1) < 0.02;

/** Pairs of label and score, where a value is that. */
function scores(value) {
  if (Array.isArray(value) && value.length && value.every((item) => item && isShare(item.score) && (item.label ?? item.index) !== undefined)) {
    return value.map((item) => [String(item.label ?? item.index), item.score]);
  }
  if (isPlain(value)) return null;
  const pairs = Object.entries(value);
  const shares = pairs.map(([, share]) => share);
  if (pairs.length < 2 || !shares.every(isShare) || !sumsToOne(shares)) return null;
  return pairs.sort((a, b) => b[1] - a[1]);
}

/** With one decimal; what that would round to nothing or to all is said to be near it. */
function percent(share) {
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  return share < 1 && share >= 0.9995 ? "> 99.9 %" : `${(share * 100).toFixed(1)} %`;
}

function bars(pairs) {
  const lines = pairs.slice(0, 10).map(([label, share]) => {
    const fill = h("div", {});
    fill.style.width = share && `max(2px, ${share * 100}%)`;
    return h("tr", {}, h("th", { scope: "row" }, label), h("td", { "aria-hidden": "true" }, h("div", { class: "track" }, fill)), h("td", {}, percent(share)));
  });
  const rest = pairs.length - lines.length;
  const note = rest > 0 && h("p", { class: "quiet" }, `${plural(rest, "further label")} in the response`);
  return h("div", {}, h("table", { class: "bars" }, h("tbody", {}, ...lines)), note);
}

function value(of) {
  if (isPlain(of)) return h("p", { class: "big" }, String(of));
  const pairs = scores(of);
  if (pairs) return bars(pairs);
  if (Array.isArray(of)) return of.length === 1 ? value(of[0]) : of.every(isPlain) && of.length <= 12 ? h("p", { class: "big" }, of.join(", ")) : rows(of);
  const parts = Object.entries(of).flatMap(([name, inner]) => [h("dt", {}, name), h("dd", {}, value(inner))]);
  return h("dl", { class: "values" }, ...parts);
}

function cell(of) {
  if (isPlain(of)) return h("td", { class: typeof of === "number" ? "number" : "" }, String(of ?? ""));
  const best = scores(of)?.reduce((a, b) => (b[1] > a[1] ? b : a));
  return h("td", {}, best ? `${best[0]} (${percent(best[1])})` : shortened(JSON.stringify(of)));
}

const shortened = (text) => (text.length > 120 ? `${text.slice(0, 120)} …` : text);

function rows(all) {
  const isNamed = all.every((row) => row && typeof row === "object" && !Array.isArray(row));
  const isFlat = all.every((row) => Array.isArray(row) && row.length <= 20 && row.every(isPlain));
  const names = isNamed ? [...new Set(all.flatMap(Object.keys))].slice(0, 50) : isFlat ? [...(all[0] ?? []).keys()] : ["value"];
  const cells = (row) => (isNamed ? names.map((name) => cell(row[name])) : isFlat ? row.map(cell) : [cell(row)]);
  const lines = all.slice(0, MOST_SHOWN).map((row, index) => h("tr", {}, h("th", { scope: "row" }, String(index + 1)), ...cells(row)));
  const first = cells(all[0]);
  const head = h("tr", {}, h("th", { scope: "col" }, "row"), ...names.map((name, index) => h("th", { scope: "col", class: first[index].className }, String(name))));
  const caption = all.length > lines.length ? `The first ${lines.length} of ${plural(all.length, "row")}` : plural(all.length, "row");
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Rows" }, h("table", {}, h("caption", {}, caption), h("thead", {}, head), h("tbody", {}, ...lines)));
}

// ---- the same request from a program

const quoted = (text) => (/^[\w./:=@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

function commands() {
  let asked;
  try {
    asked = request();
  } catch {
    $("commands").hidden = true;
    return;
  }
  const isOpen = $("commands").open;
  $("commands").hidden = !state.current;
  if (!isOpen) {
    $("commands").lastElementChild.replaceChildren();
    return;
  }
  const version = $("version").value;
  const url = target("predict", state.current, version).href;
  const hasToken = Boolean(sessionStorage.getItem("predictd-token"));
  const blocks = [
    ["curl", curl(url, asked, hasToken)],
    ["Python", python(url, asked, hasToken)],
    ["Pub/Sub, where prediction-requests is the topic", gcloud(asked, version)],
  ].flatMap(([title, text]) => [h("h3", {}, title), h("pre", { tabindex: "0" }, text), copier(text, title)]);
  $("commands").lastElementChild.replaceChildren(...blocks);
}

$("commands").addEventListener("toggle", commands);

function copier(text, title) {
  const button = h("button", { type: "button", class: "small", "aria-label": `Copy: ${title}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select the text to copy it";
    }
  });
  return button;
}

function curl(url, { body, type, file }, hasToken) {
  const token = hasToken ? ' -H "authorization: Bearer $PREDICTD_TOKEN"' : "";
  const sent = file ? `@${file}` : body;
  return `curl ${quoted(url)}${token} -H ${quoted(`content-type: ${type}`)} \\\n  --data-${file ? "binary" : "raw"} ${quoted(sent)}`;
}

function python(url, { body, type, file }, hasToken) {
  const literal = /^[^'\\\p{Cc}]*$/u.test(body) ? `'${body}'` : JSON.stringify(body);
  const from = file ? `open(${JSON.stringify(file)}, "rb").read()` : `${literal}.encode()`;
  const token = hasToken ? ', "authorization": "Bearer " + os.environ["PREDICTD_TOKEN"]' : "";
  return [
    `${hasToken ? "import os\n" : ""}import urllib.request\n`,
    `body = ${from}`,
    `headers = {"content-type": ${JSON.stringify(type)}${token}}`,
    `request = urllib.request.Request(${JSON.stringify(url)}, body, headers)`,
    "print(urllib.request.urlopen(request).read().decode())",
  ].join("\n");
}

function gcloud({ body, type, file }, version) {
  const attributes = [`model=${state.current}`];
  if (version) attributes.push(`model_version=${version}`);
  if (file) attributes.push(`dataref=gs://BUCKET/${file}`);
  else if (type !== "application/json") attributes.push(`content-type=${type}`);
  const isPlain = attributes.every((attribute) => !attribute.includes(","));
  const all = isPlain ? attributes.join(",") : `^|^${attributes.join("|")}`;
  const message = file ? "" : ` --message=${quoted(body)}`;
  return `gcloud pubsub topics publish prediction-requests \\\n  --attribute=${quoted(all)}${message}`;
}

// ---- the last ten minutes

function chosenSeries() {
  return $("series").value ? JSON.parse($("series").value) : [];
}

const nameOf = ({ model, version }) => (model === "others/" ? "all further versions" : model ? `${model} ${version}` : "refused before a model was found");

function showNow() {
  const { steps, step, versions: all } = state.now;
  const before = $("series").value;
  const options = [["", "all models"], ...all.map((of) => [JSON.stringify([of.model, of.version]), nameOf(of)])];
  if (before && !options.some(([key]) => key === before)) options.push([before, JSON.parse(before).join(" ")]);
  if (options.map(String).join() !== showNow.options) {
    showNow.options = options.map(String).join();
    $("series").replaceChildren(...options.map(([key, text]) => h("option", { value: key }, text)));
    $("series").value = before;
  }
  const rate = steps.map(({ requests }) => requests / step);
  const errors = steps.map((of) => errorsOf(of) / step);
  const latency = (index) => steps.map(({ latencies }) => latencies?.[index] ?? null);
  const count = (value) => (value >= 100 ? Math.round(value).toLocaleString("en") : String(Number((value ?? 0).toPrecision(3))));
  $("charts").replaceChildren(
    chart("Requests a second", count, [["requests", rate], ["errors", errors]]),
    chart("Latency", seconds, LATENCIES.map((name, index) => [name, latency(index)])),
    chart("Rows that wait", count, [["most at once", steps.map(({ waiting }) => waiting)]]),
  );
  if ($("figures").open) figures();
  $("versions").replaceChildren(byVersion(all));
}

const errorsOf = ({ errors }) => Object.values(errors).reduce((sum, count) => sum + count, 0);

function chart(title, unit, series) {
  const top = Math.max(...series.flatMap(([, values]) => values.map((value) => value ?? 0))) || 0;
  const last = series.map(([name, values]) => `${name} ${unit(values.at(-1))}`);
  const [width, height] = [1000, 100];
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title} over ten minutes: now ${last.join(", ")}; highest ${unit(top)}` });
  series.forEach(([, values], index) => {
    for (const points of segments(values)) {
      const coordinates = points.map(([at, value]) => `${((at / (values.length - 1)) * width).toFixed(1)},${(height - (top ? value / top : 0) * height).toFixed(1)}`);
      const isDot = coordinates.length === 1;
      const line = isDot ? [coordinates[0], coordinates[0]] : coordinates;
      drawing.append(svg("polyline", { class: `s${index}${isDot ? " dot" : ""}`, points: line.join(" ") }));
    }
  });
  const legend = series.map(([name, values], index) =>
    h("li", {}, svg("svg", { viewBox: "0 0 30 10", "aria-hidden": "true" }, svg("polyline", { class: `s${index}`, points: "0,5 30,5" })), `${name} ${unit(values.at(-1))}`));
  const caption = h("figcaption", {}, h("span", { class: "top" }, `highest ${unit(top)}`), title);
  const axis = h("p", { class: "axis", "aria-hidden": "true" }, h("span", {}, "10 minutes ago"), h("span", {}, "now"));
  return h("figure", { class: "card" }, caption, drawing, axis, h("ul", { class: "legend" }, ...legend));
}

function segments(values) {
  const all = [[]];
  values.forEach((value, at) => {
    if (value === null) all.push([]);
    else all.at(-1).push([at, value]);
  });
  return all.filter((points) => points.length);
}

const head = (names, numbers) => h("thead", {}, h("tr", {}, ...names.map((name, index) => h("th", { scope: "col", class: index >= numbers ? "number" : "" }, name))));
const number = (text) => h("td", { class: "number" }, text);

function figures() {
  const { steps, step } = state.now;
  const lines = steps.map((of, index) => [of, (steps.length - index) * step]).filter(([of]) => of.requests || of.waiting).reverse();
  const cells = lines.map(([of, ago]) => h("tr", {}, h("th", { scope: "row" }, `${ago} s ago`),
    number(String(of.requests)), number(String(errorsOf(of))), ...LATENCIES.map((_, index) => number(seconds(of.latencies?.[index]))), number(String(of.waiting))));
  const caption = h("caption", {}, lines.length ? `Steps of ${step} seconds; those without requests are left out` : "No requests in the last ten minutes");
  $("figures").lastElementChild.replaceChildren(h("table", {}, caption, head(["step", "requests", "errors", ...LATENCIES, "waiting"], 1), h("tbody", {}, ...cells)));
}

$("figures").addEventListener("toggle", () => $("figures").open && state.now && figures());
$("series").addEventListener("change", poll);

function byVersion(all) {
  if (!all.length) return h("p", { class: "quiet" }, "No requests in the last ten minutes.");
  const lines = all.map((of) => {
    const errors = Object.entries(of.errors).map(([code, count]) => `${code} ${count}`).join(", ") || "none";
    return h("tr", {}, h("th", { scope: "row" }, nameOf(of)), h("td", {}, errors), number(of.requests.toLocaleString("en")),
      ...LATENCIES.map((_, index) => number(seconds(of.latencies?.[index]))), number(String(of.waiting)));
  });
  return h("table", {}, head(["model and version", "errors", "requests", ...LATENCIES, "waiting"], 2), h("tbody", {}, ...lines));
}

// ---- what is served

$("filter").addEventListener("input", showModels);

function showModels() {
  const typed = $("filter").value.trim().toLowerCase();
  const names = Object.keys(state.info.models);
  const found = names.filter((name) => name.toLowerCase().includes(typed));
  const open = new Set([...$("all").querySelectorAll("details[open]")].map((details) => details.dataset.name));
  const shown = found.slice(0, MOST_SHOWN);
  const which = shown.length < found.length ? `the first ${shown.length} of ${found.length.toLocaleString("en")}` : found.length.toLocaleString("en");
  say("count", names.length ? `${plural(names.length, "model")}; shown: ${which}` : "There is no model yet.");
  const parts = shown.map((name) => modelCard(name, state.info.models[name], open.has(name) || found.length === 1));
  const ignored = state.info.ignored ?? [];
  if (ignored.length) {
    const lines = ignored.map((item) => h("li", {}, `${item.path}: expected ${item.expected}`));
    parts.push(h("section", { class: "card" }, h("h2", {}, "Ignored in the source"), h("ul", {}, ...lines)));
  }
  $("all").replaceChildren(...parts);
}

function modelCard(name, of, isOpen) {
  const newer = of.refused.length ? `, ${plural(of.refused.length, "version")} refused` : "";
  const summary = h("summary", {}, name, h("span", {}, of.serving ? `✓ version ${of.serving.version}${newer}` : `✕ not served${newer}`));
  const details = h("details", { class: "card", "data-name": name, open: isOpen }, summary);
  const build = () => details.childElementCount === 1 && details.append(...modelFacts(name, of));
  if (isOpen) build();
  details.addEventListener("toggle", build);
  return details;
}

function modelFacts(name, { serving, warning, refused }) {
  const facts = [];
  const fact = (term, text) => text && facts.push(h("dt", {}, term), h("dd", {}, text));
  if (serving) {
    fact("version", serving.version);
    fact("since", new Date(serving.loaded_at).toLocaleString());
    fact("from", serving.from);
    fact("inputs", serving.inputs.map(tensor).join("\n"));
    fact("outputs", serving.outputs.map(tensor).join("\n"));
    fact("columns", serving.columns?.join(", "));
    fact("batching", serving.batching);
    fact("sessions", serving.sessions);
    for (const [key, text] of Object.entries(serving.metadata)) fact(key, shortened(text));
  }
  fact("warning", warning);
  for (const { version, reason } of refused) fact(`${version} refused`, reason);
  const link = serving && h("p", {}, h("a", { href: `#try?${new URLSearchParams({ model: name })}` }, "Try it"));
  return [h("dl", { class: "facts" }, ...facts), link].filter(Boolean);
}

show();
poll();
