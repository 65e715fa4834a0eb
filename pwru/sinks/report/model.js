// What the data of the page says, as objects: packets, their steps, and what they have in common.
// data.py writes it: tables of what repeats, and columns of numbers that point into them.

const DATA = JSON.parse(byId("data").textContent);
// How packets end, as record/packets.py says it, in words.
const OUTCOMES = {
  dropped: "dropped",
  ended: "ended",
  merged: "merged",
  unseen: "stuck",
  evicted: "cut off",
  open: "end not seen",
};
const SLOW = 10; // times the median

/** Steps are numbers: places in the columns. */
const steps = {
  time: DATA.steps.time,
  cpu: DATA.steps.cpu,
  instance: DATA.steps.instance,
  func: (step) => FUNCTIONS[DATA.steps.function[step]],
  task: (step) => TASKS[DATA.steps.task[step]],
  state: (step) => STATES[DATA.steps.state[step]],
  payload: (step) => DATA.payloads[DATA.steps.payload[step]] || null,
  detail: (step) => text(DATA.steps.detail[step]),
  skb: (step) => text(DATA.steps.skb[step]),
  relation: (step) => RELATIONS.get(step) || null,
};

function text(number) {
  return number < 0 ? "" : DATA.strings[number];
}

const FUNCTIONS = DATA.functions.map(([name, caller, drops, stage]) => ({
  id: name,
  name: text(name),
  caller: text(caller),
  drops: drops === 1,
  stage: text(stage),
  strings: [name, caller, stage],
}));

const TASKS = DATA.tasks.map(([comm, pid]) => ({ comm: text(comm), pid, label: `${text(comm)}:${pid}`, strings: [comm] }));

const STATES = DATA.states.map(([netns, netnsName, ifindex, ifname, mark, mtu, length, protocol, addresses, tunnel]) => ({
  netns,
  netnsName: text(netnsName),
  namespace: text(netnsName) || (netns ? String(netns) : "no namespace"),
  ifindex,
  ifname: text(ifname),
  device: ifindex ? `${text(ifname)}:${ifindex}` : "no device",
  mark,
  mtu,
  length,
  protocol,
  tuple: text(addresses),
  tunnel: text(tunnel),
  strings: [netnsName, ifname, addresses, tunnel],
}));

const NAMESPACES = [...new Set(STATES.map((state) => state.namespace))];
const HUES = 6; // classes hue0 … of the style

function hue(namespace) {
  return `hue${NAMESPACES.indexOf(namespace) % HUES}`;
}

// What few steps have: how an skb came from another one.
const RELATIONS = new Map(
  DATA.relations.map(([step, words, parent]) => [step, { words: text(words), parent: text(parent) }]),
);

const PACKETS = DATA.packets.number.map(packetAt);

function packetAt(number, index) {
  const of = DATA.packets;
  const first = of.first[index];
  const end = index + 1 < of.first.length ? of.first[index + 1] : DATA.steps.time.length;
  const packet = {
    index,
    number,
    name: number ? `#${number}` : `skb ${text(DATA.steps.skb[first])}`,
    first,
    end,
    count: end - first,
    begin: of.begin[index],
    duration: end > first ? steps.time[end - 1] : 0,
    outcome: DATA.outcomes[of.outcome[index]],
    transmissions: of.transmissions[index],
    instances: (DATA.instances[index] || []).map(text),
    drops: [],
  };
  packet.state = shownState(packet);
  packet.task = steps.task(first);
  return packet;
}

/** Return the first state that has ports, or else addresses: a packet gets its headers one after the other. */
function shownState(packet) {
  let shown = null;
  for (let step = packet.first; step < packet.end; step++) {
    const state = steps.state(step);
    if (/[\].\d]:\d+ →/.test(state.tuple)) return state;
    if (!shown && state.tuple) shown = state;
  }
  return shown || steps.state(packet.first);
}

for (const [index, offset, reason, place] of DATA.drops) {
  const packet = PACKETS[index];
  packet.drops.push({ step: packet.first + offset, reason: text(reason), place: text(place), strings: [reason, place] });
}

function instanceName(packet, instance) {
  if (instance < 0) return `${packet.name}~`;
  return packet.instances[instance] || packet.name;
}

const MEDIAN = percentile(sortedDurations(PACKETS.filter(hasDuration)), 0.5);

for (const packet of PACKETS) {
  packet.kinds = new Set([packet.outcome]);
  if (packet.drops.length) packet.kinds.add("dropped");
  if (packet.transmissions > 1) packet.kinds.add("retransmitted");
  if (MEDIAN && packet.duration > SLOW * MEDIAN) packet.kinds.add("slow");
}

/** Return the functions of a packet one after the other, skb by skb: packets with the same went the same way. */
function wayOf(packet) {
  if (packet.way === undefined) {
    const byInstance = new Map();
    for (let step = packet.first; step < packet.end; step++) {
      const instance = steps.instance[step];
      if (!byInstance.has(instance)) byInstance.set(instance, []);
      byInstance.get(instance).push(steps.func(step));
    }
    packet.way = [...byInstance.values()].flat();
    packet.wayKey = packet.way.map((func) => func.id).join(" ");
  }
  return packet.way;
}

/** One step takes no time, as far as anybody knows. */
function hasDuration(packet) {
  return packet.count > 1;
}

function sortedDurations(packets) {
  return Float64Array.from(packets, (packet) => packet.duration).sort();
}

/** Return the value that this share of sorted values does not exceed: an exact one, of the nearest rank. */
function percentile(sorted, share) {
  return sorted.length ? sorted[Math.max(Math.ceil(share * sorted.length) - 1, 0)] : 0;
}
