// The list of packets: only the rows in view exist, however many packets there are.

const ROW = 30; // px, as in the style
const list = { shown: [], selected: null, order: "begin", descending: false, onPaper: false };
const COLUMNS = [
  ["number", "Packet", (packet) => packet.number],
  ["begin", "Time", (packet) => packet.begin],
  ["tuple", "From → to", (packet) => packet.state.tuple],
  ["task", "Process", (packet) => packet.task.label],
  ["path", "Where", null],
  ["steps", "Steps", (packet) => packet.count],
  ["duration", "Took", (packet) => packet.duration],
  ["outcome", "Outcome", (packet) => outcomeText(packet)],
];
const PRINTED = 200; // rows

function outcomeText(packet) {
  if (!packet.drops.length) return OUTCOMES[packet.outcome] || packet.outcome;
  return packet.drops[0].reason || "dropped";
}

function initList() {
  const head = element("div", "row head");
  head.setAttribute("role", "row");
  for (const [id, title, key] of COLUMNS) {
    const cell = element(key ? "button" : "span", `cell ${id}`, title);
    cell.setAttribute("role", "columnheader");
    if (key) cell.addEventListener("click", () => orderBy(id));
    head.append(cell);
  }
  const rows = element("div", "rows");
  const scroller = element("div", "scroller", rows);
  scroller.id = "list";
  scroller.tabIndex = 0;
  scroller.setAttribute("role", "grid");
  scroller.setAttribute("aria-label", "Packets; arrow keys move");
  fillPanel("packets", head, scroller);
  scroller.addEventListener("scroll", drawRows);
  new ResizeObserver(drawRows).observe(scroller);
  scroller.addEventListener("keydown", onListKey);
  list.scroller = scroller;
  list.rows = rows;
  list.head = head;
  onFilter((shown) => {
    list.shown = [...shown];
    sortList();
    scroller.scrollTop = 0;
    drawRows();
  });
}

function orderBy(id) {
  list.descending = list.order === id ? !list.descending : id === "duration" || id === "steps";
  list.order = id;
  sortList();
  list.scroller.scrollTop = 0;
  drawRows();
}

function sortList() {
  const key = COLUMNS.find(([id]) => id === list.order)[2];
  const sign = list.descending ? -1 : 1;
  const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  list.shown.sort((a, b) => sign * compare(key(a), key(b)) || a.index - b.index);
  for (const cell of list.head.children) {
    const sorted = cell.classList.contains(list.order) ? (list.descending ? "descending" : "ascending") : "none";
    cell.setAttribute("aria-sort", sorted);
  }
}

function drawRows() {
  const { scroller, rows, shown } = list;
  if (list.onPaper) return;
  rows.style.height = `${shown.length * ROW}px`;
  const first = Math.max(Math.floor(scroller.scrollTop / ROW) - 5, 0);
  const last = Math.min(first + Math.ceil(scroller.clientHeight / ROW) + 10, shown.length);
  rows.replaceChildren(...shown.slice(first, last).map((packet, at) => {
    const row = packetRow(packet);
    row.style.top = `${(first + at) * ROW}px`;
    return row;
  }));
}

/** Have all rows that a printer gets stand one below the other, or go back to those in view. */
function setOnPaper(onPaper) {
  list.onPaper = onPaper;
  drawRows();
  if (!onPaper) return;
  const more = list.shown.length - PRINTED;
  list.rows.style.height = "auto";
  list.rows.replaceChildren(...list.shown.slice(0, PRINTED).map(packetRow));
  if (more > 0) list.rows.append(element("p", "empty", `and ${counted(more)} more`));
}

function packetRow(packet) {
  const kind = packet.drops.length ? "dropped" : packet.outcome;
  const again = packet.transmissions > 1 ? element("span", "badge retransmitted", `tx ${packet.transmissions}`) : null;
  const row = element(
    "div", "row",
    element("span", "cell number", packet.name),
    element("span", "cell begin", moment(packet.begin)),
    element("span", "cell tuple", packet.state.tuple || `no addresses, protocol 0x${packet.state.protocol.toString(16).padStart(4, "0")}`, again),
    element("span", "cell task", packet.task.label),
    element("span", "cell path", pathOf(packet)),
    element("span", "cell steps", counted(packet.count)),
    element("span", packet.kinds.has("slow") ? "cell duration slow" : "cell duration", duration(packet.duration)),
    element("span", "cell outcome", element("span", `badge ${kind}`, outcomeText(packet))),
  );
  row.setAttribute("role", "row");
  row.setAttribute("aria-selected", String(packet === list.selected));
  row.addEventListener("click", () => openPacket(packet));
  return row;
}

/** Return where a packet was, as a strip: a piece for each stay on a device, as wide as its share of the steps. */
function pathOf(packet) {
  const stays = [];
  for (let step = packet.first; step < packet.end; step++) {
    const state = steps.state(step);
    const key = `${state.namespace}\n${state.device}`;
    if (stays.length && stays.at(-1).key === key) stays.at(-1).count++;
    else stays.push({ key, state, count: 1 });
  }
  const strip = shape("svg", { class: "strip", viewBox: "0 0 100 10", preserveAspectRatio: "none" });
  strip.append(shape("title", {}, stays.slice(0, 12).map((stay) => stay.state.device).join(" → ")));
  let x = 0;
  for (const { state, count } of stays) {
    const width = (count / packet.count) * 100;
    strip.append(shape("rect", { class: hue(state.namespace), x, y: 2, width: Math.max(width - 0.8, 0.6), height: 6 }));
    x += width;
  }
  if (packet.drops.length) strip.append(shape("rect", { class: "dropmark", x: 97, y: 0, width: 3, height: 10 }));
  return strip;
}

function onListKey(event) {
  const page = Math.floor(list.scroller.clientHeight / ROW);
  const moves = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  if (!(event.key in moves) || event.ctrlKey || event.metaKey || !list.shown.length) return;
  event.preventDefault();
  const at = list.shown.indexOf(list.selected);
  const next = Math.min(Math.max(at + moves[event.key], 0), list.shown.length - 1);
  openPacket(list.shown[next]);
}

/** Mark a packet in the list, and bring its row into view. */
function selectRow(packet) {
  list.selected = packet;
  const at = list.shown.indexOf(packet);
  const { scroller } = list;
  if (at >= 0 && (at * ROW < scroller.scrollTop || (at + 1) * ROW > scroller.scrollTop + scroller.clientHeight)) {
    scroller.scrollTop = Math.max(at * ROW - scroller.clientHeight / 3, 0);
  }
  drawRows();
}
