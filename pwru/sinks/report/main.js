// The start: what the page says about the run, keys, colours, the printer.

function drawRun() {
  const { run } = DATA;
  document.title = `pwru: ${run.command}`;
  byId("command").textContent = run.command;
  const facts = [
    ["Kernel", run.kernel],
    ["pwru", [run.version, run.backend].filter(Boolean).join(", ")],
    ["Read by", run.read],
    ["Began", run.began ? clock(run.began, run.zone) : ""],
    ["Lasted", run.began ? duration(run.length) : ""],
    ["Account", run.account],
  ].filter(([, value]) => value);
  byId("facts").replaceChildren(...facts.map(([name, value]) => element("div", "", element("dt", "", name), element("dd", "", value))));
  byId("notice").textContent = run.notice;
  byId("notice").hidden = !run.notice;
}

function initTheme() {
  const root = document.documentElement;
  const prefers = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefers.matches);
  const label = () => {
    byId("theme").textContent = isDark() ? "Light" : "Dark";
  };
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  prefers.addEventListener("change", label);
  label();
}

function initPrint() {
  byId("print").addEventListener("click", () => window.print());
  window.addEventListener("beforeprint", () => setOnPaper(true));
  window.addEventListener("afterprint", () => setOnPaper(false));
}

function initKeys() {
  document.addEventListener("keydown", (event) => {
    const typing = event.target === byId("search");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      byId("search").focus();
    } else if (event.key === "Escape" && typing) {
      byId("search").value = "";
      setSearch("");
      list.scroller.focus();
    }
  });
}

/** Open the packet that the address names, or the first one that went wrong. */
function openFirst() {
  const number = Number(location.hash.slice(1));
  const wrong = PACKETS.find((packet) => packet.drops.length || packet.kinds.has("unseen"));
  const first = PACKETS.find((packet) => number && packet.number === number) || wrong || PACKETS[0];
  if (first) openPacket(first);
}

drawRun();
initTheme();
initFilterBar();
initOverview();
initList();
initPacket();
initPrint();
initKeys();
applyFilter();
openFirst();
document.documentElement.dataset.ready = "true";
