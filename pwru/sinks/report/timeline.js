// The time line of one packet: a lane for each namespace, device and CPU, and a line for each of its skbs.

const LANES = { label: 178, right: 16, head: 20, lane: 22, axis: 26, gap: 46 };

/** Return { svg, select(step) }; `onStep` is called with a step that was clicked. */
function timeline(packet, width, byStep, onStep) {
  const lanes = lanesOf(packet);
  const scale = byStep ? stepScale(packet, width) : timeScale(packet, width);
  const height = place(lanes) + LANES.axis;
  const svg = shape("svg", { class: "timeline", width, height, viewBox: `0 0 ${width} ${height}`, role: "img" });
  svg.append(shape("title", {}, `The way of ${packet.name} in time`));
  drawLanes(svg, lanes, width, height);
  drawAxis(svg, scale, height, width);
  const points = [];
  for (let step = packet.first; step < packet.end; step++) {
    points.push({ step, x: scale.at(step), y: lanes.get(laneKey(step)).y + LANES.lane / 2 });
  }
  drawThreads(svg, packet, points);
  svg.append(...points.map((point) => mark(packet, point)).sort((a, b) => a.classList.contains("drop") - b.classList.contains("drop")));
  const ring = shape("circle", { class: "ring", r: 6, cx: -20, cy: -20 });
  svg.append(ring);
  const select = (step) => {
    const point = points[step - packet.first];
    ring.setAttribute("cx", point.x);
    ring.setAttribute("cy", point.y);
  };
  followPointer(svg, packet, points, onStep);
  return { svg, select };
}

function laneKey(step) {
  const state = steps.state(step);
  return `${state.namespace}\n${state.device}\n${steps.cpu[step]}`;
}

/** Return the lanes by key, those of a namespace together, each in the order in which the packet came there. */
function lanesOf(packet) {
  const found = new Map();
  for (let step = packet.first; step < packet.end; step++) {
    const key = laneKey(step);
    if (!found.has(key)) found.set(key, { state: steps.state(step), cpu: steps.cpu[step], y: 0 });
  }
  const order = [...new Set([...found.values()].map((lane) => lane.state.namespace))];
  return new Map([...found].sort(([, a], [, b]) => order.indexOf(a.state.namespace) - order.indexOf(b.state.namespace)));
}

/** Give lanes their places, below a heading for each namespace; return where they end. */
function place(lanes) {
  let y = 4;
  let namespace = null;
  for (const lane of lanes.values()) {
    lane.heads = lane.state.namespace !== namespace;
    namespace = lane.state.namespace;
    if (lane.heads) y += LANES.head;
    lane.y = y;
    y += LANES.lane;
  }
  return y + 4;
}

function drawLanes(svg, lanes, width, height) {
  for (const { state, cpu, y, heads } of lanes.values()) {
    if (heads) svg.append(shape("text", { class: "netns", x: 12, y: y - 6 }, clipped(state.namespace, 40)));
    svg.append(
      shape("rect", { class: "lane", x: LANES.label, y: y + 1, width: width - LANES.label, height: LANES.lane - 2 }),
      shape("rect", { class: `edge ${hue(state.namespace)}`, x: 0, y: y + 1, width: 3, height: LANES.lane - 2 }),
      shape("text", { class: "device", x: 12, y: y + 15 }, clipped(state.device, 17)),
      shape("text", { class: "cpu", x: LANES.label - 8, y: y + 15, "text-anchor": "end" }, `CPU ${cpu}`),
    );
  }
  svg.append(shape("line", { class: "axis", x1: LANES.label, x2: width, y1: height - LANES.axis, y2: height - LANES.axis }));
}

function clipped(label, most) {
  return label.length <= most ? label : `…${label.slice(1 - most)}`;
}

/** Steps at equal distances. */
function stepScale(packet, width) {
  const room = width - LANES.label - LANES.right - 8;
  const each = room / Math.max(packet.count - 1, 1);
  const at = (step) => LANES.label + 8 + (step - packet.first) * each;
  const ticks = [];
  const every = Math.max(Math.ceil(90 / each), 1);
  for (let step = packet.first; step < packet.end; step += every) {
    ticks.push({ x: at(step), label: duration(steps.time[step]) });
  }
  return { at, ticks, gaps: [] };
}

/** Steps in time. A pause that would leave no room for the rest is drawn as a gap, with its length. */
function timeScale(packet, width) {
  const pauses = [];
  for (let step = packet.first + 1; step < packet.end; step++) pauses.push(steps.time[step] - steps.time[step - 1]);
  const long = longPauses(pauses);
  const busy = pauses.reduce((sum, pause, at) => sum + (long.has(at) ? 0 : pause), 0) || 1;
  const room = width - LANES.label - LANES.right - 8 - long.size * LANES.gap;
  const perNs = room / busy;
  const xs = [LANES.label + 8];
  const gaps = [];
  pauses.forEach((pause, at) => {
    const x = xs.at(-1);
    if (long.has(at)) gaps.push({ x, label: duration(pause) });
    xs.push(x + (long.has(at) ? LANES.gap : pause * perNs));
  });
  return { at: (step) => xs[step - packet.first], ticks: timeTicks(packet, xs, long, perNs), gaps };
}

