"""Records what pwru had from the kernel and what it printed, in a guest: `python -m tests.unit.sinks.recording`.

Each set of flags gives two files in recorded/, of text and JSON: the events as they came from the ring buffer, what
user space looked up elsewhere (symbols, names of namespaces), and the output, which test_recorded.py makes again of it.
To be run when the record of an event changes; look at the difference before it is committed.
"""

from __future__ import annotations

import base64
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conformance.traffic import network

RECORDED = Path(__file__).with_name("recorded")
OUT = Path("/out")

# The functions are those that are the same in many kernels, and where a packet is dropped.
FILTER = ("--filter-func=ip_output|ip_rcv|kfree_skb.*|sk_skb_reason_drop", "--output-limit-lines=8", "net 10.0.0.0/8")
CASES = {
    "default": (),
    "no-meta": ("--output-meta=false",),
    "no-tuple": ("--output-tuple=false",),
    "caller": ("--output-caller",),
    "stack": ("--output-stack",),
    "skb-metadata": ("--output-skb-metadata=skb->mark,skb->dev->mtu",),
    "payload": ("--output-payload=64",),
    "skb-cb": ("--output-skb-cb",),
    "tcp-flags": ("--output-tcp-flags",),
    "tunnel": ("--output-tunnel",),
    "netns-names": ("--output-netns-names",),
    "current": ("--timestamp=current",),
    "relative": ("--timestamp=relative",),
    "absolute": ("--timestamp=absolute",),
    "columns": ("--output-tcp-flags", "--output-tunnel", "--output-netns-names", "--output-skb-cb", "--output-caller"),
}
FORMATS = ("text", "json")

TUNNEL = """\
ip -n client link add vx0 type vxlan id 7 remote 10.9.0.2 dstport 4789 dev v0
ip -n server link add vx0 type vxlan id 7 remote 10.9.0.1 dstport 4789 dev v1
ip -n client address add 10.7.0.1/24 dev vx0
ip -n server address add 10.7.0.2/24 dev vx0
ip -n client link set vx0 up
ip -n server link set vx0 up
ip netns exec client ping -q -c 1 -W 5 10.7.0.2
"""
# A SYN that is dropped, then a ping through the tunnel.
TRAFFIC = """
import socket, subprocess
s = socket.socket()
s.settimeout(0.1)
s.connect_ex(("10.9.0.2", 8080))
s.close()
subprocess.run(["ping", "-q", "-c", "1", "-W", "5", "10.7.0.2"], check=True, stdout=subprocess.DEVNULL)
"""
# What a clock of the day says at the start of the kernel's, so that it is the same when it is asked again.
DAY = 1_700_000_000_000_000_000


def stop_clock() -> None:
    """The time of day, from here on, is the kernel's clock and DAY."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    vars(time).update(time_ns=lambda: DAY, monotonic_ns=lambda: 0)


def record(path: Path, arguments: list[str]) -> None:
    """pwru with these arguments; what it had to print with goes to the file."""
    from pwru import cli
    from pwru.commands import trace as tracer
    from pwru.kernel import netns
    from pwru.sinks.lines import Format

    stop_clock()
    found: dict[str, Any] = {"functions": {}, "stacks": {}, "netns": {}}
    events = bytearray()
    make = tracer._format

    def remembering(into: str, key: str, answer: Any) -> Any:
        found[into][key] = answer
        return answer

    def recording(*of: Any) -> Format:
        output = make(*of)
        _, decoder, _, values = of
        found["parts"], found["values"] = decoder.parts._asdict(), values
        found["last"] = list(output._last_addresses)
        symbolize, more, lines = output._symbolize, output.more, output.events
        output._symbolize = lambda hit: remembering("functions", json.dumps(hit), symbolize(hit))
        if more and more.stack:
            stack: Callable[..., Any] = more.stack
            output.more = more._replace(
                stack=lambda *hit: remembering("stacks", json.dumps(hit), stack(*hit)),
            )

        def keeping(records: list[Any]) -> str:
            for fields in records:
                packed = decoder._event.pack(*fields)
                events.extend(struct.pack("=II", len(packed) - 8, 0) + packed[8:])
            return lines(records)

        vars(output)["events"] = keeping
        return output

    vars(tracer)["_format"] = recording
    status = cli.main(arguments)
    found["netns"] = netns.names()
    found["events"] = base64.b64encode(events).decode()
    path.write_text(json.dumps(found))
    sys.exit(status)


@network()
def record_all() -> None:
    """In the guest."""
    for line in TUNNEL.splitlines():
        subprocess.run(line.split(), check=True, stdout=subprocess.DEVNULL)
    for name, flags in CASES.items():
        for form in FORMATS:
            path, ready = OUT / f"{name}.{form}", Path(f"/tmp/{name}.{form}")
            arguments = (*flags, f"--output-json={str(form == 'json').lower()}", f"--ready-file={ready}", *FILTER)
            module = (sys.executable, "-m", "tests.unit.sinks.recording", str(path), *arguments)
            with subprocess.Popen(module, stdout=subprocess.PIPE, text=True) as tracing:
                while not ready.exists():
                    time.sleep(0.05)
                subprocess.run(["ip", "netns", "exec", "client", sys.executable, "-c", TRAFFIC], check=True)
                printed, _ = tracing.communicate()
            if tracing.returncode:
                raise RuntimeError(f"{name}: pwru ended with {tracing.returncode}")
            path.write_text(json.dumps(json.loads(path.read_text()) | {"printed": printed.splitlines()}, indent=1))


def main() -> None:
    from vmtest import guest, kernels

    [kernel] = kernels.find(["6.12"])
    with tempfile.TemporaryDirectory() as out:
        command = "python3 -m tests.unit.sinks.recording guest"
        guest.run(guest.Guest(kernel, command, timeout=900), out=Path(out), echo=True).check()
        for old in RECORDED.glob("*"):
            old.unlink()
        for new in Path(out).glob("*.*"):
            RECORDED.joinpath(new.name).write_bytes(new.read_bytes() + b"\n")


if __name__ == "__main__":
    if not sys.argv[1:]:
        main()
    elif sys.argv[1] == "guest":
        record_all()
    else:
        record(Path(sys.argv[1]), sys.argv[2:])
