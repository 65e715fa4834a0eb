"""What is measured, and how: runs as root in a guest, `python3 -m bench.measure all|starts PACKETS [RUNS]`.

A measurement is a function of a tool that returns values by the label of their row in the table; MEASUREMENTS says
which tools take turns at it. The result goes to /out/measured.json: rows → label → tool → list of values.
"""

import json
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pwru
from bench.trace import Tool, Trace
from pwru.kernel import memory

Values = dict[str, float | str]

# The wheel of this checkout, and Debian's package; the columns that ours always has are asked for.
THEIRS = Tool("Go tool", ("/usr/bin/pwru", "--output-meta", "--output-tuple"))
OURS = Tool("pwru", ("/usr/local/bin/pwru",))
EMPTY = Tool("empty", (sys.executable, "-m", "bench.empty"))

US, PEER, PORT = "10.9.0.1", "10.9.0.2", 9999
NO_MATCH, MATCH = "host 192.0.2.77", f"udp and host {PEER}"
LIKE = f"->{PEER}:{PORT}(udp)".encode()
SINGLY = 10  # packets that are sent one by one to see how many lines each makes when nothing is lost
SLOW = 60.0  # seconds; a tool that takes longer is run once, unless a number was asked for


def without_match(tool: Tool, packets: int) -> Values:
    forget()
    with Trace(tool, NO_MATCH) as trace:
        _, ns = burst(packets)
        peak = trace.peak_mb()
    return {
        "start → ready, first run, s": trace.ready - trace.began,
        "Ctrl-C → prompt, s": trace.seconds_to_exit,
        "then removing in the background, s": round(trace.seconds_to_remove, 1),
        "peak RSS, MB": peak,
        "ns a probe hit, no match": ns,
    }


def start_again(tool: Tool, packets: int) -> Values:
    with Trace(tool, NO_MATCH) as trace:
        pass
    return {"start → ready, later runs, s": trace.ready - trace.began}


def with_match(tool: Tool, packets: int) -> Values:
    with Trace(tool, MATCH) as trace:
        send(SINGLY, pause=0.1)
        trace.settle()
        alone = trace.lines(LIKE) / SINGLY
        before = trace.cpu_us()
        _, ns = burst(packets)
        trace.settle()
        used = trace.cpu_us() - before
        asked = time.monotonic()
    lines = trace.lines(LIKE) - SINGLY * alone
    if not lines:
        raise RuntimeError(f"{tool.name} printed nothing of {packets} packets")
    last = [line for came, line in trace.messages if came > asked]
    return {
        "ns a probe hit, match": ns,
        "lines for a packet alone": alone,
        "burst: lines": lines,
        "burst: delivered, %": 100 * lines / (alone * packets),
        "burst: lost, it says": next(
            (found[1] for line in last if (found := re.search(r"(\d+) lost", line))), "nothing"
        ),
        "CPU µs a line": used / lines,
    }


def floor(tool: Tool, packets: int) -> Values:
    with Trace(tool, NO_MATCH):
        _, ns = burst(packets)
    return {"ns a probe hit, no match": ns, "ns a probe hit, match": ns}


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


def forget() -> None:
    """What ours remembers of this kernel, so that the next run is as the first on a machine."""
    shutil.rmtree(memory.FOLDER, ignore_errors=True)


Measurements = tuple[tuple[Callable[[Tool, int], Values], tuple[Tool, ...]], ...]
STARTS: Measurements = ((without_match, (THEIRS, OURS)), (start_again, (THEIRS, OURS)), (phases, (OURS,)))
MEASUREMENTS = {"starts": STARTS, "all": (*STARTS, (with_match, (THEIRS, OURS)), (floor, (EMPTY,)))}


def make_network() -> None:
    """A veth pair from here, US, into the namespace `peer`, where PEER takes what comes at PORT."""
    for line in (
        "sysctl -qw net.ipv6.conf.default.disable_ipv6=1",  # nothing that nobody sent
        "ip netns add peer",
        "ip link add v0 type veth peer name v1 netns peer",
        f"ip addr add {US}/24 dev v0",
        f"ip -n peer addr add {PEER}/24 dev v1",
        "ip link set v0 up",
        "ip -n peer link set v1 up",
        f"ping -q -c 1 -W 5 {PEER}",
        "sysctl -qw kernel.bpf_stats_enabled=1",
    ):
        subprocess.run(line.split(), check=True, stdout=subprocess.DEVNULL)
    receiver = f"ip netns exec peer socat -u -b 65536 UDP-RECV:{PORT} OPEN:/dev/null"
    subprocess.Popen(receiver.split(), stdin=subprocess.DEVNULL)
    while not subprocess.check_output(["ip", "netns", "exec", "peer", "ss", "-Hlnu", f"sport = {PORT}"]):
        time.sleep(0.1)


def send(packets: int, pause: float = 0) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((PEER, PORT))
        for _ in range(packets):
            sender.send(b"pwru" * 16)
            if pause:
                time.sleep(pause)


def burst(packets: int) -> tuple[int, float]:
    """Sends packets as fast as it goes; how many probe hits that made, and what one took, in ns."""
    time.sleep(0.5)  # after the start, to calm down
    hits, took = bpf_stats()
    send(packets)
    time.sleep(0.5)
    hits_after, took_after = bpf_stats()
    if hits_after - hits < packets:
        raise RuntimeError(f"{packets} packets made {hits_after - hits} probe hits: the probes are not there")
    return hits_after - hits, (took_after - took) / (hits_after - hits)


def bpf_stats() -> tuple[int, int]:
    """How often tracing programs ran, and how long, in ns."""
    programs = json.loads(subprocess.check_output(["bpftool", "prog", "show", "-j"]))
    tracing = [program for program in programs if program["type"] in ("kprobe", "tracing", "raw_tracepoint")]
    return sum(p.get("run_cnt", 0) for p in tracing), sum(p.get("run_time_ns", 0) for p in tracing)


def main(which: str, packets: int, runs: int | None) -> None:
    make_network()
    rows: dict[str, dict[str, list[float | str]]] = {}
    for measurement, tools in MEASUREMENTS[which]:
        slow = set()
        for run in range(runs or 3):
            for tool in tools:
                if tool in slow:
                    continue
                began = time.monotonic()
                for label, value in measurement(tool, packets).items():
                    rows.setdefault(label, {}).setdefault(tool.name, []).append(value)
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
