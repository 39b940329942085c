// Keeps a page up to date, shows moments in the reader's own words, and takes keys. Pages work without it.

const main = document.getElementById("main");
const line = document.getElementById("live");
const policy = window.trustedTypes?.createPolicy("cerebelum", { createHTML: (markup) => markup }) ?? { createHTML: (markup) => markup };

const say = (words) => { if (line && line.textContent !== words) line.textContent = words; };

// Moments -------------------------------------------------------------------------------------------------------------

const zones = ["UTC", "local"];
let zone = localStorage.getItem("zone") === "local" ? "local" : "UTC";

function exact(time) {
  const at = new Date(time.dateTime);
  if (zone === "UTC") return time.dateTime.replace("T", " ").replace("Z", " UTC");
  const pad = (number, width = 2) => String(number).padStart(width, "0");
  const minutes = -at.getTimezoneOffset();
  const offset = `${minutes < 0 ? "-" : "+"}${pad(Math.trunc(Math.abs(minutes) / 60))}:${pad(Math.abs(minutes) % 60)}`;
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}.${pad(at.getMilliseconds(), 3)} ${offset}`;
}

// The same short form as the engine's.
function roughly(ms) {
  const [seconds, minutes, hours, days] = [ms / 1e3, ms / 6e4, ms / 36e5, ms / 864e5].map(Math.floor);
  const two = (large, unit, small, smallUnit) => (small ? `${large}${unit} ${small}${smallUnit}` : `${large}${unit}`);
  if (ms < 1000) return `${ms}ms`;
  if (ms < 10000) return `${seconds}.${Math.floor((ms % 1000) / 100)}s`;
  if (!minutes) return `${seconds}s`;
  if (!hours) return two(minutes, "m", seconds % 60, "s");
  if (!days) return two(hours, "h", minutes % 60, "m");
  return two(days, "d", hours % 24, "h");
}

function showMoments() {
  for (const time of document.querySelectorAll("time.exact")) time.textContent = exact(time);
  for (const time of document.querySelectorAll("time.ago")) {
    const ms = Date.now() - new Date(time.dateTime).getTime();
    const words = ms < 0 ? `in ${roughly(-ms)}` : `${roughly(ms)} ago`;
    if (time.textContent !== words) time.textContent = words;
    time.title = exact(time);
  }
}

// What has changed ----------------------------------------------------------------------------------------------------

const OFTEN_MS = 2000;
const OLDER_MS = 15000;
const PAUSE_MS = 100;
// A stream that says nothing for so long does not get through: the engine speaks at once.
const DEAF_MS = 5000;
// A stream that does not get through may do so later.
const RETRY_MS = 60000;
// How long an answer may take, and the longest pause after one that did not come.
const PATIENCE_MS = 30000;
const PAUSE_MAX_MS = 10000;
// A proxy may say that a page is not there while the engine restarts.
const GONE_MS = 10000;
// The engine makes a page at most a fifth of the time. What a page has not used of that for two seconds it may use at once.
const SHARE = 5;
const SAVED_MS = 2000;
let paused = false, asking = false, again = false, gone = false, ended = false, kept = false, held = false, lost = false;
let since = 0, missing = 0, used = 0, failures = 0, timer = 0;
let close = () => {};

const isIdle = () => paused || document.hidden || gone;

// Replaces the parts of the page that have changed. A part in which the reader is about to send something stays.
async function refresh() {
  if (gone) return;
  if (asking) { again = true; return; }
  asking = true;
  const began = performance.now();
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.redirected) { location.reload(); return; }
    missing = answer.status === 404 || answer.status === 403 ? missing || Date.now() : 0;
    gone = missing > 0 && Date.now() - missing >= GONE_MS;
    if (gone) { close(); say("This page is no longer there for you"); return; }
    if (missing) throw new Error("The engine does not show this page");
    if (answer.status === 429) throw new Error("The engine refuses more requests");
    if (!answer.ok) throw new Error("The engine does not answer");
    const fresh = new DOMParser().parseFromString(policy.createHTML(await answer.text()), "text/html");
    kept = held = false;
    ended ||= Boolean(main.dataset.changes) && !fresh.getElementById("main").dataset.changes;
    if (ended) close();
    const parts = [...document.querySelectorAll("[data-live]")];
    // What the page has now and had not before has no place here.
    if ([...fresh.querySelectorAll("[data-live]")].some((part) => !document.getElementById(part.id)) && !parts.some(isInUse)) { location.reload(); return; }
    for (const part of parts) replace(part, fresh.getElementById(part.id));
    showMoments();
    since = failures = 0;
    sayState();
  } catch (error) {
    since ||= Date.now();
    failures += 1;
    say(`${error.message.startsWith("The engine") ? error.message : "The engine does not answer"} since ${roughly(Date.now() - since)}; trying again`);
    again = true;
  } finally {
    const now = performance.now();
    used = Math.max(used, began - SAVED_MS) + SHARE * Math.min(now - began, PATIENCE_MS / SHARE);
    const pause = failures ? Math.min(OFTEN_MS * 2 ** (failures - 1), PAUSE_MAX_MS) : Math.max(PAUSE_MS, used - now);
    timer = setTimeout(() => { timer = 0; asking = false; if (again && !isIdle()) { again = false; refresh(); } }, pause);
  }
}

// The engine is there again: what waits for it need not wait longer.
function refreshNow() {
  if (failures && timer) { clearTimeout(timer); timer = 0; asking = false; }
  refresh();
}

// What a reader has touched, is about to press or has opened is never moved away under the hand.
function isInUse(part) {
  const focused = part.contains(document.activeElement) ? document.activeElement : null;
  return Boolean(
    part.dataset.touched || focused?.closest("form") || part.querySelector("details[open] form") ||
    (String(getSelection()) && part.contains(getSelection().anchorNode)));
}

// What a reader has scrolled stays where it is.
const SCROLLED = ".wide, pre.value";

function replace(part, fresh) {
  if (!fresh || fresh.innerHTML === part.dataset.shown) return;
  if (isInUse(part)) { kept = true; return; }
  const list = document.querySelector(AT_HAND);
  if (list && part.contains(list)) hold(part, fresh);
  // A part that grows or shrinks above the list would move it.
  else if (list && part.compareDocumentPosition(list) & Node.DOCUMENT_POSITION_FOLLOWING && height(part) !== height(fresh)) held = true;
  else swap(part, fresh);
}

function swap(part, fresh) {
  const focused = part.contains(document.activeElement) ? document.activeElement : null;
  const like = (css, of) => [...of.querySelectorAll(css)];
  const shown = fresh.innerHTML;
  for (const open of part.querySelectorAll("details[open]")) {
    const is = (one) => (open.id ? one.id === open.id : one.firstElementChild.textContent === open.firstElementChild.textContent);
    like("details", fresh).find(is)?.setAttribute("open", "");
  }
  const places = like(SCROLLED, part).map((one) => [one.scrollLeft, one.scrollTop]);
  const number = focused ? like(focused.localName, part).indexOf(focused) : -1;
  part.replaceWith(document.adoptNode(fresh));
  fresh.dataset.shown = shown;
  like(SCROLLED, fresh).forEach((one, at) => { if (places[at]) [one.scrollLeft, one.scrollTop] = places[at]; });
  const href = focused?.getAttribute("href");
  const again = href ? fresh.querySelector(`a[href="${CSS.escape(href)}"]`) : like(focused?.localName ?? "none", fresh)[number];
  again?.focus({ preventScroll: true });
}

// A list of executions at which a reader points, or in which a row has the focus: its rows stay where they are.
const AT_HAND = "[data-live]:has(.executions:hover, .executions tbody :focus-visible, .new:hover, .new :focus-visible) .executions";
const height = (part) => part.querySelectorAll("li, tr").length;
const rows = (part) => new Map([...part.querySelectorAll(".executions tbody tr")].map((row) => [row.querySelector("th a").getAttribute("href"), row]));
// The content of a cell without the words for its moments, which change by themselves.
const says = (cell) => cell.innerHTML.replace(/<time.*?datetime="(.*?)".*?<\/time>/g, "$1");

// Brings the shown rows up to date. New rows wait behind a button.
function hold(part, fresh) {
  const now = rows(fresh);
  let left = false;
  for (const [name, row] of rows(part)) {
    const next = now.get(name);
    now.delete(name);
    left = row.classList.toggle("gone", !next) || left;
    [...row.cells].forEach((cell, at) => {
      const to = next?.cells[at];
      if (to && says(to) !== says(cell)) cell.replaceChildren(...to.cloneNode(true).childNodes);
    });
  }
  // The whole part is replaced once the reader has left it.
  part.dataset.shown = "";
  held ||= left || now.size > 0;
  let place = part.querySelector(".new");
  if (!place) {
    place = made("p", part, "");
    place.className = "new";
    part.prepend(place);
    made("button", place, "");
  }
  const button = place.firstElementChild;
  place.hidden = !now.size;
  button.textContent = `${now.size} new`;
  button.onclick = () => {
    const first = document.activeElement === button;
    swap(part, fresh);
    held = false;
    showMoments();
    sayState();
    if (first) fresh.querySelector(".executions tbody a")?.focus({ preventScroll: true });
  };
}

function sayState() {
  if (gone || since) return;
  if (ended) say("Ended");
  else if (paused) say("Paused: press r to go on");
  else if (kept) say("Not updated while you fill in or select something");
  else if (held) say("Live: new rows wait until you leave the list");
  else say(lost ? "Changes are not announced here: asking every few seconds" : "Live");
}

function follow() {
  if (main.dataset.changes) {
    let stream = null, patience = 0, polling = 0, retry = 0;
    const open = () => {
      if (stream || polling || paused || gone || ended || document.hidden) return;
      stream = new EventSource(main.dataset.changes);
      patience = setTimeout(poll, DEAF_MS);
      stream.addEventListener("changed", () => { clearTimeout(patience); lost = false; refreshNow(); });
      stream.addEventListener("ended", () => { ended = true; close(); refresh(); });
      stream.addEventListener("broken", () => { close(); refresh(); setTimeout(open, OFTEN_MS); });
      stream.onerror = () => {
        say("Reconnecting");
        clearTimeout(patience);
        patience = setTimeout(poll, DEAF_MS);
        lost = true;
        if (stream?.readyState === EventSource.CLOSED) { close(); setTimeout(open, OFTEN_MS); }
        refresh();
      };
    };
    close = () => { stream?.close(); stream = null; clearTimeout(patience); clearTimeout(retry); clearInterval(polling); polling = 0; };
    const poll = () => {
      close();
      lost = true;
      polling = setInterval(() => (ended ? close() : refresh()), DEAF_MS);
      retry = setTimeout(() => { close(); open(); }, RETRY_MS);
      refresh();
    };
    // A page that is not looked at takes no connection.
    document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
    addEventListener("pagehide", close);
    toggle = () => (paused ? close() : open());
    open();
    // What has not changed grows older all the same.
    setInterval(() => { if (stream && !ended) refresh(); }, OLDER_MS);
  } else if ("often" in main.dataset) {
    sayState();
    setInterval(() => { if (!isIdle()) refresh(); }, OFTEN_MS);
  }
}

let toggle = () => {};

// Keys ----------------------------------------------------------------------------------------------------------------

// The engine may stand below a path.
const HOME = document.querySelector("a.brand")?.getAttribute("href") ?? "/";
const PLACES = { e: "executions", a: "approvals", c: "components", n: "nodes", o: "" };
const KEYS = {
  "g e": "executions", "g a": "approvals", "g c": "components", "g n": "nodes", "g o": "overview", "/": "the search field",
  "j k": "the next and the previous row; Enter opens it", f: "the next failure of a history", n: "the new rows of a list", r: "pause and go on", t: "moments in UTC or in this time zone", "?": "these keys",
};
const help = document.createElement("section");
let before = "";
// Who speaks to a machine may say letters that are no keys (WCAG 2.1.4).
let areKeys = localStorage.getItem("keys") !== "off";

function made(name, into, text) {
  const one = document.createElement(name);
  one.textContent = text;
  into.append(one);
  return one;
}

// The list of keys, behind a button among those of the reader.
function offerKeys() {
  const reader = document.querySelector("header .caller");
  if (!reader) { areKeys = false; return; }
  const button = made("button", reader, "Keys");
  button.className = "link";
  button.addEventListener("click", showKeys);
  Object.assign(help, { className: "card", hidden: true, ariaLabel: "Keys" });
  made("h2", help, "Keys");
  const list = made("dl", help, "");
  list.className = "facts";
  for (const [keys, does] of Object.entries(KEYS)) {
    const one = made("div", list, "");
    made("dt", one, does);
    made("kbd", made("dd", one, ""), keys);
  }
  const toggle = made("button", help, "");
  const word = () => { toggle.textContent = areKeys ? "Switch these keys off" : "Switch these keys on"; };
  toggle.addEventListener("click", () => { areKeys = !areKeys; localStorage.setItem("keys", areKeys ? "on" : "off"); word(); });
  word();
  main.prepend(help);
}

function showKeys() {
  help.hidden = !help.hidden;
  if (!help.hidden) help.querySelector("button").focus();
}

function key(event) {
  if (!areKeys || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  const pressed = before === "g" ? `g${event.key}` : event.key;
  before = event.key;
  if (pressed[0] === "g" && pressed[1] in PLACES) location.href = HOME + PLACES[pressed[1]];
  else if (pressed === "/") { event.preventDefault(); (document.querySelector("[data-search]") ?? { focus: () => (location.href = HOME + "executions") }).focus(); }
  else if (pressed === "j" || pressed === "k") move(pressed === "j" ? 1 : -1);
  else if (pressed === "f") nextFailure();
  else if (pressed === "n") document.querySelector(".new:not([hidden]) button")?.click();
  else if (pressed === "r" && line) { paused = !paused; sayState(); toggle(); }
  else if (pressed === "t") { zone = zones[1 - zones.indexOf(zone)]; localStorage.setItem("zone", zone); showMoments(); }
  else if (pressed === "?") showKeys();
}

function move(by) {
  const links = [...document.querySelectorAll("tbody th a")];
  const at = links.indexOf(document.activeElement);
  links[Math.max(0, Math.min(links.length - 1, at + by))]?.focus();
}

// The next failure in the window, or else a search in the events after it.
function nextFailure() {
  const links = [...document.querySelectorAll("tr.failed th a")];
  const next = links[links.indexOf(document.activeElement) + 1];
  if (next) next.focus();
  else document.querySelector("a[data-failure]")?.click();
}

// A browser lets a page copy only over TLS or on its own machine.
function offerCopies() {
  for (const command of navigator.clipboard ? document.querySelectorAll("pre.command") : []) {
    const button = document.createElement("button");
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    });
    command.after(button);
  }
}

for (const part of document.querySelectorAll("[data-live]")) part.dataset.shown = part.innerHTML;
document.addEventListener("input", (event) => event.target.closest("[data-live]")?.setAttribute("data-touched", "yes"));
document.addEventListener("keydown", key);
offerKeys();
offerCopies();
showMoments();
setInterval(showMoments, 1000);
if (line) follow();
