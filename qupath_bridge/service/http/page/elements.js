// Elements of the page. Texts are always texts: nothing from the service becomes HTML.

export function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && key !== "list") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null));
  return element;
}

// Put new content into an element, and let the keyboard stay where it was.
export function fill(element, ...content) {
  const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
  element.replaceChildren(...content.flat(Infinity).filter((child) => child != null));
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

// A table whose roles stay when a narrow window shows its rows as blocks.
export function table(caption, heads, rows, empty) {
  if (!rows.length) return make("p", { className: "quiet" }, empty);
  const head = heads.map((text) => make("th", { scope: "col", role: "columnheader" }, text));
  const body = rows.map((cells) =>
    make("tr", { role: "row" }, cells.map((cell, n) =>
      make(n ? "td" : "th", n ? { role: "cell", "data-name": heads[n] }
        : { scope: "row", role: "rowheader" }, cell))));
  return make("table", { role: "table" },
    make("caption", {}, caption),
    make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, head)),
    make("tbody", { role: "rowgroup" }, body));
}

const TONES = { failed: "bad", cancelled: "still", complete: "good", done: "good" };

export const badge = (state) =>
  make("span", { className: `badge ${TONES[state] ?? "busy"}` }, state);

export const number = (value) => value.toLocaleString("en");

// Part of something that is done: a bar, and the numbers in words.
export function progress(name, done, all) {
  const text = all ? `${number(done)} of ${number(all)}` : "not known yet";
  if (!all) return make("span", { className: "quiet" }, text);
  return make("span", { className: "progress" },
    make("progress", { max: all, value: done, "aria-label": name }), make("span", {}, text));
}

// A time as its distance from now; `tick` keeps it true.
export function since(seconds) {
  const element = make("time", {
    dateTime: new Date(seconds * 1000).toISOString(),
    title: new Date(seconds * 1000).toLocaleString(),
    "data-since": seconds,
  });
  element.textContent = age(seconds);
  return element;
}

export function tick() {
  for (const each of document.querySelectorAll("[data-since]")) {
    each.textContent = age(Number(each.dataset.since));
  }
}

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];

function age(seconds) {
  const passed = Math.max(0, Date.now() / 1000 - seconds);
  const [unit, size] = UNITS.find(([, length]) => passed >= length) ?? ["", 0];
  if (!unit) return "just now";
  const count = Math.floor(passed / size);
  return `${count} ${unit}${count === 1 ? "" : "s"} ago`;
}

// Last part of a place: what people call an output.
export const lastPart = (place) => place.replace(/\/+$/, "").split("/").pop();

export function select(id, label, names, value, change) {
  const options = names.map(([key, text]) =>
    make("option", { value: key, selected: key === value }, text));
  return make("span", { className: "field" }, make("label", { htmlFor: id }, label),
    make("select", { id, onchange: (event) => change(event.target.value) }, options));
}

export function button(id, text, press, properties = {}) {
  return make("button", { type: "button", id, onclick: press, ...properties }, text);
}

// Ways to the pages of a list; `cursors` are the beginnings of those that were seen.
export function pager(id, cursors, next, turn, words = ["Before", "Next"]) {
  if (cursors.length < 2 && next == null) return null;
  return make("nav", { className: "buttons", "aria-label": `Pages of ${id}` },
    button(`${id}-before`, words[0], () => turn(cursors.slice(0, -1)),
      { disabled: cursors.length < 2 }),
    make("span", { className: "quiet" }, `page ${cursors.length}`),
    button(`${id}-next`, words[1], () => turn([...cursors, next]), { disabled: next == null }));
}
