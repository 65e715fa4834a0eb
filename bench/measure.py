"""What is measured, and how: runs as root in a guest, `python3 -m bench.measure WHICH PACKETS [RUNS]`.

A measurement is a function of a tool that returns values by the label of their row in the table; MEASUREMENTS says
which tools take turns at it. The result goes to /out/measured.json: rows → label → tool → list of values.
"""

import json
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pwru
from bench.trace import Tool, Trace
from bench.traffic import PEER, Sender, highest, network
from pwru.kernel import facts as memory
from pwru.kernel import features
from pwru.kernel.btf import vmlinux_btf

# A list has its values one by one, so that the table can take the median of all.
Values = dict[str, float | str | list[float]]

# The wheel of this checkout, and Debian's package; the columns that ours always has are asked for. The Go tool starts
# and ends so slowly without kprobe-multi that all is measured in two starts of it; it has no JSON.
THEIRS = Tool("Go tool", ("/usr/bin/pwru", "--output-meta", "--output-tuple"))
OURS = Tool("pwru", ("/usr/local/bin/pwru",))
EMPTY, LOADS = (Tool(name, (sys.executable, "-m", "bench.floor", name)) for name in ("empty", "loads"))

NO_MATCH, MATCH = "host 192.0.2.77", f"udp and host {PEER}"
FIRST, LATER = "first run", "later runs"
SINGLY = 10  # packets that are sent one by one to see how many lines each makes when nothing is lost
BURSTS = 5
FLOODS = 5
FEW, MANY = 10**5, 10**6  # hits, after which the memory is looked at
RATE, STEP = 50, 1.5  # the first rate that is tried, in packets per second; for how many seconds each is
ENOUGH = 0.99  # of the lines: the last packets may still be on their way
LATE = 0.1  # of a step; lines that come later after it show that it was only buffered
SLOW = 60.0  # seconds; a tool that takes longer is run once, unless a number was asked for
BPF_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


def first_start(tool: Tool, packets: int) -> Values:
    forget()
    with Trace(tool, NO_MATCH) as trace:
        Sender().send(packets)
        peak = trace.peak_mb()
    return {**times(trace, FIRST), "peak RSS, no match, MB": peak}


def later_start(tool: Tool, packets: int) -> Values:
    with Trace(tool, NO_MATCH) as trace:
        pass
    return times(trace, LATER)


def times(trace: Trace, which: str) -> Values:
    return {
        f"start → ready, {which}, s": trace.ready - trace.began,
        "Ctrl-C → prompt, s": trace.seconds_to_exit,
        "then removing in the background, s": round(trace.seconds_to_remove, 1),
    }


def without_match(tool: Tool, packets: int) -> Values:
    forget()
    sender = Sender()
    untraced = floods(sender)  # before and after, since the host may become busier meanwhile
    with Trace(tool, NO_MATCH) as trace:
        ns = [burst(sender, packets) for _ in range(BURSTS)]
        peak = trace.peak_mb()
        traced = floods(sender)
    untraced += floods(sender)
    return {
        **times(trace, FIRST),
        "peak RSS, no match, MB": peak,
        "ns per hit, no match": ns,
        "packets/s, no tracer": untraced,
        "packets/s, no match": traced,
        "packets/s, no match / no tracer": statistics.median(traced) / statistics.median(untraced),
    }


def floor(tool: Tool, packets: int) -> Values:
    """The same of a tool of which only what a hit costs is of interest."""
    measured = without_match(tool, packets)
    return {label: value for label, value in measured.items() if label.startswith(("ns", "packets/s"))}


def with_match(tool: Tool, packets: int) -> Values:
    sender = Sender()
    with Trace(tool, MATCH) as trace:
        alone = lines_alone(trace, sender)
        flood_to(FEW, trace, sender, alone)
        few = trace.peak_mb()
        ns, lines, cpu = bursts(trace, sender, packets, alone)
        rate = highest(lambda rate: keeps_up(trace, sender, alone, rate), RATE)
        flood_to(MANY, trace, sender, alone)
        many = trace.peak_mb()
    return {
        **times(trace, LATER),
        "ns per hit, match": ns,
        "lines per packet sent alone": alone,
        "burst: lines": lines,
        "burst: delivered, %": [100 * came / (alone * packets) for came in lines],
        "CPU µs per line": cpu,
        "sustained without loss, events/s": alone * rate,
        "peak RSS after 10^5 hits, MB": few,
        "peak RSS after 10^6 hits, MB": many,
        "10^6 hits / 10^5 hits": many / few,
    }


def with_json(tool: Tool, packets: int) -> Values:
    sender = Sender()
    with Trace(tool, MATCH, "--output-json") as trace:
        alone = lines_alone(trace, sender)
        _, lines, cpu = bursts(trace, sender, packets, alone)
    totals = next(json.loads(line) for _, line in reversed(trace.messages) if line.startswith("{"))
    return {
        **times(trace, LATER),
        "CPU µs per line, JSON": cpu,
        "burst, JSON: delivered, %": 100 * sum(lines) / (alone * packets * BURSTS),
        "burst, JSON: reported lost": float(sum(totals["lost"].values())),
    }


def instructions(tool: Tool, packets: int) -> Values:
    """On a machine that runs an instruction a nanosecond: see vmtest.run(icount=True)."""
    values: Values = {}
    for label, pcap_filter in (("no match", NO_MATCH), ("match", MATCH)):
        with Trace(tool, pcap_filter):
            values[label] = burst(Sender(), packets)
    return values


def phases(tool: Tool, packets: int) -> Values:
    """What the start is made of, by what --debug says and when it says so."""
    forget()
    return {**_phases(tool, "first start"), **_phases(tool, "later start")}


