// The live board. It keeps one WebSocket to /v1/live, follows two topics, and shows what they say.
//
// Rules:
// 1. The token comes after "#" in the address, moves to sessionStorage and out of the address bar, and is sent in the hello only.
// 2. A line of updates has no holes: an offset that does not follow asks again from what is there; a snapshot replaces everything.
// 3. Close codes 4000-4499 mean "do not come back": the page says why. Any other end means: again, after a growing pause.
// 4. What comes from the server is shown as text, never as HTML.
"use strict";

const SCANS_SHOWN = 14;
const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 15000;
const PING_MS = 15000;
const SILENCE_MS = 40000;
const REFUSED_TOPIC_RETRY_MS = 5000;

const REASONS = {
  credential_invalid: "Card not valid", credential_expired: "Code expired", credential_replayed: "Code used before",
  card_revoked: "Card revoked", card_suspended: "Card suspended", card_expired: "Card expired",
  event_not_open: "Doors not open yet", event_closed: "Doors closed", event_cancelled: "Event cancelled",
  gate_unknown: "Wrong door", gate_closed: "Door closed", not_eligible: "Not on this list",
  already_admitted: "Inside already", not_inside: "Not inside", full: "House full", quota_exceeded: "Plan used up",
};
const ENDS = {
  4401: ["This link is not valid any more", "Its token is wrong, expired or was withdrawn. Open the board again from the event's page in MasterVIP."],
  4403: ["This link may not show boards", "Its token is for something else. Open the board from the event's page in MasterVIP."],
  4404: ["There is no such event", "Check the address, or open the board from the event's page in MasterVIP."],
};

const $ = (id) => document.getElementById(id);
const eventId = decodeURIComponent(location.pathname.split("/").pop());
const numbers = new Intl.NumberFormat();
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const clockWithSeconds = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

const lines = {
  [`event:${eventId}`]: { since: null, show: showEvent },
  [`leaderboard:points:event:${eventId}`]: { since: null, show: showRanks },
};
let socket = null;
let heardAt = 0;
let retryMs = RETRY_MS_MIN;
let scans = [];
// Scan id -> the conflicts that it is in, as far as they were told since the last snapshot.
let contradicted = new Map();
let isOver = false;

function takeToken() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (found) {
    sessionStorage.setItem("mastervip.token", found);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return sessionStorage.getItem("mastervip.token");
}

function connect() {
  const token = takeToken();
  if (!token) {
    over("This link has no token", "A board's address ends in #token=…. Open the board from the event's page in MasterVIP.");
    return;
  }
  state("connecting", "Connecting");
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const opened = new WebSocket(`${scheme}//${location.host}/v1/live`, ["mastervip.v1.json"]);
  socket = opened;
  heardAt = Date.now();
  opened.onopen = () => say({ t: "hello", token });
  opened.onmessage = (message) => {
    if (socket !== opened) return;
    heardAt = Date.now();
    take(JSON.parse(message.data));
  };
  opened.onclose = (end) => { if (socket === opened) closed(end.code); };
}

function closed(code) {
  socket = null;
  if (code >= 4000 && code < 4500) {
    if (code === 4401) sessionStorage.removeItem("mastervip.token");
    over(...(ENDS[code] || ["The board was disconnected", `The server ended the connection (${code}). Reload the page to try again.`]));
    return;
  }
  // Half fixed, half random, so that a thousand boards do not come back in the same moment.
  const pause = retryMs / 2 + Math.random() * retryMs / 2;
  retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
  state("connecting", "Reconnecting");
  setTimeout(connect, pause);
}

function say(frame) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame));
}

function subscribe(topic) {
  const since = lines[topic].since;
  say(since ? { t: "subscribe", topic, since } : { t: "subscribe", topic });
}

function take(frame) {
  const line = lines[frame.topic];
  if (frame.t === "welcome") {
    retryMs = RETRY_MS_MIN;
    Object.keys(lines).forEach(subscribe);
    say({ t: "ping", n: 0 });
  } else if (frame.t === "pong") {
    state("live", "Live");
  } else if (frame.t === "ping") {
    say({ t: "pong", n: frame.n });
  } else if (frame.t === "snapshot" && line) {
    line.since = { epoch: frame.epoch, offset: frame.offset };
    line.show(frame.data, true);
    state("live", "Live");
  } else if (frame.t === "update" && line && line.since) {
    if (frame.offset === line.since.offset + 1) {
      line.since.offset = frame.offset;
      line.show(frame.data, false);
    } else if (frame.offset > line.since.offset) {
      subscribe(frame.topic);
    }
  } else if (frame.t === "error" && line) {
    if (frame.topic === `event:${eventId}` && frame.code === "topic_unknown") {
      over(...ENDS[4404]);
    } else {
      setTimeout(() => subscribe(frame.topic), frame.retry_after_ms || REFUSED_TOPIC_RETRY_MS);
    }
  }
}

function state(name, text) {
  $("connection").dataset.state = name;
  $("connection-text").textContent = text;
}

function over(title, text) {
  isOver = true;
  state("off", "Not connected");
  $("message-title").textContent = title;
  $("message-text").textContent = text;
  $("message").hidden = false;
  if (socket) { const last = socket; socket = null; last.close(); }
}

