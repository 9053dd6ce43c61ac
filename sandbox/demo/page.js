// Shows what /api/state says, and presses the buttons. All texts come from the server; here they only find their place.

const POLL_MILLISECONDS = 1000;
const byId = (id) => document.getElementById(id);

let state = null;
let followed = null; // the request id that the visitor looks for
let lastHappening = 0;
let lastSeen = null;

// -- small helpers: nothing is touched that has not changed, so that focus, selection and screen readers are left alone

function setText(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

function setData(element, name, value) {
  if (element.dataset[name] !== String(value)) element.dataset[name] = value;
}

function make(tag, text = "", className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

function clock(seconds) {
  const date = new Date(seconds * 1000);
  const element = make("time", date.toLocaleTimeString([], { hour12: false }));
  if (date.toDateString() !== new Date().toDateString()) {
    element.prepend(date.toLocaleDateString([], { month: "short", day: "numeric" }), " ");
  }
  element.dateTime = date.toISOString();
  return element;
}

// Show a list of items in a container: `create` makes an item's element, `update` brings it up to date.
function showList(container, items, create, update) {
  const known = new Map([...container.children].map((element) => [element.dataset.key, element]));
  const isFirst = known.size === 0;
  let place = container.firstElementChild;
  for (const item of items) {
    const key = String(item.id);
    let element = known.get(key);
    if (element) {
      known.delete(key);
    } else {
      element = create(item);
      element.dataset.key = key;
      if (!isFirst) element.classList.add("new");
    }
    update(element, item);
    if (element === place) place = place.nextElementSibling;
    else container.insertBefore(element, place);
  }
  for (const element of known.values()) {
    if (!element.contains(document.activeElement)) element.remove();
  }
}

// -- the parts

function showParts() {
  for (const [name, count] of Object.entries(state.counts)) {
    for (const element of document.querySelectorAll(`[data-count="${name}"]`)) setText(element, count);
  }
  for (const [name, part] of Object.entries(state.parts)) {
    showPart(name, part.broken ? "bad" : "good", part.broken ? "▲ broken" : "✓ works");
    const card = partCard(name);
    const button = card.querySelector(".toggle");
    setText(button, `${part.broken ? "Mend" : "Break"} ${button.dataset.name}`);
    const symptom = card.querySelector(".symptom");
    setText(symptom, part.symptom);
    symptom.hidden = !part.broken;
  }
  const run = state.runs[0];
  const running = state.running_since !== null;
  const failed = !running && run?.outcome === "failed";
  showPart("collector", failed ? "bad" : running ? "warning" : "good", running ? "● running" : failed ? "▲ failed" : "✓ idle");
  setText(byId("last-outcome"), run ? run.outcome : "–");
  const seconds = running ? Math.max(0, Math.round(Date.now() / 1000 - state.running_since)) : 0;
  setText(byId("running"), running ? `It has been running for ${seconds} s.` : "On AWS, its schedule runs it every hour.");
  const quarantined = state.counts.quarantine > 0;
  showPart("quarantine", quarantined ? "warning" : "good", quarantined ? "● not empty" : "✓ empty");
  setText(byId("refusals"), state.refusals_left);
  for (const button of document.querySelectorAll(".parts button")) {
    button.setAttribute("aria-disabled", String(!state.ready || (button.id === "run" && running)));
  }
}

function partCard(name) {
  return document.querySelector(`.part[data-part="${name}"]`);
}

function showPart(name, tone, words) {
  const card = partCard(name);
  setData(card, "state", tone);
  setText(card.querySelector(".pill"), words);
}

// -- entries, runs, happenings

function createEntry(entry) {
  const row = make("tr");
  const time = make("td");
  time.append(clock(entry.at));
  const call = make("td", entry.call);
  call.append(make("small", `${entry.user}, status ${entry.status}`));
  const place = make("td");
  place.append(make("span", "", "place"), make("small"));
  const id = make("td");
  const button = make("button", entry.id, "id");
  button.type = "button";
  button.addEventListener("click", () => follow(entry.id));
  id.append(button);
  row.append(time, call, place, id);
  return row;
}

function updateEntry(row, entry) {
  const place = row.querySelector(".place");
  setText(place, entry.place);
  setData(place, "place", entry.place);
  if (entry.delivered_at !== null && !row.querySelector("small time")) {
    row.querySelector("td:nth-child(3) small").append(clock(entry.delivered_at));
  }
}

function createRun(run) {
  const item = make("li");
  item.dataset.outcome = run.outcome;
  const details = make("details");
  const summary = make("summary");
  summary.append(clock(run.at), " ", make("span", run.outcome, "outcome"));
  const report = run.report ?? {};
  const counts = ["fetched", "delivered", "quarantined", "failed"].filter((name) => report[name]);
  if (counts.length) summary.append(`: ${counts.map((name) => `${report[name]} ${name}`).join(", ")}`);
  const list = make("dl");
  for (const [name, value] of Object.entries(report)) {
    const shown = value !== null && typeof value === "object" ? JSON.stringify(value) : value;
    list.append(make("dt", name), make("dd", shown ?? "–"));
  }
  details.append(summary, list);
  item.append(details);
  if (run.error) item.append(make("p", run.error, "error"));
  return item;
}

function showHappenings() {
  const container = byId("happenings");
  for (const happening of state.happenings.filter((one) => one.number > lastHappening)) {
    const item = make("li");
    item.append(clock(happening.at), ` ${happening.what}`);
    if (lastHappening > 0) item.classList.add("new");
    container.prepend(item);
  }
  lastHappening = state.happenings.at(-1)?.number ?? lastHappening;
}

// -- one entry

function follow(id) {
  followed = id;
  byId("find-id").value = id;
  refreshFollowed();
}

async function refreshFollowed() {
  if (!followed) return;
  const id = followed;
  const entry = await (await fetch(`/api/entry?id=${encodeURIComponent(id)}`)).json();
  if (id !== followed) return;
  const found = byId("found");
  const text = JSON.stringify(entry);
  if (found.dataset.shown === text) return;
  found.dataset.shown = text;
  const title = make("p", "", "followed");
  const place = make("span", entry.place, "place");
  place.dataset.place = entry.place;
  title.append(place, entry.call ? `: ${entry.call}` : ": nobody here knows this id");
  const steps = make("ol", "", "steps");
  for (const step of entry.steps) {
    const item = make("li");
    item.dataset.holds = step.holds;
    item.append(make("strong", `${step.name}: ${step.holds ? "yes" : "no"}`));
    const detail = make("small", step.detail);
    if (step.at !== null) detail.append(" ", clock(step.at));
    item.append(detail);
    steps.append(item);
  }
  found.replaceChildren(title, steps);
}

// -- looking and acting

async function refresh() {
  try {
    const response = await fetch("/api/state");
    if (!response.ok) throw new Error(`status ${response.status}`);
    state = await response.json();
    await refreshFollowed();
  } catch {
    const since = lastSeen ? ` What you see is of ${lastSeen.toLocaleTimeString([], { hour12: false })}.` : "";
    setText(byId("trouble"), `The demo does not answer; it may have ended.${since}`);
    byId("trouble").hidden = false;
    return;
  }
  byId("trouble").hidden = true;
  lastSeen = new Date();
  setText(byId("verdict"), state.verdict.text);
  setData(byId("verdict"), "tone", state.verdict.tone);
  showParts();
  showList(byId("entries"), state.entries, createEntry, updateEntry);
  showList(byId("runs"), state.runs, createRun, () => {});
  byId("no-runs").hidden = state.runs.length > 0;
  showHappenings();
  setText(byId("commands"), state.commands.join("\n"));
}

async function press(action, values = {}) {
  let answer = "";
  try {
    const response = await fetch(`/api/${action}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(values),
    });
    if (!response.ok) answer = (await response.json()).problem;
  } catch {
    answer = "The demo does not answer; it may have ended.";
  }
  setText(byId("answer"), answer);
  await refresh();
}

byId("make-calls").addEventListener("submit", (event) => {
  event.preventDefault();
  press("calls", { calls: byId("calls").valueAsNumber });
});
byId("run").addEventListener("click", () => press("run"));
byId("refuse").addEventListener("click", () => press("refuse"));
for (const button of document.querySelectorAll(".toggle")) {
  button.addEventListener("click", () => {
    const part = button.closest(".part").dataset.part;
    press(state?.parts[part].broken ? "mend" : "break", { part });
  });
}
byId("find").addEventListener("submit", (event) => {
  event.preventDefault();
  follow(byId("find-id").value.trim());
});

async function watch() {
  if (!document.hidden) await refresh();
  setTimeout(watch, POLL_MILLISECONDS);
}
document.addEventListener("visibilitychange", () => document.hidden || refresh());
watch();
