"""The measurements. Run as root in a guest: `python3 -m bench.measure WHICH PACKETS [RUNS]`.

A measurement is a function of a tool that returns values by the label of their row in the table; MEASUREMENTS says
which tools take turns. The result goes to /out/measured.json: rows → label → tool → list of values.
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

# A list keeps its values, so that the table can take the median of all runs.
Values = dict[str, float | str | list[float]]

# Debian's package, asked for the columns that ours always has, and the wheel of this checkout. Without kprobe-multi the
# Go tool starts and ends so slowly that everything is measured in two runs of it; it has no JSON.
THEIRS = Tool("Go tool", ("/usr/bin/pwru", "--output-meta", "--output-tuple"))
OURS = Tool("pwru", ("/usr/local/bin/pwru",))
RECORDING = Tool("pwru -w", (*OURS.command, "-w", "-"))
EMPTY, LOADS = (Tool(name, (sys.executable, "-m", "bench.floor", name)) for name in ("empty", "loads"))

FOLLOWING = "--filter-track-skb"  # as both call it
NO_MATCH, MATCH = "host 192.0.2.77", f"udp and host {PEER}"
FIRST, LATER = "first run", "later runs"
SINGLY = 10  # packets that are sent one by one, to count the lines per packet when nothing is lost
BURSTS = 5
PAIRS = 3  # of starts that are compared
FLOODS = 5
FEW, MANY = 10**5, 10**6  # hits after which memory is measured
RATE, STEP = 50, 1.5  # the first rate that is tried, in packets per second, and the seconds for each
ENOUGH = 0.99  # of the lines: the last packets may still be on their way
LATE = 0.1  # of a step; lines that come later were only buffered
SLOW = 60.0  # seconds; a tool that takes longer runs once, unless RUNS is given
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


def following_start(tool: Tool, packets: int) -> Values:
    """Start in turn without and with following, since the load of the host changes."""
    took: dict[tuple[str, ...], list[float]] = {(): [], (FOLLOWING,): []}
    for _ in range(PAIRS):
        for flags, seconds in took.items():
            with Trace(tool, NO_MATCH, *flags) as trace:
                pass
            seconds.append(trace.ready - trace.began)
    without, following = took.values()
    return {
        "start → ready, following, s": following,
        "start → ready, following / without": [b / a for a, b in zip(without, following, strict=True)],
    }


def times(trace: Trace, which: str) -> Values:
    return {
        f"start → ready, {which}, s": trace.ready - trace.began,
        "Ctrl-C → prompt, s": trace.seconds_to_exit,
        "then removing in the background, s": round(trace.seconds_to_remove, 1),
    }


def without_match(tool: Tool, packets: int) -> Values:
    forget()
    sender = Sender()
    untraced = floods(sender)  # before and after, since the load of the host may change
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
    """Measure only what a hit costs."""
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


def flooded(tool: Tool, packets: int) -> Values:
    """Send as fast as possible: what the tool takes of that, and what it says it lost."""
    sender = Sender()
    with Trace(tool, MATCH) as trace:
        before = trace.cpu_us()
        began = time.monotonic()
        floods(sender)
        took = time.monotonic() - began
        trace.wait(float("inf"))
        cpu = trace.cpu_us() - before
    totals = [re.match(r"(\d+) events? .*?, (\d+) lost", line) for _, line in trace.messages]
    events, lost = next((float(match[1]), float(match[2])) for match in totals if match)
    return {
        "flood: hits/s": (events + lost) / took,
        "flood: lost, %": 100 * lost / (events + lost),
        "flood: CPU µs per event": cpu / events,
    }


def instructions(tool: Tool, packets: int) -> Values:
    """Count instructions, in a guest that runs one per nanosecond: see vmtest.guest.Guest."""
    return {
        **floor_instructions(tool, packets),
        "match": instructions_per_hit(tool, packets, MATCH),
        "no match, following": instructions_per_hit(tool, packets, NO_MATCH, FOLLOWING),
        "match, following": instructions_per_hit(tool, packets, MATCH, FOLLOWING),
    }


def floor_instructions(tool: Tool, packets: int) -> Values:
    return {"no match": instructions_per_hit(tool, packets, NO_MATCH)}


def instructions_per_hit(tool: Tool, packets: int, pcap_filter: str, *flags: str) -> float:
    with Trace(tool, pcap_filter, *flags):
        return burst(Sender(), packets)


def phases(tool: Tool, packets: int) -> Values:
    """Split the start into its phases, by the messages of --debug and their times."""
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
        (following_start, (OURS,)),
        (flooded, (OURS, RECORDING)),
    ),
    "recordings": ((flooded, (OURS, RECORDING)),),
    "hits": ((without_match, (THEIRS, OURS)), (floor, (EMPTY, LOADS))),
    "starts": (
        (first_start, (THEIRS, OURS)),
        (later_start, (THEIRS, OURS)),
        (phases, (OURS,)),
        (following_start, (OURS,)),
    ),
    "instructions": ((floor_instructions, (EMPTY, LOADS)), (instructions, (OURS, THEIRS))),
    "instructions of ours": ((floor_instructions, (EMPTY, LOADS)), (instructions, (OURS,))),
}
RUNS = {"starts": 3, "recordings": 3}  # the others run once and take medians within the run


def forget() -> None:
    """Remove what pwru has cached about this kernel, so that its next run is like the first on a machine."""
    shutil.rmtree(memory.FOLDER, ignore_errors=True)


def burst(sender: Sender, packets: int) -> float:
    """Send packets as fast as possible. Return the time per probe hit, in ns."""
    BPF_STATS.write_text("1")
    try:
        hits, took = quiet()
        sender.send(packets)
        hits_after, took_after = quiet()
    finally:
        BPF_STATS.write_text("0")  # counting is not free
    if hits_after - hits < packets:
        raise RuntimeError(f"{packets} packets made {hits_after - hits} probe hits: probes are missing")
    return (took_after - took) / (hits_after - hits)


def bursts(trace: Trace, sender: Sender, packets: int, alone: float) -> tuple[list[float], list[float], float]:
    """Send BURSTS bursts. Return for each the ns per hit and the number of lines, and for all the CPU µs per line."""
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
    """Send packets until this sender has made so many hits, and wait until they are printed."""
    sender.send(max(0, int(hits / alone) - sender.sent))
    trace.wait(float("inf"))


def lines_alone(trace: Trace, sender: Sender) -> float:
    """Return the number of lines for a packet that is sent alone."""
    before = trace.lines()
    sender.paced(rate=SINGLY, seconds=1)
    lines = trace.wait(float("inf")) - before
    if not lines:
        raise RuntimeError(f"nothing was printed of {sender.sent} packets")
    return lines / sender.sent


def keeps_up(trace: Trace, sender: Sender, alone: float, rate: float) -> bool:
    """Return True if the lines of packets sent at this rate are all printed soon after the last packet."""
    before, sent = trace.lines(), sender.sent
    kept = sender.paced(rate, STEP)
    ended = time.monotonic()
    wanted = before + ENOUGH * alone * (sender.sent - sent)
    complete = trace.wait(wanted) >= wanted
    return kept and complete and time.monotonic() < ended + LATE * STEP


def quiet() -> tuple[int, int]:
    """Wait until nothing is hit any more. Return bpf_stats()."""
    last = bpf_stats()
    while last != (last := bpf_stats()):
        time.sleep(0.05)
    return last


def bpf_stats() -> tuple[int, int]:
    """Return how often tracing programs ran, and for how long, in ns."""
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