def _phases(tool: Tool, which: str) -> Values:
    with Trace(tool, NO_MATCH, "--debug") as trace:
        pass
    values: Values = {}
    last = trace.began
    for came, line in trace.messages:
        if came > trace.ready:
            break
        if phase := re.fullmatch(r"debug: (.*): (\d+) ms", line):
            ms = float(phase[2])
            if not values:
                values[f"{which}, ms: interpreter, imports"] = (came - last) * 1000 - ms
            values[f"{which}, ms: {phase[1]}"] = ms
            last = came
    return {**values, f"{which}, ms: the rest": (trace.ready - last) * 1000}


Measurement = Callable[[Tool, int], Values]
MEASUREMENTS: dict[str, tuple[tuple[Measurement, tuple[Tool, ...]], ...]] = {
    "all": (
        (without_match, (THEIRS, OURS)),
        (floor, (EMPTY, LOADS)),
        (with_match, (THEIRS, OURS)),
        (with_json, (OURS,)),
    ),
    "hits": ((without_match, (THEIRS, OURS)), (floor, (EMPTY, LOADS))),
    "starts": ((first_start, (THEIRS, OURS)), (later_start, (THEIRS, OURS)), (phases, (OURS,))),
    "instructions": ((instructions, (EMPTY, LOADS, OURS, THEIRS)),),
    "instructions of ours": ((instructions, (EMPTY, LOADS, OURS)),),
}
RUNS = {"starts": 3}  # and 1 of the others, which take medians within a run


def forget() -> None:
    """What ours remembers of this kernel, so that the next run is as the first on a machine."""
    shutil.rmtree(memory.FOLDER, ignore_errors=True)


def burst(sender: Sender, packets: int) -> float:
    """Sends packets as fast as it goes; what a probe hit took, in ns."""
    BPF_STATS.write_text("1")
    try:
        hits, took = quiet()
        sender.send(packets)
        hits_after, took_after = quiet()
    finally:
        BPF_STATS.write_text("0")  # counting is not free
    if hits_after - hits < packets:
        raise RuntimeError(f"{packets} packets made {hits_after - hits} probe hits: the probes are not there")
    return (took_after - took) / (hits_after - hits)


def bursts(trace: Trace, sender: Sender, packets: int, alone: float) -> tuple[list[float], list[float], float]:
    """Of BURSTS bursts: what a hit took and how many lines there were of each, and the CPU µs a line of all."""
    ns, lines = [], []
    cpu = trace.cpu_us()
    for _ in range(BURSTS):
        before = trace.lines()
        ns.append(burst(sender, packets))
        lines.append(float(trace.wait(before + alone * packets) - before))
    return ns, lines, (trace.cpu_us() - cpu) / sum(lines)


def floods(sender: Sender) -> list[float]:
    return [sender.flood(0.5) for _ in range(FLOODS)]


def flood_to(hits: int, trace: Trace, sender: Sender, alone: float) -> None:
    """Sends what is missing to so many hits since the sender was made, and waits until it is printed."""
    sender.send(max(0, int(hits / alone) - sender.sent))
    trace.wait(float("inf"))


def lines_alone(trace: Trace, sender: Sender) -> float:
    """How many lines a packet makes that is sent alone."""
    before = trace.lines()
    sender.paced(rate=SINGLY, seconds=1)
    lines = trace.wait(float("inf")) - before
    if not lines:
        raise RuntimeError(f"nothing was printed of {sender.sent} packets")
    return lines / sender.sent


def keeps_up(trace: Trace, sender: Sender, alone: float, rate: float) -> bool:
    """Whether the lines of packets at this rate are all there soon after the last of them."""
    before, sent = trace.lines(), sender.sent
    kept = sender.paced(rate, STEP)
    ended = time.monotonic()
    wanted = before + ENOUGH * alone * (sender.sent - sent)
    complete = trace.wait(wanted) >= wanted
    return kept and complete and time.monotonic() < ended + LATE * STEP


def quiet() -> tuple[int, int]:
    """bpf_stats() once nothing is hit any more."""
    last = bpf_stats()
    while last != (last := bpf_stats()):
        time.sleep(0.05)
    return last


def bpf_stats() -> tuple[int, int]:
    """How often tracing programs ran, and how long, in ns."""
    programs = json.loads(subprocess.check_output(["bpftool", "prog", "show", "-j"]))
    tracing = [program for program in programs if program["type"] in ("kprobe", "tracing", "raw_tracepoint")]
    return sum(p.get("run_cnt", 0) for p in tracing), sum(p.get("run_time_ns", 0) for p in tracing)


@network()
def main(which: str, packets: int, runs: int | None) -> None:
    rows: dict[str, dict[str, list[float | str]]] = {}
    absent: set[Tool] = set() if features.rdonly_cast(vmlinux_btf()) else {LOADS}
    for measurement, tools in MEASUREMENTS[which]:
        slow: set[Tool] = set()
        for run in range(runs or RUNS.get(which, 1)):
            for tool in tools:
                if tool in slow | absent:
                    continue
                began = time.monotonic()
                for label, value in measurement(tool, packets).items():
                    values = rows.setdefault(label, {}).setdefault(tool.name, [])
                    values += value if isinstance(value, list) else [value]
                took = time.monotonic() - began
                print(
                    f"bench: {measurement.__name__} {run + 1}: {tool.name}: {took:.1f} s", file=sys.stderr, flush=True
                )
                if took > SLOW and not runs:
                    slow.add(tool)
    measured = {
        "release": platform.release(),
        "theirs": subprocess.check_output(["dpkg-query", "-W", "-f", "${Version}", "pwru"], text=True),
        "ours": pwru.__version__,
        "rows": rows,
    }
    Path("/out/measured.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
