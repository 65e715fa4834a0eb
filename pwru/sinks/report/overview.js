// What many packets have in common: drops, ways, and how long they took.

const FEW = 8; // rows of a table, until all are asked for
const expanded = new Set(); // the tables that show all

/** Return the first rows, with a button for the others. */
function limited(id, rows, redraw) {
  if (rows.length <= FEW + 1 || expanded.has(id)) return { rows, more: null };
  const more = element("button", "more", `Show all ${counted(rows.length)}`);
  more.type = "button";
  more.addEventListener("click", () => {
    expanded.add(id);
    redraw();
  });
  return { rows: rows.slice(0, FEW), more };
}

function fillPanel(id, ...children) {
  document.querySelector(`#${id} .body`).replaceChildren(...children.filter(Boolean));
}

/** Group values by a key; returns the groups, largest first. */
function grouped(values, keyOf) {
  const groups = new Map();
  for (const value of values) {
    const key = keyOf(value);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(value);
  }
  return [...groups].map(([key, members]) => ({ key, members })).sort((a, b) => b.members.length - a.members.length);
}

function dropParts(drop) {
  return { ...drop, func: steps.func(drop.step), state: steps.state(drop.step), task: steps.task(drop.step) };
}

function dropKey(drop) {
  const { reason, place, func, state, task } = dropParts(drop);
  return [reason || func.name, place, state.device, state.namespace, task.comm].join("\n");
}

function drawDrops(shown) {
  const drops = shown.flatMap((packet) => packet.drops);
  if (!drops.length) {
    fillPanel("drops", element("p", "empty", shown.length ? "None of these packets was dropped." : "No packets."));
    return;
  }
  const groups = grouped(drops, dropKey);
  const { rows, more } = limited("drops", groups, () => drawDrops(shown));
  const columns = [["Count", "number"], ["Reason", ""], ["In", ""], ["Device", ""], ["Namespace", ""], ["Process", ""]];
  fillPanel("drops", table("lines", columns, rows.map(({ key, members }) => dropRow(key, members, drops.length))), more);
}

function dropRow(key, members, total) {
  const { reason, place, func, state, task } = dropParts(members[0]);
  const row = element(
    "tr", "press",
    element("td", "number", counted(members.length), shareBar(members.length / total)),
    element("td", "reason", reason || func.name),
    element("td", "mono", place),
    element("td", "mono", state.device),
    element("td", "", namespaceLabel(state)),
    element("td", "mono", task.comm),
  );
  onPress(row, () => toggleFilter("Drop", reason || func.name, (packet) => packet.drops.some((drop) => dropKey(drop) === key)));
  return row;
}

function namespaceLabel(state) {
  return element("span", `namespace ${hue(state.namespace)}`, state.namespace);
}

function drawWays(shown) {
  const groups = grouped(shown, (packet) => (wayOf(packet), packet.wayKey));
  if (!groups.length) {
    fillPanel("ways", element("p", "empty", "No packets."));
    return;
  }
  const ways = commonness(groups);
  const { rows, more } = limited("ways", groups, () => drawWays(shown));
  const columns = [
    ["Packets", "number"], ["p50", "number"], ["p99", "number"], ["max", "number"], ["Steps", "number"],
    ["From the first function to the last", "wide"], ["Example", ""],
  ];
  fillPanel("ways", table("lines", columns, rows.map((group) => wayRow(group, shown.length, ways))), more);
}

function wayRow({ key, members }, total, ways) {
  const times = sortedDurations(members);
  const way = wayOf(members[0]);
  const example = element("button", "link", members[0].name);
  example.type = "button";
  example.addEventListener("click", (event) => {
    event.stopPropagation();
    openPacket(members[0]);
  });
  const row = element(
    "tr", "press",
    element("td", "number", counted(members.length), shareBar(members.length / total)),
    ...[0.5, 0.99, 1].map((share) => element("td", "number", duration(percentile(times, share)))),
    element("td", "number", counted(way.length)),
    element("td", "wide", shortWay(way, ways)),
    element("td", "", example),
  );
  onPress(row, () => toggleFilter("Way", `${way[0].name} … ${way.at(-1).name}`, (packet) => (wayOf(packet), packet.wayKey === key)));
  return row;
}

const LANDMARKS = 6; // functions of a way that are shown
// What follows the end of an skb, whatever its way was.
const RELEASE = /^(skb_release_|kfree_skb|__kfree_skb|consume_skb|__consume_|skb_free_|napi_skb_|skb_attempt_)/;

