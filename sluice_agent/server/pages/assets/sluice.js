// What the pages do in a browser beyond their HTML, which the server alone renders: they follow the stream of changes,
// take keys, copy, and show times of the reader's zone. Without it each page shows the state of its moment.

// --- Choices, which all tabs of the browser share ---------------------------------------------------------------------

const CHOICES = { theme: ["system", "light", "dark"], clock: ["local", "utc"], keys: ["on", "off"] };

const unsaved = new Map(); // a browser may refuse its storage: a choice then lasts as long as the page

function choice(name) {
  let value = unsaved.get(name);
  try {
    value ??= localStorage.getItem(`sluice.${name}`);
  } catch {}
  return CHOICES[name].includes(value) ? value : CHOICES[name][0];
}

function choose(name, value) {
  try {
    localStorage.setItem(`sluice.${name}`, value);
  } catch {
    unsaved.set(name, value);
  }
  applyChoices();
}

function applyChoices() {
  const theme = choice("theme");
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme; // at the start, theme.js has done so before the first paint
  for (const name of Object.keys(CHOICES)) {
    for (const control of document.querySelectorAll(`input[type=radio][name="${name}"]`)) {
      control.checked = control.value === choice(name);
    }
  }
  prepare(document.body);
}

function onChoice({ target }) {
  if (target.type === "radio" && Object.hasOwn(CHOICES, target.name)) choose(target.name, target.value);
}

// --- Times -----------------------------------------------------------------------------------------------------------

const HOUR = 3_600_000;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const two = (number) => String(number).padStart(2, "0");

// A date whose UTC fields are those of the zone: so there is one way to read fields.
function inZone(moment, isUtc) {
  return isUtc ? moment : new Date(moment.getTime() - moment.getTimezoneOffset() * 60_000);
}

function zoneOf(moment, isUtc) {
  const minutes = isUtc ? 0 : -moment.getTimezoneOffset();
  if (minutes === 0) return "UTC";
  const distance = Math.abs(minutes);
  return `UTC${minutes < 0 ? "−" : "+"}${two(Math.floor(distance / 60))}:${two(distance % 60)}`;
}

function clockTime(moment, now, isUtc) {
  const [time, today] = [inZone(moment, isUtc).toISOString(), inZone(now, isUtc).toISOString()];
  if (time.slice(0, 10) === today.slice(0, 10)) return time.slice(11, 19);
  const year = time.slice(0, 4) === today.slice(0, 4) ? "" : ` ${time.slice(0, 4)}`;
  return `${Number(time.slice(8, 10))} ${MONTHS[time.slice(5, 7) - 1]}${year} ${time.slice(11, 16)}`;
}

function exactTime(moment, now, isUtc) {
  const [time, today] = [inZone(moment, isUtc).toISOString(), inZone(now, isUtc).toISOString()];
  const date = `${Number(time.slice(8, 10))} ${MONTHS[time.slice(5, 7) - 1]} `;
  return `${time.slice(0, 10) === today.slice(0, 10) ? "" : date}${time.slice(11, 23)}`;
}

function minuteTime(moment, now, isUtc) {
  const text = clockTime(moment, now, isUtc);
  return text.length === 8 ? text.slice(0, 5) : text; // with a date it has no seconds
}

function fullTime(moment, isUtc) {
  const text = inZone(moment, isUtc).toISOString();
  return `${text.slice(0, 10)} ${text.slice(11, -1).replace(".000", "")} ${zoneOf(moment, isUtc)}`;
}

