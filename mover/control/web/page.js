
"use strict";
// One moment in, the page drawn. What strangers have named is only ever set as text.

const CAUSES = ["scan", "read", "ring-full", "ring-empty", "tape", "network", "file-history"];
const SILENT_MS = 5000;
const SVG = "http://www.w3.org/2000/svg";
const updates = new WeakMap();

// --- words and numbers

// Control characters, and those that turn the direction of what is around them, are shown and do not act.
function clean(text) {
  return String(text).replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g,
    (found) => "\\u{" + found.charCodeAt(0).toString(16) + "}");
}

function exact(number) {
  return number.toLocaleString("en");
}

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  let unit = 0;
  while (number >= 1024 && unit < units.length - 1) {
    number /= 1024;
    unit += 1;
  }
  return (unit && number < 100 ? number.toFixed(1) : Math.round(number)) + " " + units[unit];
}

function duration(seconds) {
  const whole = Math.round(seconds);
  const days = Math.floor(whole / 86400);
  const clock = [Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60, whole % 60];
  const [hours, minutes, rest] = clock.map((each) => String(each).padStart(2, "0"));
  return (days ? days + " d " : "") + (days || clock[0] ? hours + ":" : "") + minutes + ":" + rest;
}

function percent(ratio) {
  return Math.round(ratio * 100) + " %";
}

function known(value, show) {
  return value === null || value === undefined ? "" : show(value);
}

// --- elements

function make(tag, kind, ...inside) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  element.append(...inside);
  return element;
}

function write(element, text) {
  const cleaned = clean(text);
  if (element.textContent !== cleaned) element.textContent = cleaned;
}

// Children of parent, one for each item: kept where its key was there before, in the items' order.
function sync(parent, items, key, build) {
  const before = new Map(Array.from(parent.children, (child) => [child.dataset.key, child]));
  items.forEach((item, index) => {
    const name = String(key(item));
    let child = before.get(name);
    if (child) before.delete(name);
    else {
      child = build();
      child.dataset.key = name;
    }
    updates.get(child)(item);
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] || null);
  });
  before.forEach((child) => child.remove());
}

function nothing(text) {
  return () => {
    const element = make("p", "none");
    updates.set(element, () => write(element, text));
    return element;
  };
}

function cards(id, items, key, build, empty) {
  const parent = document.getElementById(id);
  if (items.length) sync(parent, items, key, build);
  else sync(parent, [null], () => "none", nothing(empty));
}

// Columns: [heading, value of a row (text or an element), class of the cell].
function table(id, items, key, columns, empty) {
  const parent = document.getElementById(id);
  if (!items.length) {
    sync(parent, [null], () => "none", nothing(empty));
    return;
  }
  sync(parent, [items], () => "table", () => {
    const body = make("tbody");
    const headings = columns.map(([heading, , kind]) => {
      const cell = make("th", kind, heading);
      cell.scope = "col";
      return cell;
    });
    const element = make("table", "", make("thead", "", make("tr", "", ...headings)), body);
    updates.set(element, (rows) => sync(body, rows, key, () => row(columns)));
    return element;
  });
}

function row(columns) {
  const cells = columns.map(([, , kind]) => make("td", kind));
  const element = make("tr", "", ...cells);
  updates.set(element, (item) => columns.forEach(([, value], index) => {
    const found = value(item);
    if (found instanceof Element) cells[index].replaceChildren(found);
    else write(cells[index], found);
  }));
  return element;
}

function plot(values, label) {
  const element = document.createElementNS(SVG, "svg");
  element.setAttribute("class", "plot");
  element.setAttribute("viewBox", "0 0 100 24");
  element.setAttribute("preserveAspectRatio", "none");
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", label);
  if (values.length < 2) return element;
  const top = Math.max(...values) || 1;
  const points = values.map((value, index) =>
    (index * 100 / (values.length - 1)).toFixed(2) + "," + (23 - value * 22 / top).toFixed(2));
  const area = document.createElementNS(SVG, "polygon");
  area.setAttribute("points", "0,24 " + points.join(" ") + " 100,24");
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", points.join(" "));
  element.append(area, line);
  return element;
}

function shares(seconds, elapsed) {
  const whole = Math.max(elapsed, CAUSES.reduce((sum, cause) => sum + (seconds[cause] || 0), 0));
  return CAUSES.map((cause) => [cause, whole ? (seconds[cause] || 0) / whole : 0]).filter(([, share]) => share >= 0.005);
}

function bar(found) {
  const element = make("div", "bar");
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", found.map(([cause, share]) => cause + " " + percent(share)).join(", ") || "no waiting");
  element.title = element.getAttribute("aria-label");
  for (const [cause, share] of found) {
    const part = make("i", cause);
    part.style.width = share * 100 + "%";
    element.append(part);
  }
  return element;
}

function legend(found) {
  return make("p", "legend", ...found.map(([cause, share]) =>
    make("span", "", make("b", cause), cause + " " + percent(share))));
}

// --- what there is

