"""Captures as tshark reads them: what was traced, and nothing to complain of. A guest makes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.packages.pcapng_in_guest import CASES
from tests.support.pcapng import Capture, read
from vmtest import guest, kernels

FIELDS = ("frame.interface_name", "frame.interface_description", "frame.time_epoch", "frame.len", "frame.cap_len",
          "frame.comment", "frame.packet_id", "frame.packet_flags_direction")  # fmt: skip
AS_ROOT = 'Running as user "root" and group "root". This could be dangerous.'
CLIENT, SERVER = "10.9.0.1", "10.9.0.2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    [kernel] = kernels.find(["6.12"])
    out = tmp_path_factory.mktemp("captures")
    command = "cd /pwru && python3 -m tests.packages.pcapng_in_guest"
    guest.run(guest.Guest(kernel, command, timeout=900), out=out).check()
    return out


def tshark(path: Path, *arguments: str, through_pipe: bool = False) -> list[list[str]]:
    """Return the fields of each packet. It must have nothing to say."""
    options = ("tshark", "-n", "-r", "-" if through_pipe else str(path), *arguments)
    with path.open("rb") as file:
        done = subprocess.run(options, stdin=file, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.replace(AS_ROOT, "").strip()) == (0, "")
    return [line.split("\t") for line in done.stdout.splitlines()]


def fields(path: Path, *names: str, only: str = "", through_pipe: bool = False) -> list[list[str]]:
    chosen = ("-T", "fields", *(word for name in names for word in ("-e", name)))
    return tshark(path, *chosen, *(("-Y", only) if only else ()), through_pipe=through_pipe)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("through_pipe", [False, True], ids=["file", "pipe"])
def test_what_is_said_of_packets(folder: Path, name: str, through_pipe: bool) -> None:
    path = folder / f"{name}.pcapng"
    capture: Capture = read(path.read_bytes())
    seen = fields(path, *FIELDS, through_pipe=through_pipe)
    assert len(capture.packets) >= 10
    assert [(*row[:2], int(row[2].replace(".", "")), int(row[3]), int(row[4]), row[5]) for row in seen] == [
        (
            packet.interface.name,
            packet.interface.description,
            packet.time,
            packet.length,
            len(packet.data),
            packet.comment,
        )
        for packet in capture.packets
    ]
    assert [int(row[6] or "0", 0) for row in seen] == [packet.id for packet in capture.packets]
    assert [int(row[7] or "0", 0) for row in seen] == [packet.direction for packet in capture.packets]


@pytest.mark.parametrize("name", CASES)
def test_what_packets_are(folder: Path, name: str) -> None:
    """No packet is malformed, has a length that is not its own, or is of somebody else."""
    path = folder / f"{name}.pcapng"
    assert fields(path, "frame.number", only="_ws.malformed || _ws.expert.severity == error") == []
    only = "ip && !icmp.type == 3"
    assert {tuple(row) for row in fields(path, "ip.src", "ip.dst", only=only)} == {(CLIENT, SERVER), (SERVER, CLIENT)}
    assert {row[0] for row in fields(path, "ip.checksum.status", only="ip.checksum.status == 0")} == set()
    ports = {tuple(row) for row in fields(path, "udp.srcport", "udp.dstport", only="udp && !icmp")}
    assert ports == {("7777", "9999")}
    assert {row[0] for row in fields(path, "tcp.dstport", only="tcp.flags.syn == 1")} == {"80"}
    requests = fields(path, "frame.packet_id", only="icmp.type == 8 || icmpv6.type == 128")
    assert len(requests) == 4 if name != "all" else len(requests) > 20


def test_the_filters_of_the_guide(folder: Path) -> None:
    path = folder / "ends.pcapng"
    dropped = fields(path, "udp.dstport", "frame.comment", only='frame.comment contains "dropped" && udp && !icmp')
    [(port, comment)] = dropped
    assert port == "9999"
    assert comment.startswith("dropped in sk_skb_reason_drop(SKB_DROP_REASON_NO_SOCKET) from __udp4_lib_rcv")
    [(number,)] = fields(path, "frame.packet_id", only='udp && !icmp && frame.comment contains "first seen"')
    both = fields(path, "frame.interface_name", only=f"frame.packet_id == {number}")
    assert both == [["v0"], ["v1"]]