function relativeTime(moment, now, isUtc) {
  const distance = now - moment;
  if (Math.abs(distance) >= HOUR) return clockTime(moment, now, isUtc);
  const seconds = Math.round(Math.abs(distance) / 1_000);
  const text = seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min`;
  return distance >= 0 ? `${text} ago` : `in ${text}`;
}

const FORMATS = {
  clock: clockTime,
  exact: exactTime,
  minute: minuteTime,
  relative: relativeTime,
  full: (moment, _now, isUtc) => fullTime(moment, isUtc),
};

function showTimes(part) {
  const now = new Date(Date.now() + clockSkew);
  const isUtc = choice("clock") === "utc";
  for (const element of part.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    setText(element, FORMATS[element.dataset.format](moment, now, isUtc));
    const title = isUtc ? fullTime(moment, true) : `${fullTime(moment, false)}\n${fullTime(moment, true)}`;
    if (element.title !== title) element.title = title;
  }
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// The server's clock minus the browser's, in milliseconds: "4 s ago" is by the clock that made the timestamp.
let clockSkew = 0;

// --- The stream of changes -------------------------------------------------------------------------------------------
//
// A feed calls `receive` with messages: "open" when a stream begins, after which nothing is missed; "beat" when it is
// alive; "change" with the changes that it brought; "lost" when it has ended against our will.

const FRAMES = ["job:state_change", "worker:state_change", "worker:heartbeat", "queue:snapshot"];
const LONGEST_START = 10_000;
const SILENCE = 40_000; // the server sends a heartbeat each 15 s
const POLL = 5_000;
const LONGEST_RETRY = 15_000;

function openStream(connection, receive) {
  let source = null;
  let changes = [];
  let failures = 0;
  let timer = null;

  function open() {
    source = new EventSource(`/api/events/stream?connectionId=${encodeURIComponent(connection)}`);
    source.addEventListener("open", () => alive("open"));
    source.addEventListener("stream:reset", () => alive("open")); // frames are missing: as at the start
    source.addEventListener("heartbeat", () => alive("beat"));
    source.addEventListener("error", lose);
    for (const name of FRAMES) source.addEventListener(name, note);
    watch(LONGEST_START);
  }

  function alive(kind) {
    failures = 0;
    watch();
    receive({ kind });
  }

  function watch(longest = SILENCE) {
    clearTimeout(timer);
    timer = setTimeout(() => {
      source.close();
      lose();
    }, longest);
  }

  // The browser connects again by itself, unless the server has refused, or we have given the stream up.
  function lose() {
    receive({ kind: "lost" });
    if (source.readyState !== EventSource.CLOSED) return;
    clearTimeout(timer);
    timer = setTimeout(open, Math.min(LONGEST_RETRY, 1_000 * 2 ** failures++));
  }

  // Frames come in chunks: those of one chunk are passed on together.
  function note(event) {
    if (changes.length === 0) setTimeout(pass);
    const data = JSON.parse(event.data);
    changes.push([event.type.split(":")[0], data.id ?? data.name]);
  }

  function pass() {
    watch();
    receive({ kind: "change", changes });
    changes = [];
  }

  open();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}

// A browser opens six connections to a host. So one tab has the stream of a connection, the one with the lock, and
// passes messages on to the others that are visible; when it is hidden or closed, the next of them gets the lock.
function shareStream(connection, receive, refused) {
  const channel = new BroadcastChannel(`sluice:${connection}`);
  const ended = new AbortController();
  let isOpen = false;
  let release = null;

  channel.addEventListener("message", ({ data }) => {
    if (data.kind !== "join") receive(data);
    else if (release) channel.postMessage({ kind: isOpen ? "beat" : "lost" });
  });
  channel.postMessage({ kind: "join" });

  function lead() {
    return new Promise((resolve) => {
      const close = openStream(connection, (message) => {
        isOpen = message.kind !== "lost";
        channel.postMessage(message);
        receive(message);
      });
      release = () => {
        close();
        resolve();
      };
    });
  }

  navigator.locks.request(`sluice:${connection}`, { signal: ended.signal }, lead).catch((error) => {
    if (error.name !== "AbortError") refused();
  });
  return () => {
    ended.abort();
    release?.();
    channel.close();
  };
}

// --- Merging: the page becomes like the server's new HTML ------------------------------------------------------------
//
// Elements with the same key, and those at the same place, change in place. Never removed or moved: what has the
// focus. Never changed: what the reader has unfolded or typed, and what is marked `data-keep`.

const keyOf = (node) => node.dataset?.key ?? (node.id || null);
const isKept = (node) => node.dataset?.keep !== undefined;
const hasFocus = (node) => node !== document.body && node.contains(document.activeElement);

// `held` has the list around these elements if it is in use, `isHeld`, which finds such lists, and what waits in each.
function merge(old, fresh, held) {
  if (old.isEqualNode(fresh)) return;
  for (const { name, value } of fresh.attributes) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  mergeChildren(old, fresh, held);
}

function mergeChildren(old, fresh, around) {
  const held = old.matches("[data-live]") && around.isHeld(old) ? { ...around, list: old } : around;
  const byKey = new Map();
  for (const child of old.children) if (keyOf(child) !== null) byKey.set(keyOf(child), child);
  if (held.list && old.matches("tbody, [data-live]") && mergeHeld(byKey, fresh, held)) return;

  const wanted = new Set([...fresh.children].map(keyOf));
  for (const [key, child] of byKey) if (!wanted.has(key)) remove(child);
  let cursor = skipKept(old.firstChild);
  for (const child of [...fresh.childNodes]) {
    const match = matchOf(child, byKey, cursor);
    if (match !== null && isKept(match)) continue;
    if (match === null) {
      old.insertBefore(document.importNode(child, true), cursor);
      continue;
    }
    if (match !== cursor) bring(match, cursor);
    cursor = skipKept(match.nextSibling);
    if (match.nodeType === Node.ELEMENT_NODE) merge(match, child, held);
    else if (match.data !== child.data) match.data = child.data;
  }
  while (cursor !== null) {
    const next = skipKept(cursor.nextSibling);
    remove(cursor);
    cursor = next;
  }
}

// The rows of a list in use change in place: new ones wait, and those that have left it stay.
function mergeHeld(byKey, fresh, held) {
  const rows = [...fresh.children].filter((row) => keyOf(row) !== null);
  if (rows.length === 0 && byKey.size === 0) return false;
  const present = new Set();
  for (const row of rows) {
    const match = byKey.get(keyOf(row));
    if (match === undefined) continue;
    present.add(match);
    merge(match, row, held);
  }
  for (const row of byKey.values()) row.toggleAttribute("data-gone", !present.has(row));
  const count = rows.length - present.size;
  held.waiting.set(held.list, { count, isMore: present.size === 0 && byKey.size > 0 });
  return true;
}

// Without a key, the next element with the same name and classes, so that what stands after a new one is not taken for
// it; else whatever has the same name and stands at its place.
function matchOf(node, byKey, cursor) {
  const isSame = (other) => other.nodeName === node.nodeName && keyOf(other) === null && !isKept(other);
  const classOf = (other) => other.getAttribute?.("class");
  if (keyOf(node) !== null) {
    const match = byKey.get(keyOf(node));
    return match?.nodeName === node.nodeName ? match : null;
  }
  for (let other = cursor; other !== null; other = other.nextSibling) {
    if (isSame(other) && classOf(other) === classOf(node)) return other;
  }
  return cursor !== null && isSame(cursor) ? cursor : null;
}

function skipKept(node) {
  while (node !== null && isKept(node)) node = node.nextSibling;
  return node;
}

function remove(node) {
  if (hasFocus(node)) node.toggleAttribute("data-gone", true);
  else if (!isKept(node)) node.remove();
}

// Move `node` before `place`. A move takes the focus away: of a node that has it, all others are moved instead.
function bring(node, place) {
  if (!hasFocus(node)) {
    node.parentNode.insertBefore(node, place);
    return;
  }
  const after = node.nextSibling;
  while (place !== node) {
    const next = place.nextSibling;
    node.parentNode.insertBefore(place, after);
    place = next;
  }
}

// --- Lists in use, and the new rows that wait ------------------------------------------------------------------------

const canHover = matchMedia("(hover: hover)");

function isInUse(list) {
  const selection = getSelection();
  const box = list.getBoundingClientRect();
  return (
    (canHover.matches && list.matches(":hover")) ||
    list.contains(document.activeElement) ||
    (scrollY > 0 && box.top < 0 && box.bottom > 0) ||
    list.querySelector("[data-select]:checked") !== null ||
    (!selection.isCollapsed && list.contains(selection.anchorNode))
  );
}

// The button stands before the list, over its upper edge, and takes no room: rows do not move when it comes.
function showWaiting(list, waiting, showRows) {
  const frame = list.closest("[data-live-frame]") ?? list;
  let note = frame.previousElementSibling?.matches(".new-rows") ? frame.previousElementSibling : null;
  if (!waiting?.count) {
    note?.remove();
    return;
  }
  if (note === null) {
    note = document.createElement("div");
    note.className = "new-rows";
    note.dataset.keep = "";
    const button = document.createElement("button");
    button.type = "button";
    button.addEventListener("click", (event) => showRows(list, event.detail === 0));
    note.append(button);
    frame.before(note);
  }
  setText(note.firstChild, newRows(waiting));
}

const newRows = ({ count, isMore }) => `${count}${isMore ? "+" : ""} new`;

// --- Live: when the page is fetched again ----------------------------------------------------------------------------

const SHORTEST_PAUSE = 250; // at most four repaints a second
const SHARE = 3; // a pause of three times what a repaint took: at most a quarter of the time
const LONGEST_FETCH = 10_000;
const NOTICEABLE = 2_000;
const OFFLINE = 10_000;
const ASLEEP = 30_000; // between two ticks

class Refusal extends Error {}

// The page as it is now, of `connection` whichever is the newest meanwhile. Raises `Refusal` if its reader is signed
// out, and another error if there is no page.
async function fetchMain(connection, request) {
  const url = new URL(location.href);
  if (connection) url.searchParams.set("connectionId", connection);
  const headers = { Accept: "text/html", "X-Sluice-Part": "main" };
  const timer = setTimeout(() => request.abort(), LONGEST_FETCH); // an old connection may bring nothing any more
  const response = await fetch(url, { cache: "no-store", headers, signal: request.signal });
  const html = await response.text();
  clearTimeout(timer);
  if (response.status === 401) throw new Refusal();
  const isPage = response.headers.has("X-Sluice-Title"); // else it is a proxy's
  if (!isPage || response.status === 429 || response.status >= 500) throw new Error(`status ${response.status}`);
  const content = document.implementation.createHTMLDocument().createElement("main"); // inert: nothing is loaded
  content.innerHTML = html;
  return {
    content,
    title: `${decodeURIComponent(response.headers.get("X-Sluice-Title"))} · Sluice`,
    renderedAt: new Date(response.headers.get("X-Sluice-Rendered-At")),
    connection: response.headers.get("X-Sluice-Connection"),
    reader: response.headers.get("X-Sluice-Reader"),
  };
}

// What the page shows of itself: whether it is live, and since when not.
function describe({ stream, isPaused, changesSincePause, changedAt, renderedAt }) {
  const now = performance.now();
  const secondsSince = (moment) => `${Math.round((now - moment) / 1_000)} s`;
  const asOf = `as of ${clockTime(renderedAt, new Date(), choice("clock") === "utc")}`;
  if (stream.state === "refused") return { state: "refused", text: "Signed out", link: ["Sign in", "/login"] };
  if (isPaused) {
    const noun = changesSincePause === 1 ? "change" : "changes";
    const since = changesSincePause > 0 ? `, ${changesSincePause} ${noun} since` : "";
    return { state: "paused", text: "Paused", detail: `${asOf}${since}` };
  }
  if (stream.state === "lost") {
    if (now - stream.since < OFFLINE) return { state: "lost", text: "Reconnecting", detail: asOf };
    return { state: "lost", text: "Offline", detail: `for ${secondsSince(stream.since)}, ${asOf}` };
  }
  if (changedAt !== null && now - changedAt > NOTICEABLE) {
    return { state: "behind", text: "Behind", detail: `by ${secondsSince(changedAt)}` };
  }
  if (stream.state === "polling") return { state: "live", text: "Live", detail: `every ${POLL / 1_000} s` };
  if (stream.state === "live") return { state: "live", text: "Live" };
  return now - stream.since > NOTICEABLE ? { state: "lost", text: "Connecting", detail: asOf } : null;
}

function startLive(main) {
  const { types, connection, subject, reader, polled } = document.body.dataset;
  const concerned = new Set(types.split(","));
  const indicator = createIndicator(togglePause);
  let stopFeed = null; // null while the page is hidden, or its reader signed out
  // Connecting, then live; polling where there is no stream; lost if there is no server either; refused for who is
  // signed out.
  let stream = { state: "connecting", since: performance.now() };
  let receivedAt = 0;
  let tickedAt = 0; // by the wall's clock: the other one may stand still while the computer sleeps
  let fetchedAt = 0;
  let isPaused = readPause();
  let changesSincePause = 0;
  let renderedAt = new Date(document.body.dataset.renderedAt || Date.now());
  let changedAt = null; // the first change that the page does not show
  let nextChangedAt = null; // the first one since the page is being fetched
  let fetching = null;
  let timer = null;
  let notBefore = 0;
  let failures = 0;
  let waiting = new Map(); // what waits in lists in use

  function receive({ kind, changes }) {
    if (kind === "lost") {
      loseStream();
      return;
    }
    receivedAt = performance.now();
    const hasBegun = stream.state !== "live" || kind === "open";
    enter("live");
    if (hasBegun) change();
    else if (kind === "change") noteChanges(changes);
  }

  function noteChanges(changes) {
    const isOurs = ([type, id]) => concerned.has(type) && (!subject || type !== "job" || id === subject);
    const count = changes.filter(isOurs).length;
    if (isPaused) changesSincePause += count;
    if (count > 0) change();
  }

  function enter(state) {
    if (stream.state !== state) stream = { state, since: performance.now() };
    show();
  }

  // Whether there is a server shows when the page is fetched, as does a refusal, which a stream does not show.
  function loseStream() {
    if (stream.state === "polling" || stream.state === "lost") return;
    enter("lost");
    if (fetching === null) refresh();
  }

  function change() {
    if (fetching === null) changedAt ??= performance.now();
    else nextChangedAt ??= performance.now();
    schedule();
  }

  function schedule() {
    if (stopFeed === null || isPaused || changedAt === null || fetching !== null || timer !== null) return;
    timer = setTimeout(refresh, Math.max(0, notBefore - performance.now()));
  }

  // Fetch the page and paint it: in the list `shown` also the rows that wait. A session that is over is said also where
  // reading needs none; another one has its own buttons.
  async function refresh(shown = null) {
    cancel();
    const started = performance.now();
    const request = new AbortController();
    fetching = request;
    changedAt ??= started;
    let error = null;
    try {
      const fresh = await fetchMain(connection, request);
      if (fetching !== request) return; // it was cancelled
      if (fresh.reader !== reader) return fresh.reader ? location.reload() : refuse();
      if (!isPaused || shown !== null) paint(fresh, shown);
    } catch (raised) {
      error = raised;
    }
    if (fetching !== request) return; // it was cancelled
    fetching = null;
    settle(error, performance.now() - started);
    schedule();
    show();
  }

  function settle(error, duration) {
    fetchedAt = performance.now();
    failures = error === null ? 0 : failures + 1;
    const took = Math.min(duration, LONGEST_FETCH); // more, if the computer slept meanwhile
    const pause = error === null ? SHARE * took : Math.min(LONGEST_RETRY, 500 * 2 ** failures);
    notBefore = fetchedAt + Math.max(SHORTEST_PAUSE, pause);
    if (error instanceof Refusal) refuse();
    else if (error instanceof TypeError) enter("lost");
    else if (error === null && stream.state === "lost") enter("polling");
  }

  function cancel() {
    clearTimeout(timer);
    timer = null;
    fetching?.abort();
    fetching = null;
  }

  function paint(fresh, shown) {
    if (!connection && fresh.connection) return location.reload(); // the first one is there: also the bar names it
    renderedAt = fresh.renderedAt;
    clockSkew = renderedAt - Date.now();
    prepare(fresh.content);
    waiting = new Map();
    mergeChildren(main, fresh.content, { list: null, waiting, isHeld: (list) => list !== shown && isInUse(list) });
    document.title = fresh.title;
    for (const list of main.querySelectorAll("[data-live]")) showWaiting(list, waiting.get(list), showRows);
    announceWaiting([...waiting.values()].filter(({ count }) => count > 0));
    showSelection();
    changedAt = nextChangedAt;
    nextChangedAt = null;
    changesSincePause = 0;
  }

  async function showRows(list, isByKey) {
    if (list.getBoundingClientRect().top < 0) list.scrollIntoView({ block: "start" });
    await refresh(list);
    if (isByKey) list.querySelector("[data-row-link]")?.focus();
  }

  function refuse() {
    end();
    enter("refused");
  }

  function tick() {
    const now = performance.now();
    const hasSlept = Date.now() - tickedAt > ASLEEP;
    tickedAt = Date.now();
    if (hasSlept) return restart();
    if (stream.state === "live" && now - receivedAt > SILENCE) loseStream();
    if (stream.state === "connecting" && now - stream.since > LONGEST_START) loseStream(); // nor does another tab answer
    const isDue = stream.state === "polling" && now - fetchedAt > POLL - 500;
    if (isDue || main.querySelector("[data-refresh]") || [...waiting.keys()].some((list) => !isInUse(list))) change();
    showTimes(main);
    show();
  }

  function show() {
    const shown = describe({ stream, isPaused, changesSincePause, changedAt, renderedAt });
    if (shown !== null) indicator.show(shown, isPaused);
  }

  function begin() {
    if (stopFeed !== null || document.hidden) return;
    tickedAt = Date.now();
    const ticking = setInterval(tick, 1_000);
    const canShare = polled === undefined && connection && navigator.locks && window.BroadcastChannel;
    const stopStream = canShare ? shareStream(connection, receive, pollOnly) : () => {};
    stopFeed = () => {
      clearInterval(ticking);
      stopStream();
    };
    if (canShare) enter("connecting");
    else pollOnly();
  }

  function restart() {
    end();
    notBefore = 0;
    begin();
  }

  function pollOnly() {
    enter("polling");
    change();
  }

  function end() {
    stopFeed?.();
    stopFeed = null;
    cancel();
  }

  function togglePause() {
    isPaused = !isPaused;
    changesSincePause = 0;
    writePause(isPaused);
    schedule();
    show();
  }

  // Another tab of the browser has signed in or out: if the page is hidden, that shows when it is shown.
  function onReader({ key }) {
    if (key !== READER || document.hidden) return;
    if (stopFeed === null) begin();
    else refresh();
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? end() : begin()));
  addEventListener("storage", onReader);
  addEventListener("pagehide", end);
  addEventListener("pageshow", begin);
  addEventListener("offline", change); // the connection may seem to be open for minutes
  begin();
}

// Sends the other tabs the session in which this browser reads, whenever it changes.
const READER = "sluice:reader";

function shareReader() {
  const { reader } = document.body.dataset;
  try {
    if (reader !== undefined) localStorage.setItem(READER, reader);
  } catch {}
}

// A page that the same tab opens next is paused as well.
function readPause() {
  try {
    return sessionStorage.getItem("sluice:paused") === "yes";
  } catch {
    return false;
  }
}

function writePause(isPaused) {
  try {
    sessionStorage.setItem("sluice:paused", isPaused ? "yes" : "no");
  } catch {}
}

// Screen readers announce the state, and not the seconds, which are outside of the live region.
function createIndicator(togglePause) {
  const place = document.getElementById("live");
  const button = document.getElementById("pause");
  const text = document.createElement("span");
  const detail = document.createElement("span");
  place.removeAttribute("role");
  text.setAttribute("role", "status");
  detail.className = "live-detail";
  place.replaceChildren(text, detail);
  button.addEventListener("click", togglePause);
  return {
    show(shown, isPaused) {
      place.dataset.state = shown.state;
      if (text.dataset.text !== shown.text) {
        text.dataset.text = shown.text;
        text.replaceChildren(shown.text);
        if (shown.link) {
          const link = document.createElement("a");
          [link.textContent, link.href] = shown.link;
          text.append(" · ", link);
        }
      }
      setText(detail, shown.detail ?? "");
      setText(button.firstElementChild, isPaused ? "Resume" : "Pause");
      button.hidden = shown.state === "refused";
    },
  };
}

// --- Announcements, for screen readers -------------------------------------------------------------------------------

const BETWEEN_COUNTS = 5_000;
let announcer = null;
let announcedText = "";
let announcedAt = -BETWEEN_COUNTS;

function announce(text) {
  announcer.textContent = text;
}

function announceWaiting(lists) {
  const text = lists.map(newRows).join(", ");
  const now = performance.now();
  if (text === announcedText || (text !== "" && now - announcedAt < BETWEEN_COUNTS)) return;
  announcedText = text;
  announcedAt = now;
  announce(text);
}

// --- Copying ---------------------------------------------------------------------------------------------------------

async function copy(button) {
  const text = button.dataset.copy;
  button.dataset.copied = ""; // visible, whatever has the focus meanwhile
  const isCopied = navigator.clipboard ? await writeClipboard(text) : copySelected(text);
  announce(isCopied ? "Copied" : "The browser did not allow to copy");
  setTimeout(() => delete button.dataset.copied, isCopied ? 1_500 : 0);
}

async function writeClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text);
  }
}

// Browsers have the clipboard only on HTTPS and on the own machine: elsewhere a selection is copied.
function copySelected(text) {
  const focused = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  (focused?.closest("dialog") ?? document.body).append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return isCopied;
}

// --- Selected rows ---------------------------------------------------------------------------------------------------

function showSelection() {
  for (const bar of document.querySelectorAll("[data-selection]")) {
    const boxes = [...document.querySelectorAll("[data-select]")];
    const count = boxes.filter((box) => box.checked).length;
    bar.hidden = count === 0;
    for (const place of bar.querySelectorAll("[data-selection-count]")) setText(place, String(count));
    for (const all of document.querySelectorAll("[data-select-all]")) {
      all.checked = count > 0 && count === boxes.length;
      all.indeterminate = count > 0 && count < boxes.length;
    }
  }
}

let lastSelected = null;

function onSelect(event) {
  const box = event.target;
  if (box.matches?.("[data-select-all]")) {
    for (const each of document.querySelectorAll("[data-select]")) each.checked = box.checked;
  } else if (!box.matches?.("[data-select]")) return;
  showSelection();
}

// A click with Shift extends the selection from the box that was clicked last.
function onSelectClick(event) {
  const box = event.target;
  if (!box.matches?.("[data-select]")) return;
  if (event.shiftKey && lastSelected?.isConnected) {
    const boxes = [...document.querySelectorAll("[data-select]")];
    const [from, to] = [boxes.indexOf(lastSelected), boxes.indexOf(box)].sort((a, b) => a - b);
    for (const each of boxes.slice(from, to + 1)) each.checked = box.checked;
  }
  lastSelected = box;
}

// --- Dialogs and menus -----------------------------------------------------------------------------------------------

function openDialog(id) {
  const dialog = document.getElementById(id);
  if (!(dialog instanceof HTMLDialogElement) || dialog.open) return false;
  dialog.showModal();
  return true;
}

function onClick(event) {
  const target = event.target;
  const opener = target.closest("[data-dialog]");
  if (opener && !event.ctrlKey && !event.metaKey && !event.shiftKey && openDialog(opener.dataset.dialog)) event.preventDefault();
  const closer = target.closest("[data-close]");
  const dialog = closer?.closest("dialog");
  if (dialog) {
    dialog.close();
    event.preventDefault(); // without the script it is a link
  }
  if (target instanceof HTMLDialogElement) target.close(); // its backdrop: the content fills the rest
  const button = target.closest("button[data-copy]");
  if (button) copy(button);
  closeMenus(target);
}

// A question is a page of its own, which is shown as a dialog on the page where it came up.
async function ask(address) {
  const dialog = document.getElementById("ask");
  const response = await fetch(address, { headers: { Accept: "text/html", "X-Sluice-Part": "main" } }).catch(() => null);
  if (!response?.ok) {
    location.assign(address);
    return;
  }
  dialog.innerHTML = await response.text();
  prepare(dialog);
  if (!dialog.open) dialog.showModal();
}

function onAskClick(event) {
  const link = event.target.closest("a[data-ask]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  ask(link.href);
}

function onAskSubmit(event) {
  const form = event.target;
  if (!form.matches("[data-ask]")) return;
  event.preventDefault();
  ask(`${form.action}?${new URLSearchParams(new FormData(form, event.submitter))}`);
}

function closeMenus(target) {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(target)) menu.open = false;
  }
}

// --- Keys ------------------------------------------------------------------------------------------------------------

const PLACES = {
  n: "/", j: "/jobs", t: "/tasks", q: "/queues", w: "/workers", e: "/errors",
  r: "/runs", d: "/dead-letters", i: "/definitions", s: "/schedules",
};
const SEQUENCE = 1_500; // milliseconds between g and the letter

let goesAt = -SEQUENCE;

const KEYS = {
  "/": () => focusOn(document.querySelector("[data-search], input[type=search]")),
  "?": () => openDialog("help"),
  j: () => step(1),
  k: () => step(-1),
  x: select,
  p: () => {
    const button = document.querySelector("#pause:not([hidden])");
    button?.click();
    return Boolean(button);
  },
  g: () => {
    goesAt = performance.now();
    return true;
  },
  Escape: escape,
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
  const isEscape = event.key === "Escape";
  const isOff = isTyping(event.target) || choice("keys") === "off";
  if (document.querySelector("dialog[open]") || (isOff && !isEscape)) return;
  const place = performance.now() - goesAt < SEQUENCE ? PLACES[event.key] : undefined;
  goesAt = -SEQUENCE;
  if (place !== undefined ? go(place) : Object.hasOwn(KEYS, event.key) && KEYS[event.key]()) event.preventDefault();
}

function isTyping(target) {
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "button", "submit"].includes(target.type);
  return target.matches("textarea, select, [contenteditable]");
}

function focusOn(element) {
  element?.focus();
  element?.select?.();
  return Boolean(element);
}

// The rows' links take the focus one after the other: then Enter is the browser's own, and the focus is visible.
function step(direction) {
  const links = [...document.querySelectorAll("[data-row-link]")].filter((link) => link.checkVisibility());
  const row = document.activeElement.closest("[data-key]");
  const current = links.findIndex((link) => row?.contains(link));
  const next = current < 0 ? (direction > 0 ? 0 : links.length - 1) : current + direction;
  links[Math.max(0, Math.min(next, links.length - 1))]?.focus();
  return links.length > 0;
}

function select() {
  const box = document.activeElement.closest("[data-key]")?.querySelector("[data-select]");
  box?.click();
  return Boolean(box);
}

function go(path) {
  const links = [...document.querySelectorAll("nav a[href]")];
  const link = links.find((each) => new URL(each.href).pathname === path);
  link?.click();
  return Boolean(link);
}

function escape() {
  const menu = document.querySelector("details.menu[open]");
  if (menu) {
    menu.open = false;
    menu.querySelector("summary").focus();
  } else document.activeElement.blur();
  return Boolean(menu);
}

// What the script changes in the server's HTML, before it is shown or merged.
function prepare(part) {
  for (const element of part.querySelectorAll("[data-scripted]")) element.hidden = false;
  showTimes(part);
}

// --- Start -----------------------------------------------------------------------------------------------------------

function start() {
  announcer = document.createElement("div");
  announcer.className = "visually-hidden";
  announcer.setAttribute("role", "status");
  document.body.append(announcer);
  shareReader();
  if (document.body.dataset.types) startLive(document.getElementById("main"));
  applyChoices();
  showSelection();
  document.addEventListener("click", onClick);
  document.addEventListener("click", onSelectClick);
  document.addEventListener("click", onAskClick);
  document.addEventListener("submit", onAskSubmit);
  document.addEventListener("change", onChoice);
  document.addEventListener("change", onSelect);
  document.addEventListener("keydown", onKey);
  addEventListener("storage", applyChoices);
}

start();