function title(job) {
  const name = job.number === null ? "session " + job["session-id"] : "#" + job.number;
  const level = job.level === null ? "" : " level " + job.level;
  return [name, job.operation, job["backup-type"] + level, job.path].filter((word) => word).join(" · ");
}

function progress(job) {
  const left = job["stream-bytes-left"];
  if (left !== null && job["stream-bytes"] + left > 0) return job["stream-bytes"] / (job["stream-bytes"] + left);
  return job["entries-expected"] ? Math.min(1, job.entries / job["entries-expected"]) : null;
}

function jobCard() {
  const heading = make("h3");
  const phase = make("span", "faint");
  const meter = make("progress");
  const [done, left, at, waits, speed] = [make("span"), make("span"), make("p", "faint at"), make("div"), make("div")];
  const element = make("article", "card job", heading, phase, meter, make("div", "pair", done, left), waits, speed, at);
  updates.set(element, (job) => {
    write(heading, title(job));
    write(phase, [job.phase, job.vserver && "vserver " + job.vserver, "running " + duration(job["elapsed-seconds"]),
      "waits for: " + job.bottleneck].filter((word) => word).join(" · "));
    const ratio = progress(job);
    if (ratio === null) meter.removeAttribute("value");
    else meter.value = ratio;
    meter.setAttribute("aria-label", "progress");
    const entries = exact(job.entries) + known(job["entries-expected"], (all) => " of " + exact(all));
    write(done, bytes(job["stream-bytes"]) + (job.number === null ? "" : ", " + entries + " entries")
      + (job.errors ? ", " + exact(job.errors) + " errors" : ""));
    done.title = exact(job["stream-bytes"]) + " bytes";
    write(left, [ratio === null ? "" : percent(ratio), known(job["seconds-left"], (seconds) => duration(seconds) + " left")]
      .filter((word) => word).join(", "));
    const found = shares(job.seconds, job["elapsed-seconds"]);
    waits.replaceChildren(bar(found), legend(found));
    const now = bytes(job.rate["over-10"]) + "/s";
    speed.replaceChildren(plot(job["rate-history"], "throughput, now " + now), make("span", "faint", now + " over 10 s"));
    write(at, job.at);
    at.hidden = !job.at;
  });
  return element;
}

function ringCard() {
  const heading = make("h3");
  const level = make("i");
  const gauge = make("div", "gauge", level);
  gauge.setAttribute("role", "meter");
  gauge.setAttribute("aria-valuemin", "0");
  gauge.setAttribute("aria-valuemax", "100");
  const [words, history, waits] = [make("span"), make("div"), make("p", "faint")];
  const element = make("article", "card ring", heading, gauge, make("div", "pair", words), history, waits);
  updates.set(element, (ring) => {
    write(heading, ring.name);
    level.style.width = ring["fill-ratio"] * 100 + "%";
    gauge.setAttribute("aria-valuenow", Math.round(ring["fill-ratio"] * 100));
    gauge.setAttribute("aria-label", "fill of " + clean(ring.name));
    write(words, percent(ring["fill-ratio"]) + " of " + bytes(ring["size-bytes"]) + ", " + bytes(ring.rate["over-10"]) + "/s"
      + (ring.waiting ? ", " + ring.waiting + " now" : ""));
    history.replaceChildren(plot(ring["fill-history"], "fill ratio over the last minutes"));
    write(waits, "full " + exact(ring["times-full"]) + " times, " + ring["waited-full-seconds"].toFixed(1) + " s; empty "
      + exact(ring["times-empty"]) + " times, " + ring["waited-empty-seconds"].toFixed(1) + " s");
  });
  return element;
}

