// Elements and text: everything that is shown goes through here, as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** Return the element that the page has under this id. */
function byId(id) {
  return document.getElementById(id);
}

/** Return a new element; children are elements, text, or null for nothing. */
function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  append(made, children);
  return made;
}

/** Return a new element of SVG with these attributes. */
function shape(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  append(made, children);
  return made;
}

function append(parent, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === "") continue;
    parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Return a button that is pressed or not. */
function toggle(label, count, pressed, onClick) {
  const button = element("button", "chip", element("span", "", label));
  if (count !== null) button.append(element("span", "number", counted(count)));
  button.type = "button";
  button.setAttribute("aria-pressed", String(pressed));
  button.addEventListener("click", onClick);
  return button;
}

/** Make an element work as a button: by click, Enter and space. */
function onPress(target, action) {
  target.tabIndex = 0;
  target.addEventListener("click", (event) => {
    if (!String(window.getSelection())) action(event);
  });
  target.addEventListener("keydown", (event) => {
    if (event.target === target && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      action(event);
    }
  });
}

/** Call this whenever the width of an element changes. */
function onWidth(target, redraw) {
  let width = target.clientWidth;
  new ResizeObserver(() => {
    if (target.clientWidth === width) return;
    width = target.clientWidth;
    redraw();
  }).observe(target);
}

/** Return a table whose columns are [title, class of its cells]. */
function table(className, columns, rows) {
  const head = columns.map(([title, kind]) => {
    const cell = element("th", kind, title);
    cell.scope = "col";
    return cell;
  });
  return element("table", className, element("thead", "", element("tr", "", ...head)), element("tbody", "", ...rows));
}

/** Return a bar that is filled by this share, 0 to 1. */
function shareBar(share) {
  const width = Math.max(share * 100, share > 0 ? 1 : 0);
  return shape(
    "svg",
    { class: "share", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
    shape("rect", { class: "track", width: 100, height: 6 }),
    shape("rect", { class: "fill", width, height: 6 }),
  );
}

function counted(number) {
  return number.toLocaleString("en").replaceAll(",", "\u2009");
}

function plural(count, what) {
  return `${counted(count)} ${what}${count === 1 ? "" : "s"}`;
}

/** Return a time in ns with three significant digits and its unit. */
function duration(ns) {
  const size = Math.abs(ns);
  if (size < 1000) return `${Math.round(ns)} ns`;
  for (const [unit, length] of [["µs", 1e3], ["ms", 1e6], ["s", 1e9]]) {
    const value = ns / length;
    if (Math.abs(value) < 999.5 || unit === "s") return `${digits(value)} ${unit}`;
  }
  return "";
}

function digits(value) {
  const size = Math.abs(value);
  if (size >= 99.95) return value.toFixed(0);
  return size >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}

/** Return what writes times of this scale, in ns, in one unit and with so many digits that they stand in line. */
function inLine(scale, distance) {
  const [unit, length] = [["s", 1e9], ["ms", 1e6], ["µs", 1e3]].find(([, size]) => scale >= size) || ["ns", 1];
  const decimals = Math.max(Math.round(Math.log10(length)) - Math.floor(Math.log10(distance) + 1e-9), 0);
  return (ns) => `${(ns / length).toFixed(decimals)} ${unit}`;
}

/** Return a time since the beginning of the trace, in s with six digits: rows of it stand in line. */
function moment(ns) {
  return (ns / 1e9).toFixed(6);
}

/** Return the time of day in the zone where it was traced. */
function clock(milliseconds, zone) {
  const text = new Date(milliseconds + zone * 60000).toISOString();
  const sign = zone < 0 ? "-" : "+";
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  return `${text.slice(0, 10)} ${text.slice(11, 23)} ${sign}${two(Math.abs(zone) / 60)}:${two(Math.abs(zone) % 60)}`;
}