/** Return which pauses (their numbers) are much longer than all shorter ones together: four at most. */
function longPauses(pauses) {
  const order = pauses.map((pause, at) => ({ pause, at })).sort((a, b) => a.pause - b.pause);
  const long = new Set();
  let shorter = 0;
  for (const { pause, at } of order) {
    if (long.size || (pause > 8 * shorter && shorter > 0 && pauses.length > 3)) long.add(at);
    shorter += pause;
  }
  return long.size <= 4 ? long : new Set(order.slice(-4).map(({ at }) => at));
}

/** Return ticks at round times of each piece between gaps, counted from the packet's first step. */
function timeTicks(packet, xs, long, perNs) {
  const ticks = [];
  const distance = roundUp(90 / perNs);
  const label = inLine(packet.duration, distance);
  let begin = 0;
  for (let at = 0; at <= xs.length - 1; at++) {
    if (at < xs.length - 1 && !long.has(at)) continue;
    const from = steps.time[packet.first + begin];
    const to = steps.time[packet.first + at];
    for (let time = Math.ceil(from / distance) * distance; time <= to; time += distance) {
      ticks.push({ x: xs[begin] + (time - from) * perNs, label: time ? label(time) : "0" });
    }
    begin = at + 1;
  }
  return ticks.filter((tick, at) => !at || tick.x - ticks[at - 1].x > 70);
}

/** Return 1, 2 or 5 times a power of ten that is not smaller. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((round) => round >= value) || 10 * power;
}

function drawAxis(svg, { ticks, gaps }, height, width) {
  const bottom = height - LANES.axis;
  for (const { x, label } of ticks) {
    const anchor = x > width - 50 ? "end" : x < LANES.label + 20 ? "start" : "middle";
    svg.append(
      shape("line", { class: "grid", x1: x, x2: x, y1: 4, y2: bottom }),
      shape("text", { class: "tick", x, y: bottom + 16, "text-anchor": anchor }, label),
    );
  }
  for (const { x, label } of gaps) {
    const middle = x + LANES.gap / 2;
    svg.append(
      shape("rect", { class: "pause", x: x + 8, y: 4, width: LANES.gap - 16, height: bottom - 4 }),
      shape("text", { class: "pause-label", x: middle, y: bottom / 2 + 4, "text-anchor": "middle", transform: `rotate(-90 ${middle} ${bottom / 2})` }, label),
    );
  }
}

/** Draw a line through the steps of each skb, and from where it came from to its first one. */
function drawThreads(svg, packet, points) {
  const lines = new Map();
  for (const point of points) {
    const instance = steps.instance[point.step];
    if (!lines.has(instance)) {
      const before = lines.size ? points[Math.max(point.step - packet.first - 1, 0)] : point;
      lines.set(instance, [before]);
    }
    lines.get(instance).push(point);
  }
  for (const [instance, line] of lines) {
    const path = line.map(({ x, y }, at) => `${at ? "L" : "M"}${x.toFixed(1)} ${y}`).join("");
    svg.append(shape("path", { class: `thread skb${skbClass(instance)}`, d: path }));
  }
}

function skbClass(instance) {
  return instance < 0 ? "other" : instance % 5;
}

function mark(packet, { step, x, y }) {
  if (packet.drops.some((drop) => drop.step === step)) {
    return shape("path", { class: "mark drop", d: `M${x - 4} ${y - 4}l8 8m0 -8l-8 8` });
  }
  if (steps.relation(step)) return shape("path", { class: `mark relation skb${skbClass(steps.instance[step])}`, d: `M${x} ${y - 5}l5 5l-5 5l-5 -5z` });
  return shape("rect", { class: `mark skb${skbClass(steps.instance[step])}`, x: x - 1, y: y - 5, width: 2, height: 10 });
}

function followPointer(svg, packet, points, onStep) {
  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    let best = null;
    let least = 30 ** 2;
    for (const point of points) {
      const far = (point.x - x) ** 2 + (point.y - y) ** 2;
      if (far <= least) [best, least] = [point, far];
    }
    return best;
  };
  svg.addEventListener("pointermove", (event) => {
    const point = nearest(event);
    showTip(point && tipText(packet, point.step), event);
  });
  svg.addEventListener("pointerleave", () => showTip(null));
  svg.addEventListener("click", (event) => {
    const point = nearest(event);
    if (point) onStep(point.step);
  });
}

function tipText(packet, step) {
  return `${steps.func(step).name}\n+${duration(steps.time[step])} · ${instanceName(packet, steps.instance[step])} · CPU ${steps.cpu[step]} · ${steps.task(step).label}`;
}

function showTip(words, event) {
  const tip = byId("tip");
  tip.hidden = !words;
  if (!words) return;
  tip.textContent = words;
  tip.style.left = `${Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${event.clientY + 16}px`;
}