function showEvent(data, isSnapshot) {
  const used = data.capacity ? data.inside / data.capacity : 0;
  document.title = `${data.name} · MasterVIP`;
  $("name").textContent = data.name;
  for (const id of ["inside", "capacity", "admitted", "refused"]) $(id).textContent = numbers.format(data[id]);
  $("percent").textContent = `${Math.floor(used * 100)} %`;
  const free = Math.max(0, data.capacity - data.inside);
  $("free").textContent = free ? `${numbers.format(free)} ${free === 1 ? "place" : "places"} left` : "House full";
  $("bar").dataset.level = used >= 1 ? "full" : used >= 0.9 ? "high" : "fine";
  $("bar").setAttribute("aria-valuemax", data.capacity);
  $("bar").setAttribute("aria-valuenow", data.inside);
  $("bar-fill").style.transform = `translateX(${Math.min(1, used) * 100 - 100}%)`;
  scans = (isSnapshot ? data.scans : scans.concat(data.scans)).slice(-SCANS_SHOWN);
  if (isSnapshot) contradicted = new Map();
  takeConflicts(data.conflict_changes || []);
  showScans(isSnapshot ? 0 : data.scans.length);
}

// A scan is cleared up once it is in no conflict any more: it may be in several, and an upload may put one in place of another.
function takeConflicts(changes) {
  const touched = new Set();
  for (const change of changes) {
    for (const id of [change.scan_id, change.other_scan_id].filter(Boolean)) {
      const found = contradicted.get(id) || new Set();
      const name = [change.scan_id, change.other_scan_id, change.reason].join(" ");
      if (change.resolved) found.delete(name); else found.add(name);
      if (found.size) contradicted.set(id, found); else contradicted.delete(id);
      touched.add(id);
    }
  }
  scans = scans.map((scan) => touched.has(scan.scan_id) ? { ...scan, conflict_resolved: !contradicted.has(scan.scan_id) } : scan);
}

function showScans(newCount) {
  $("scans-nothing").hidden = scans.length > 0;
  const rows = scans.slice().reverse().map((scan, index) => {
    // Whom a scanner without a network let in, though others would not have, is shown like a refusal, with the other side.
    const reason = scan.reason || scan.conflict;
    const isResolved = Boolean(scan.conflict && scan.conflict_resolved);
    const kind = isResolved ? "resolved" : reason ? "refused" : scan.direction;
    const word = scan.conflict ? conflictWords(scan) : reason ? REASONS[reason] || "Refused" : kind === "exit" ? "Left" : "Welcome";
    const row = make("li", index < newCount ? "new" : "");
    row.dataset.kind = kind;
    const who = make("div", "who");
    who.append(make("b", "", scan.member ? scan.member.name : "Unknown card"));
    const line = make("small");
    line.append(make(isResolved ? "s" : "em", "", word), [isResolved && "Cleared up", scan.tier && capital(scan.tier), scan.gate_name || (scan.gate_id && gateName(scan.gate_id))].filter(Boolean).map((text) => ` · ${text}`).join(""));
    who.append(line);
    const when = make("div", "when");
    when.append(make("b", "", scan.points ? `+${numbers.format(scan.points)}` : ""), make("small", "", clockWithSeconds.format(scan.at)));
    row.append(make("i"), who, when);
    return row;
  });
  $("scans").replaceChildren(...rows);
}

function conflictWords(scan) {
  const words = `Let in offline at ${clockWithSeconds.format(scan.scanned_at || scan.at)}: ${REASONS[scan.conflict] || "not allowed"}`;
  if (!scan.first) return words;
  const gate = scan.first.gate_name || (scan.first.gate_id && gateName(scan.first.gate_id));
  return `${words} (${[gate, clockWithSeconds.format(scan.first.at)].filter(Boolean).join(", ")})`;
}

function showRanks(data) {
  const items = data.items.slice(0, 10);
  $("ranks-nothing").hidden = items.length > 0;
  $("ranks").replaceChildren(...items.map((item) => {
    const row = make("li");
    row.dataset.rank = item.rank;
    row.append(make("i", "", item.rank), make("span", "", (item.member && item.member.name) || item.card_id), make("b", "", numbers.format(item.score)));
    return row;
  }));
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
// For a gate that the event no longer names, its id has to do: "gate_north_2" reads "North 2", "gate_vip" reads "VIP".
function gateName(id) {
  const words = id.replace(/^gate_/, "").replace(/[_-]+/g, " ");
  return words.length <= 3 ? words.toUpperCase() : capital(words);
}


function keepScreenOn() {
  if (navigator.wakeLock && document.visibilityState === "visible") navigator.wakeLock.request("screen").catch(() => {});
}

function tick() {
  $("clock").textContent = clock.format(Date.now());
  if (socket && Date.now() - heardAt > SILENCE_MS) {
    // The line is dead though nobody said so: do not wait for the browser to notice.
    const last = socket;
    closed(1006);
    last.close();
  }
}

setInterval(tick, 1000);
setInterval(() => say({ t: "ping", n: 1 }), PING_MS);
document.addEventListener("visibilitychange", keepScreenOn);
window.addEventListener("hashchange", () => { if (takeToken() && isOver) location.reload(); });
tick();
keepScreenOn();
connect();
