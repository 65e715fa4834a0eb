"""Captures: what is in the file is what was sent, where it was and what became of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.pcapng import ETHERNET, RAW, Packet, read
from vmtest.network import Network, sh
from vmtest.udp import send_udp

from .backends import drop_function
from .leftovers import PATIENCE, wait_for
from .packets import netns_inode
from .tracing import Start, Trace

pytestmark = pytest.mark.three_kernels

DROP = re.compile(
    r"dropped in (kfree_skb|kfree_skb_reason|sk_skb_reason_drop)(\(SKB_DROP_REASON_NO_SOCKET\))? (from|after) \w+"
)


def packets(path: Path) -> list[Packet]:
    return read(path.read_bytes()).packets


def ends(packet: Packet) -> tuple[str, str]:
    """The addresses of IPv4."""
    ip = packet.data[14:] if packet.interface.link_type == ETHERNET else packet.data
    return socket.inet_ntoa(ip[12:16]), socket.inet_ntoa(ip[16:20])


def numbered(packet: Packet) -> str:
    found = re.search(r", (#\w+)", packet.comment)
    return found[1] if found else ""


def test_pings_and_a_dropped_datagram(network: Network, pwru: Start, tmp_path: Path) -> None:
    path = tmp_path / "trace.pcapng"
    there, back = (network.source, network.destination), (network.destination, network.source)
    before = time.time_ns()
    with pwru(f"--output-pcap={path}", "icmp or udp port 9999") as trace:
        network.ping()
        send_udp(network, 1)
        trace.wait_for(lambda: any(DROP.match(packet.comment) for packet in packets(path)))
        assert trace.stop() == 0
        assert trace.out == ""
    capture = read(path.read_bytes())
    print(*capture.packets, sep="\n")
    assert re.fullmatch(r"pwru --output-pcap=\S+ 'icmp or udp port 9999'", capture.about[1])
    assert re.fullmatch(r"pwru \d\S+", capture.about[4])
    assert capture.about[3] == f"Linux {os.uname().release}"
    times = [packet.time for packet in capture.packets]
    assert all(before < moment < time.time_ns() for moment in times)
    places = {
        (netns_inode(netns), netns, device)
        for netns, device in ((network.client, network.client_device), (network.server, network.server_device))
    }
    for interface in capture.interfaces:
        found = re.fullmatch(r"network namespace (\d+) \((\w+)\)(, without link-layer header)?", interface.description)
        if interface.name != "(no device)":  # of a packet in a socket
            assert found
            assert (int(found[1]), found[2], interface.name) in places
            assert interface.link_type == (RAW if found[3] else ETHERNET)
    request, reply, datagram, error = ([p for p in capture.packets if numbered(p) == f"#{n}"] for n in range(1, 5))
    assert [[ends(packet) for packet in way] for way in (request, reply, datagram, error)] == [
        [there] * 2,
        [back] * 2,
        [there] * 2,
        [back] * 2,
    ]
    for way, size, protocol in ((request, 84, 1), (reply, 84, 1), (datagram, 92, 17), (error, 120, 1)):
        first, last = way
        assert first.comment.startswith("first seen in ")
        assert last.comment.startswith(("ended in ", "dropped in "))
        assert first.time < last.time
        assert {first.id, last.id} == {int(numbered(first)[1:])}
        assert (first.interface.link_type, first.length, first.data[9]) == (RAW, size, protocol)
        assert (first.direction, last.length, last.interface.link_type) == (2, size + 14, ETHERNET)
        assert first.data == last.data[14 : 14 + len(first.data)] or protocol != 17
    assert DROP.match(datagram[1].comment)
    assert datagram[1].interface.name == network.server_device
    assert ", ping:" in request[0].comment


def test_all_events(network: Network, pwru: Start, tmp_path: Path) -> None:
    """As many as the account says, in both directions."""
    path = tmp_path / "trace.pcapng"
    flags = "--output-pcap-all", "--output-payload=42", "--follow=false", "--output-json"
    funcs = f"--filter-func=__ip_local_out|ip_output|dev_hard_start_xmit|ip_rcv|{drop_function()}"
    with pwru(f"--output-pcap={path}", *flags, funcs, "udp port 9999") as trace:
        send_udp(network, 3)
        trace.wait_for(lambda: path.read_bytes().count(drop_function().encode()) >= 3)
        assert trace.stop() == 0
    got = packets(path)
    assert trace.account()["events"] == len(got)
    assert trace.totals() == (len(got), 0)
    at = {name: [p for p in got if p.comment.startswith(f"{name}, python3:")] for name in ("ip_output", "ip_rcv")}
    assert {(p.direction, p.length, p.interface.link_type) for p in at["ip_output"]} == {(2, 92, RAW)}
    assert {(p.direction, p.length, p.interface.link_type) for p in at["ip_rcv"]} == {(1, 106, ETHERNET)}
    assert {len(p.data) for p in got} <= {0, 42}
    assert {ends(p) for p in got if p.data} == {(network.source, network.destination)}


@pytest.mark.one_kernel
def test_from_a_recording(network: Network, pwru: Start, tmp_path: Path) -> None:
    """It is what a live trace writes, but for the clock, which is read at other moments."""
    live, recording, again = (tmp_path / name for name in ("live.pcapng", "recording", "again.pcapng"))
    with pwru(f"--output-pcap={live}", f"-w{recording}", "--filter-func=ip_.*|udp_.*", "udp port 9999") as trace:
        send_udp(network, 20)
        assert trace.stop() == 0
    sh("pwru", f"-r{recording}", f"--output-pcap={again}")
    one, other = (read(path.read_bytes()) for path in (live, again))
    assert one.about[1] == other.about[1]
    assert [packet._replace(time=0) for packet in one.packets] == [packet._replace(time=0) for packet in other.packets]
    assert len(one.packets) >= 40
    differences = [a.time - b.time for a, b in zip(one.packets, other.packets, strict=True)]
    assert max(map(abs, differences)) < 10**9


@pytest.mark.one_kernel
def test_a_reader_of_a_pipe_has_each_packet_at_once(network: Network, tmp_path: Path) -> None:
    """Within a second, as Wireshark shows them; its exit ends the trace."""
    got = b""
    with (
        (tmp_path / "err").open("wb") as err,
        subprocess.Popen(
            ["pwru", "--output-pcap", "-", "--filter-func=ip_rcv|__udp4_lib_rcv|sk_skb_reason_drop", "udp port 9999"],
            stdout=subprocess.PIPE,
            stderr=err,
            bufsize=0,
        ) as process,
    ):
        assert process.stdout
        os.set_blocking(process.stdout.fileno(), False)
        wait_for(lambda: b"Listening" in (tmp_path / "err").read_bytes(), (tmp_path / "err").read_text)
        for count in (1, 2):
            send_udp(network, 1)
            deadline = time.monotonic() + 1
            while got.count(b"first seen in ip_rcv") < count and time.monotonic() < deadline:
                got += process.stdout.read(1 << 16) or b""
                time.sleep(0.01)
            assert len(read(got).packets) >= count
        process.stdout.close()
        send_udp(network, 1)
        assert process.wait(PATIENCE) == 0
    assert "whoever read the output has gone" in (tmp_path / "err").read_text()


@pytest.mark.one_kernel
def test_a_full_disk(network: Network, tmp_path: Path) -> None:
    """The account says what was not written, and what there is can be read."""
    disk = tmp_path / "disk"
    disk.mkdir()
    path = disk / "trace.pcapng"
    sh("mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk))
    try:
        flags = (f"--output-pcap={path}", "--output-pcap-all", "--filter-func=udp_rcv|ip_rcv|__ip_local_out")
        with Trace(tmp_path, (*flags, "udp port 9999")) as trace:
            while trace.process.poll() is None:
                send_udp(network, 100)
        assert trace.process.returncode == 1
        *_, account, error = trace.err.splitlines()
        assert error == f"pwru: cannot write to {path}: No space left on device"
        counted = re.match(r"(\d+) events of .*, (\d+) not printed \(the output could not", account)
        assert counted, account
        assert len(packets(path)) == int(counted[1])
        assert int(counted[2]) > 0
    finally:
        sh("umount", str(disk))


@pytest.mark.one_kernel
def test_logrotate(network: Network, pwru: Start, tmp_path: Path) -> None:
    """The file is moved away, and SIGHUP sent: both can be read, and nothing is lost."""
    path, moved = tmp_path / "trace.pcapng", tmp_path / "trace.pcapng.1"
    flags = "--output-pcap-all", "--filter-func=udp_rcv"
    with pwru(f"--output-pcap={path}", *flags, "udp port 9999") as trace:
        send_udp(network, 5)
        trace.wait_for(lambda: len(packets(path)) == 5)
        shutil.move(path, moved)
        trace.process.send_signal(signal.SIGHUP)
        trace.wait_for(path.exists)
        send_udp(network, 7)
        trace.wait_for(lambda: len(packets(path)) == 7)
        assert trace.stop() == 0
    assert len(packets(moved)) == 5
    assert trace.totals() == (12, 0)
