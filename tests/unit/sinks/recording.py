"""Records what the kernel sent and what was printed of it, in a guest: `python -m tests.unit.sinks.recording`.

Each set of flags gives two files in recorded/, for text and JSON: the events as they came from the ring buffer, the
names that were looked up (symbols, namespaces), and the output, which test_recorded.py makes again from the rest.
Run it when the record of an event changes, and look at the difference before it is committed.
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pwru.libbpf.ringbuf import Records
from pwru.record.names import Function, Hit, Names
from pwru.record.parts import PARTS, Field
from pwru.record.schema import Record
from pwru.sinks import Source
from pwru.sinks.json import Json
from pwru.sinks.lines import Format, Lines, LineStyle
from pwru.sinks.stream import Stream
from pwru.sinks.text import Text
from pwru.sinks.time import CLOCKS
from tests.conformance.traffic import network
from tests.support.records import in_ring, schema
from tests.support.source import FakeSource

S = TypeVar("S", bound=Lines)

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
# The time of day at which the kernel's clock began, the same whenever it is asked.
DAY = 1_700_000_000_000_000_000


def stop_clock() -> None:
    """Make the time of day the kernel's clock and DAY, from here on."""
    os.environ["TZ"] = "UTC"
    time.tzset()
    vars(time).update(time_ns=lambda: DAY, monotonic_ns=lambda: 0)


class Remembering:
    """Names that keep what they answered."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self.ends, self.after_ends, self.sees_ends = names.ends, names.after_ends, names.sees_ends
        self.generation = names.generation
        self.functions: dict[str, Function] = {}
        self.stacks: dict[str, list[str]] = {}

    def clock_offset(self) -> int:
        return self._names.clock_offset()

    def function(self, hit: Hit) -> Function:
        return self.functions.setdefault(json.dumps(hit), self._names.function(hit))

    def stack(self, caller: int, frames: Sequence[int]) -> list[str]:
        return self.stacks.setdefault(json.dumps((caller, frames)), self._names.stack(caller, frames))

    def netns(self) -> Mapping[int, str]:
        return self._names.netns()

    def dump(self, part: str, raw: bytes) -> str:
        raise NotImplementedError("no case has copies of structs")

    def shape(self, part: str) -> tuple[str, list[Any]]:
        raise NotImplementedError("no case has copies of structs")


class Remembered:
    """Names from a file."""

    generation = 0
    after_ends = ()
    sees_ends = False

    def __init__(self, file: Mapping[str, Any]) -> None:
        self._functions: dict[str, Any] = file["functions"]
        self._stacks: dict[str, list[str]] = file["stacks"]
        self._netns: dict[str, str] = file["netns"]
        self.ends: list[int] = file["last"]

    def clock_offset(self) -> int:
        return DAY

    def function(self, hit: Hit) -> Function:
        return Function(*self._functions[json.dumps(hit)])

    def stack(self, caller: int, frames: Sequence[int]) -> list[str]:
        return self._stacks[json.dumps((caller, frames))]

    def netns(self) -> Mapping[int, str]:
        return {int(inode): name for inode, name in self._netns.items()}

    def dump(self, part: str, raw: bytes) -> str:
        raise NotImplementedError("no case has copies of structs")

    def shape(self, part: str) -> tuple[str, list[Any]]:
        raise NotImplementedError("no case has copies of structs")


class Recorder(Lines):
    """Prints events, and keeps what it prints them from."""

    def begin(self, source: Source) -> None:
        self.schema, self.names = source.schema, Remembering(source.names)
        self.events_read = b""
        super().begin(FakeSource(self.schema, self.names))

    def write(self, records: list[Record]) -> int:
        for record in records:
            self.events_read += in_ring(struct.pack(f"={self.schema.format}", *record))
        return super().write(records)


def sink(make: Callable[[type[Format], Stream, LineStyle], S], stream: Stream, form: str, flags: Sequence[str]) -> S:
    """Return the sink that these flags ask for."""
    clock = next((mode for mode in CLOCKS if f"--timestamp={mode}" in flags), "none")
    netns_names = 16 if "--output-netns-names" in flags else 0
    style = LineStyle(timestamp=clock, netns_names=netns_names, caller="--output-caller" in flags)
    return make(Json if form == "json" else Text, stream, style)


def record(path: Path, arguments: list[str]) -> None:
    """Trace with these arguments; what there was to print with goes to the file."""
    from pwru.cli.options import parse
    from pwru.live.session import Session

    stop_clock()
    options = parse(arguments)
    assert options.ready_file
    out = sink(Recorder, Stream(), path.suffix[1:], arguments)
    with Session(options.request) as session:
        out.open()
        out.begin(session)
        Path(options.ready_file).touch()
        while out.events < options.limit:
            out.write(session.read(options.limit - out.events) or [])
    schema, names, sizes = out.schema, out.names, options.request.parts
    parts: dict[str, int] = {}
    parts |= {name: name in schema.parts for name in PARTS} | {"tcp_flags": schema.tcp_flags}
    parts |= {"values": len(schema.fields), "payload": sizes.get("payload", 0)}
    file = {
        "functions": names.functions,
        "stacks": names.stacks,
        "netns": names.netns(),
        "parts": parts,
        "values": [(field.name, 8, field.signed) for field in schema.fields],
        "last": list(names.ends),
        "events": base64.b64encode(out.events_read).decode(),
    }
    path.write_text(json.dumps(file))


def replay(path: Path, flags: Sequence[str], stream: Stream) -> int:
    """Print what a file has; return how many events it has."""
    file: dict[str, Any] = json.loads(path.read_text())
    parts: dict[str, int] = file["parts"]
    tcp_flags, _ = parts.pop("tcp_flags"), parts.pop("values")
    fields = tuple(Field(name, signed) for name, _, signed in file["values"])
    sizes = {name: 0 if size is True else size for name, size in parts.items() if size}
    of = schema(parts=(), tcp_flags=bool(tcp_flags), fields=fields, **sizes)
    records = Records(of.format).complete(memoryview(base64.b64decode(file["events"])))
    out = sink(Lines, stream, path.suffix[1:], flags)
    out.begin(FakeSource(of, Remembered(file)))
    out.write([Record._make(fields) for fields in records])
    return out.events


@network()
def record_all() -> None:
    """Record all cases, in the guest."""
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
        from tests.conformance.traffic import network

        with network():
            record_all()
    else:
        record(Path(sys.argv[1]), sys.argv[2:])