const DRIVES = [
  ["drive", (drive) => drive.name],
  ["state", (drive) => make("span", drive.state, drive.state)],
  ["session", (drive) => known(drive["session-id"], String), "number"],
  ["cartridge", (drive) => drive.barcode],
  ["file", (drive) => known(drive["file-number"], exact), "number"],
  ["block", (drive) => known(drive["block-number"], exact), "number"],
  ["writing", (drive) => bytes(drive["written-rate"]["over-10"]) + "/s", "number"],
  ["reading", (drive) => bytes(drive["read-rate"]["over-10"]) + "/s", "number"],
  ["written", (drive) => bytes(drive["written-bytes"]), "number"],
  ["read", (drive) => bytes(drive["read-bytes"]), "number"],
  ["busy", (drive) => drive["io-seconds"].toFixed(1) + " s", "number"],
  ["underruns", (drive) => exact(drive.underruns), "number"],
  ["errors", (drive) => exact(drive.errors), "number"],
];
const PROCESSES = [
  ["pid", (process) => String(process.pid), "number"],
  ["kind", (process) => process.kind],
  ["session", (process) => known(process["session-id"], String), "number"],
  ["state", (process) => process.state],
  ["CPU", (process) => percent(process["cpu-rate"]["over-10"]), "number"],
  ["CPU time", (process) => process["cpu-seconds"].toFixed(2) + " s", "number"],
  ["memory", (process) => bytes(process["resident-bytes"]), "number"],
  ["reading", (process) => bytes(process["read-rate"]["over-10"]) + "/s", "number"],
  ["writing", (process) => bytes(process["write-rate"]["over-10"]) + "/s", "number"],
  ["switches", (process) => exact(process["context-switches"] + process["involuntary-switches"]), "number"],
  ["files", (process) => exact(process["open-files"]), "number"],
  ["threads", (process) => exact(process.threads), "number"],
];
const SESSIONS = [
  ["session", (session) => String(session["session-id"]), "number"],
  ["vserver", (session) => session.vserver],
  ["client", (session) => session["client-addr"]],
  ["user", (session) => session.user],
  ["version", (session) => String(session["ndmp-version"] || ""), "number"],
  ["TLS", (session) => (session.secure ? "yes" : "no")],
  ["for", (session) => duration(session["elapsed-seconds"]), "number"],
  ["data", (session) => session["data-state"]],
  ["mover", (session) => session["mover-state"]],
  ["tape", (session) => session["tape-device"]],
  ["job", (session) => known(session.job, (number) => "#" + number), "number"],
  ["requests", (session) => exact(session.requests), "number"],
  ["posts", (session) => exact(session.posts), "number"],
];
const ENDED = [
  ["job", (job) => "#" + job.number, "number"],
  ["result", (job) => make("span", job.state, job.state)],
  ["what", (job) => title({ ...job, number: null, path: "" }).split(" · ").slice(1).join(" · ")],
  ["path", (job) => job.path, "path"],
  ["ended", (job) => new Date(job.ended * 1000).toLocaleString()],
  ["took", (job) => duration(job.ended - job.started), "number"],
  ["bytes", (job) => exact(job["stream-bytes"]), "number"],
  ["entries", (job) => exact(job.entries), "number"],
  ["errors", (job) => exact(job.errors), "number"],
  ["rate", (job) => bytes(job.rate) + "/s", "number"],
  ["throughput", (job) => plot(job["rate-history"], "throughput over the job")],
  ["waited for", (job) => bar(shares(job.seconds, job.ended - job.started))],
];

function totals(moment) {
  const all = moment.totals;
  const tiles = [
    ["running jobs", exact(moment.jobs.length), ""],
    ["connections", exact(moment.sessions.length), ""],
    ["throughput", bytes(moment.jobs.reduce((sum, job) => sum + job.rate["over-10"], 0)) + "/s", "over 10 s"],
    ["backup streams", bytes(all["data-bytes"]), exact(all["data-bytes"]) + " bytes since the start"],
    ["movers", bytes(all["mover-bytes"]), exact(all["mover-bytes"]) + " bytes since the start"],
    ["objects", exact(all.files), "since the start"],
    ["up for", duration(moment["uptime-seconds"]), ""],
  ];
  sync(document.getElementById("totals"), tiles, ([name]) => name, () => {
    const [name, value] = [make("dt"), make("dd")];
    const element = make("div", "", name, value);
    updates.set(element, (tile) => {
      write(name, tile[0]);
      write(value, tile[1]);
      element.title = tile[2];
    });
    return element;
  });
}

function draw(moment) {
  write(document.getElementById("node"), moment.node + " " + moment.version);
  document.title = "mover " + clean(moment.node) + (moment.jobs.length ? " (" + moment.jobs.length + ")" : "");
  totals(moment);
  cards("jobs", moment.jobs, (job) => job["session-id"] + "/" + job.number, jobCard, "No job is running.");
  cards("rings", moment.rings, (ring) => ring.name, ringCard, "No ring is in use.");
  table("drives", moment.drives, (drive) => drive.name, DRIVES, "There are no drives.");
  table("processes", moment.processes, (process) => process.pid, PROCESSES, "There are no workers.");
  table("sessions", moment.sessions, (session) => session["session-id"], SESSIONS, "Nobody is connected.");
  table("ended", moment["ended-jobs"], (job) => job.number, ENDED, "No job has ended yet.");
}

// --- where it comes from

const state = document.getElementById("state");
const trouble = document.getElementById("trouble");
let silence = 0;

function tell(kind, text) {
  state.className = kind;
  write(state, text);
}

function heard() {
  clearTimeout(silence);
  silence = setTimeout(() => tell("waiting", "no news for " + SILENT_MS / 1000 + " s: what is shown is old"), SILENT_MS);
}

const source = new EventSource("events");
source.addEventListener("moment", (event) => {
  heard();
  tell("live", "live");
  trouble.hidden = true;
  draw(JSON.parse(event.data));
});
source.addEventListener("failed", (event) => {
  heard();
  tell("waiting", "connected");
  write(trouble, JSON.parse(event.data).text);
  trouble.hidden = false;
});
source.addEventListener("error", () => {
  if (source.readyState === EventSource.CLOSED) tell("waiting", "refused: load the page again");
  else tell("waiting", "the server does not answer: trying again");
});
