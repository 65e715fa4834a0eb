// Which packets are shown: the search, the outcomes and the filters. All views follow them.

const filter = {
  words: [],
  kind: "", // an outcome, "retransmitted", "slow", or all
  set: new Map(), // by title: { label, matches(packet) }
};
const listeners = [];

/** Call this with the packets that are shown, now and whenever they change. */
function onFilter(listener) {
  listeners.push(listener);
}

function applyFilter() {
  const found = PACKETS.filter((packet) => matchesAll(packet, filter.words, [...filter.set.values()]));
  const shown = filter.kind ? found.filter((packet) => packet.kinds.has(filter.kind)) : found;
  for (const listener of listeners) listener(shown, found);
}

function matchesAll(packet, words, filters) {
  return filters.every((one) => one.matches(packet)) && words.every((word) => matchesWord(packet, word));
}

/** Set or, if it is set to the same, clear a filter that a click asks for. */
function toggleFilter(title, label, matches) {
  const same = filter.set.get(title);
  if (same && same.label === label) filter.set.delete(title);
  else filter.set.set(title, { label, matches });
  applyFilter();
}

function setSearch(typed) {
  filter.words = typed.toLowerCase().split(/\s+/).filter(Boolean).map(asWord);
  applyFilter();
}

/** A word is looked for once in all strings; a packet then only needs to have one of those. */
function asWord(typed) {
  const excludes = typed.length > 1 && typed.startsWith("-");
  const word = excludes ? typed.slice(1) : typed;
  const number = /^#(\d+)/.exec(word);
  const strings = new Set();
  DATA.strings.forEach((string, id) => {
    if (string.toLowerCase().includes(word)) strings.add(id);
  });
  const has = (row) => row.strings.some((id) => strings.has(id));
  return {
    excludes,
    number: number ? Number(number[1]) : null,
    functions: FUNCTIONS.map(has),
    tasks: TASKS.map((task) => has(task) || task.label.toLowerCase().includes(word)),
    states: STATES.map((state) => has(state) || state.device.toLowerCase().includes(word) || String(state.netns) === word),
    strings,
  };
}

function matchesWord(packet, word) {
  return hasWord(packet, word) !== word.excludes;
}

function hasWord(packet, word) {
  if (word.number !== null) return packet.number === word.number;
  if (packet.drops.some((drop) => drop.strings.some((id) => word.strings.has(id)))) return true;
  const of = DATA.steps;
  for (let step = packet.first; step < packet.end; step++) {
    if (word.functions[of.function[step]] || word.states[of.state[step]] || word.tasks[of.task[step]]) return true;
    if (word.strings.has(of.skb[step])) return true;
  }
  return false;
}

/** Keep the buttons of the filter bar up to date. */
function initFilterBar() {
  const search = byId("search");
  let timer = 0;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => setSearch(search.value), 80);
  });
  onFilter((shown, found) => {
    byId("outcomes").replaceChildren(...outcomeChips(found));
    byId("filters").replaceChildren(...[...filter.set].map(([title, { label, matches }]) => {
      const chip = toggle(`${title}: ${label} ✕`, null, true, () => toggleFilter(title, label, matches));
      chip.classList.add("set");
      return chip;
    }));
    const some = shown.length < PACKETS.length ? `${counted(shown.length)} of ` : "";
    byId("count").textContent = `${some}${plural(PACKETS.length, "packet")}`;
  });
}

function outcomeChips(found) {
  const kinds = [["", "All"], ["dropped", "Dropped"], ["unseen", "Stuck"], ["retransmitted", "Retransmitted"], ["slow", "Slow"]];
  return kinds.map(([kind, label]) => {
    const count = kind ? found.filter((packet) => packet.kinds.has(kind)).length : found.length;
    const chip = toggle(label, count, filter.kind === kind, () => {
      filter.kind = filter.kind === kind ? "" : kind;
      applyFilter();
    });
    chip.dataset.kind = kind || "all";
    if (kind === "slow") chip.title = `Longer than ${SLOW} times the median, ${duration(MEDIAN)}`;
    if (kind === "unseen") chip.title = "Not seen for a while, and not ended";
    return chip;
  });
}