/** Return a way in one line: where it begins, what tells it from other ways, where it ends. */
function shortWay(way, ways) {
  const runs = way.filter((func, at) => !at || func.id !== way[at - 1].id);
  let end = runs.length;
  while (end > 2 && !runs[end - 1].drops && RELEASE.test(runs[end - 1].name)) end--;
  const shown = new Set([0, end - 1]);
  const rare = runs.map((func, at) => ({ at, common: func.drops ? 0 : ways.get(func.id) })).slice(1, end - 1);
  rare.sort((a, b) => a.common - b.common || b.at - a.at);
  for (const { at } of rare.slice(0, LANDMARKS - 2)) shown.add(at);
  const made = element("span", "way");
  let before = -1;
  for (const at of [...shown].sort((a, b) => a - b)) {
    if (at - before > 1) made.append(element("span", "skipped", `${at - before - 1} more`), arrow());
    made.append(element("span", runs[at].drops ? "func drop" : "func", runs[at].name.replace("(SKB_DROP_REASON_", "(")));
    if (at < end - 1) made.append(arrow());
    before = at;
  }
  return made;
}

function arrow() {
  return element("span", "arrow", "→");
}

/** Return in how many ways each function is, by its number. */
function commonness(groups) {
  const counts = new Map();
  for (const { members } of groups) {
    for (const id of new Set(wayOf(members[0]).map((func) => func.id))) counts.set(id, (counts.get(id) || 0) + 1);
  }
  return counts;
}

// The histogram has a bar for each third of a power of ten.
const BINS = 3;
const CHART = { height: 132, left: 14, right: 14, top: 18, bottom: 20 };

function binOf(ns) {
  return Math.floor(Math.log10(Math.max(ns, 1)) * BINS + 1e-9);
}

function drawLatency(all) {
  const shown = all.filter(hasDuration);
  const few = all.length - shown.length;
  const note = few ? element("p", "empty", `Without ${plural(few, "packet")} of one step.`) : null;
  if (!shown.length) {
    fillPanel("latency", note || element("p", "empty", "No packets."));
    return;
  }
  const bins = grouped(shown, (packet) => binOf(packet.duration)).sort((a, b) => a.key - b.key);
  const sorted = sortedDurations(shown);
  const figures = [["p50", 0.5], ["p90", 0.9], ["p99", 0.99], ["max", 1]].map(([label, share]) =>
    element("div", "", element("dt", "", label), element("dd", "", duration(percentile(sorted, share)))),
  );
  fillPanel("latency", histogram(bins), element("dl", "figures", ...figures), note);
}

function histogram(bins) {
  const low = Math.floor(bins[0].key / BINS) * BINS;
  const high = Math.max(Math.ceil((bins.at(-1).key + 1) / BINS), low / BINS + 2) * BINS;
  const { height, left, right, top, bottom } = CHART;
  const width = Math.max(document.querySelector("#latency .body").clientWidth, 300);
  const step = (width - left - right) / (high - low);
  const most = Math.max(...bins.map((bin) => bin.members.length));
  const chart = shape("svg", { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
  chart.append(shape("title", {}, "How many packets took how long"));
  for (let bin = low; bin <= high; bin += BINS) {
    const x = left + (bin - low) * step;
    const anchor = bin === low ? "start" : bin === high ? "end" : "middle";
    chart.append(
      shape("line", { class: "grid", x1: x, x2: x, y1: top, y2: height - bottom }),
      shape("text", { x, y: height - 6, "text-anchor": anchor }, duration(10 ** (bin / BINS)).replace(/\.0+ /, " ")),
    );
  }
  for (const { key, members } of bins) {
    const tall = Math.max((members.length / most) * (height - top - bottom), 1.5);
    const x = left + (key - low) * step;
    const bar = shape(
      "g", { class: "bar-of", role: "button", "aria-label": `${plural(members.length, "packet")}, ${binLabel(key)}` },
      shape("rect", { class: "hit", x, y: top, width: step, height: height - top - bottom }),
      shape("rect", { class: "column", x: x + 1, y: height - bottom - tall, width: Math.max(step - 2, 1), height: tall, rx: 1.5 }),
      shape("text", { x: x + step / 2, y: height - bottom - tall - 4, "text-anchor": "middle" }, counted(members.length)),
    );
    onPress(bar, () => toggleFilter("Time", binLabel(key), (packet) => binOf(packet.duration) === key));
    chart.append(bar);
  }
  chart.append(shape("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
  return chart;
}

function binLabel(key) {
  return `${duration(10 ** (key / BINS))} – ${duration(10 ** ((key + 1) / BINS))}`;
}

function initOverview() {
  let last = [];
  onFilter(drawDrops);
  onFilter(drawWays);
  onFilter((shown) => {
    last = shown;
    drawLatency(shown);
  });
  onWidth(byId("latency"), () => drawLatency(last));
}
