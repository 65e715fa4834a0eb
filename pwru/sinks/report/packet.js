// One packet: what became of it, its time line, and each of its steps with all that was recorded.

const STEPS_SHOWN = 400; // rows at once
const WIDE = 7; // columns
const view = { packet: null, byStep: false, shown: STEPS_SHOWN, line: null, rows: new Map(), select: null };

function openPacket(packet) {
  if (view.packet !== packet) view.shown = STEPS_SHOWN;
  view.packet = packet;
  if (packet.number) history.replaceState(null, "", `#${packet.number}`);
  selectRow(packet);
  drawPacket();
}

function drawPacket() {
  const { packet } = view;
  const panel = byId("packet");
  if (!packet) {
    panel.replaceChildren(element("p", "empty", "Choose a packet to see its way."));
    return;
  }
  const line = element("div", "line");
  panel.replaceChildren(heading(packet), line, stepTable(packet));
  view.line = line;
  drawTimeline();
}

function drawTimeline() {
  const { packet, line } = view;
  if (!packet || !line) return;
  const width = Math.max(Math.floor(line.clientWidth) - 28, 480); // without the padding
  const { svg, select } = timeline(packet, width, view.byStep, openStep);
  view.select = select;
  line.replaceChildren(svg);
}

function heading(packet) {
  const kind = packet.drops.length ? "dropped" : packet.outcome;
  const scales = [["Time", false], ["Steps", true]].map(([label, byStep]) =>
    toggle(label, null, view.byStep === byStep, () => {
      view.byStep = byStep;
      drawPacket();
    }),
  );
  const title = element("h2", "", element("span", "id", packet.name), element("span", "mono", packet.state.tuple));
  const drop = packet.drops[0];
  const facts = [
    element("span", `badge ${kind}`, outcomeText(packet)),
    drop && drop.place ? element("span", "", "in ", element("code", "", drop.place)) : null,
    element("span", "", duration(packet.duration)),
    element("span", "", plural(packet.count, "step")),
    packet.instances.length > 1 ? element("span", "", plural(packet.instances.length, "skb")) : null,
    packet.transmissions > 1 ? element("span", "badge retransmitted", `sent ${packet.transmissions} times`) : null,
    element("span", "", clock(DATA.run.began + packet.begin / 1e6, DATA.run.zone)),
  ];
  return element("div", "heading", title, element("div", "facts", ...facts), element("div", "scale", ...scales));
}

function stepTable(packet) {
  const shown = Math.min(packet.count, view.shown);
  const widest = longestPause(packet);
  const body = element("tbody", "");
  view.rows = new Map();
  const before = new Map(); // the last step of each skb
  const time = inLine(packet.duration, packet.duration < 1e6 ? 10 : 1000);
  let where = "";
  let stage = "";
  for (let step = packet.first; step < packet.first + shown; step++) {
    const state = steps.state(step);
    const here = `${state.namespace}\n${state.device}`;
    if (here !== where) body.append(placeRow(state));
    where = here;
    const reached = steps.func(step).stage;
    const next = reached && reached !== stage ? reached : "";
    stage = next || stage;
    const row = stepRow(packet, step, before.get(steps.instance[step]), { widest, time, stage: next });
    before.set(steps.instance[step], step);
    view.rows.set(step, row);
    body.append(row);
  }
  const columns = [["Time", "number"], ["Since", "number"], ["skb", ""], ["CPU", "number"], ["Process", ""], ["Stage", ""], ["Function", "wide"]];
  const made = table("steps", columns, []);
  made.tBodies[0].replaceWith(body);
  const wrapped = element("div", "steps-of", made);
  if (shown < packet.count) {
    const more = element("button", "more", `Show more of ${plural(packet.count, "step")}`);
    more.addEventListener("click", () => {
      view.shown *= 4;
      drawPacket();
    });
    wrapped.append(more);
  }
  return wrapped;
}

function longestPause(packet) {
  let longest = 1;
  for (let step = packet.first + 1; step < packet.end; step++) {
    longest = Math.max(longest, steps.time[step] - steps.time[step - 1]);
  }
  return longest;
}

function placeRow(state) {
  const cell = element("td", "", element("span", `square ${hue(state.namespace)}`), element("b", "", state.device), namespaceLabel(state));
  cell.colSpan = WIDE;
  return element("tr", "place", cell);
}

function stepRow(packet, step, before, { widest, time, stage }) {
  const func = steps.func(step);
  const since = step > packet.first ? steps.time[step] - steps.time[step - 1] : 0;
  const instance = steps.instance[step];
  const drop = packet.drops.find((one) => one.step === step);
  const relation = steps.relation(step);
  const notes = changes(step, before).map((change) => element("span", "change", change));
  if (relation) notes.unshift(element("span", "change relation", `${relation.words} ${relation.parent}`));
  const row = element(
    "tr", `press${drop ? " drop" : ""}`,
    element("td", "number time", time(steps.time[step])),
    element("td", "number since", step > packet.first ? duration(since) : "", since > widest / 50 ? shareBar(since / widest) : null),
    element("td", "mono", element("span", `dot skb${skbClass(instance)}`), instanceName(packet, instance)),
    element("td", "number", steps.cpu[step]),
    element("td", "mono process", steps.task(step).label),
    element("td", "stage", stage),
    element("td", "mono wide", element("span", func.drops ? "func drop" : "func", func.name), ...notes),
  );
  row.setAttribute("aria-expanded", "false");
  onPress(row, () => toggleDetails(packet, step, before));
  return row;
}

/** Return what this step has that the one before, of the same skb, had not. */
function changes(step, before) {
  if (before === undefined) return [];
  const [was, is] = [steps.state(before), steps.state(step)];
  if (was === is) return [];
  const found = [];
  if (was.tuple !== is.tuple && is.tuple && was.tuple) found.push(is.tuple);
  if (was.mark !== is.mark) found.push(`mark ${hex(was.mark)} → ${hex(is.mark)}`);
  if (was.length !== is.length) found.push(`${was.length} → ${is.length} bytes`);
  if (was.tunnel !== is.tunnel && is.tunnel) found.push(`carries ${is.tunnel}`);
  return found;
}

function hex(number, width = 0) {
  return `0x${number.toString(16).padStart(width, "0")}`;
}

/** Show a step's details, and bring it into view. */
function openStep(step) {
  if (!view.rows.has(step)) {
    view.shown = view.packet.count;
    drawPacket();
  }
  const row = view.rows.get(step);
  if (row.getAttribute("aria-expanded") === "false") row.click();
  row.scrollIntoView({ block: "nearest" });
}

function toggleDetails(packet, step, before) {
  const row = view.rows.get(step);
  const isOpen = row.getAttribute("aria-expanded") === "true";
  row.setAttribute("aria-expanded", String(!isOpen));
  if (isOpen) {
    row.nextElementSibling.remove();
    return;
  }
  const cell = element("td", "", details(packet, step, before));
  cell.colSpan = WIDE;
  row.after(element("tr", "details", cell));
  if (view.select) view.select(step);
}

function details(packet, step, before) {
  const func = steps.func(step);
  const state = steps.state(step);
  const relation = steps.relation(step);
  const facts = [
    ["Function", func.name],
    ["Called by", func.caller],
    ["When", `${clock(DATA.run.began + (packet.begin + steps.time[step]) / 1e6, DATA.run.zone)}, ${moment(packet.begin + steps.time[step])} s`],
    ["Process", `${steps.task(step).label} on CPU ${steps.cpu[step]}`],
    ["Device", `${state.device}, MTU ${state.mtu}`],
    ["Namespace", state.netnsName ? `${state.netnsName} (${state.netns})` : state.netns],
    ["Addresses", state.tuple],
    ["Carries", state.tunnel],
    ["skb", `${instanceName(packet, steps.instance[step])} at ${steps.skb(step)}`],
    ["Relation", relation && `${relation.words} ${relation.parent}`],
    ["Length", `${state.length} bytes, protocol ${hex(state.protocol, 4)}, mark ${hex(state.mark)}`],
  ].filter(([, value]) => value);
  const shown = facts.flatMap(([name, value]) => [element("dt", "", name), element("dd", "", value)]);
  const payload = steps.payload(step);
  const made = element("div", "detail", element("dl", "", ...shown));
  if (payload) made.append(hexDump(payload, before === undefined ? null : steps.payload(before)));
  if (steps.detail(step)) made.append(element("pre", "", steps.detail(step)));
  return made;
}

/** Return the bytes of a packet, those marked that the step before had otherwise. */
function hexDump([base64, length, hasMac], before) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const comparable = before && before[1] === length && before[2] === hasMac;
  const old = comparable ? Uint8Array.from(atob(before[0]), (letter) => letter.charCodeAt(0)) : bytes;
  const from = hasMac ? "MAC" : "network";
  const dump = element("pre", "hex", element("span", "muted", `${bytes.length} of ${length} bytes, from the ${from} header on\n`));
  for (let at = 0; at < bytes.length; at += 16) {
    const row = bytes.slice(at, at + 16);
    dump.append(element("span", "muted", at.toString(16).padStart(4, "0")), "  ");
    row.forEach((byte, column) => {
      const changed = old[at + column] !== byte;
      dump.append(changed ? element("mark", "", byte.toString(16).padStart(2, "0")) : byte.toString(16).padStart(2, "0"), column === 7 ? "  " : " ");
    });
    const letters = Array.from(row, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "."));
    dump.append(`${"   ".repeat(16 - row.length)}${row.length < 8 ? " " : ""} `, element("span", "letters", letters.join("")), "\n");
  }
  return dump;
}

function initPacket() {
  onWidth(byId("packet"), drawTimeline);
  drawPacket();
}
