"""The main job: real packets between two namespaces, and how pwru shows them."""

from __future__ import annotations

import os
import re
import shlex
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from pwru.libbpf import possible_cpus
from vmtest.network import Network, sh
from vmtest.udp import send_udp

from .backends import BACKENDS
from .packets import netns_inode
from .tracing import Start, funcs, in_order


def test_the_way_of_a_ping(network: Network, pwru: Start) -> None:
    """With only a filter, the best backend traces all functions: a request from its creation to its end."""
    with pwru(f"icmp and src host {network.source}") as trace:
        network.ping()
        trace.wait_for_func(r"icmp_rcv\n(?s:.*) kfree_skbmem\n")
        assert trace.stop() == 0
    assert trace.err.splitlines()[-3].endswith(f"({BACKENDS[0]}).")
    rows = trace.rows()
    way = ["__ip_local_out", "ip_output", "ip_finish_output2", "__dev_queue_xmit", "dev_hard_start_xmit",
           "eth_type_trans", "enqueue_to_backlog", "__netif_receive_skb_one_core", "ip_rcv", "ip_rcv_core",
           "ip_local_deliver", "ip_protocol_deliver_rcu", "icmp_rcv", "icmp_echo", "consume_skb",
           "skb_release_data", "kfree_skbmem"]  # fmt: skip
    assert in_order(way, [row["func"] for row in rows if row["skb"] == rows[0]["skb"]])
    assert {row["tuple"] for row in rows} == {"10.9.0.1:0->10.9.0.2:0(icmp)"}
    by_func = {row["func"]: row for row in rows}
    out, forward, rcv = by_func["__ip_local_out"], by_func["dev_hard_start_xmit"], by_func["ip_rcv"]
    client, server = (str(netns_inode(netns)) for netns in (network.client, network.server))
    assert (out["netns"], out["iface"], out["mtu"], out["len"]) == (client, "v0:2", "1500", "84")
    assert (forward["netns"], forward["iface"], forward["mtu"], forward["len"]) == (client, "v0:2", "1500", "98")
    assert (rcv["netns"], rcv["iface"], rcv["proto"], rcv["len"]) == (server, "v1:2", "0x0800", "84")
    assert out["process"].startswith("ping:")
    assert all(int(row["cpu"]) < possible_cpus() for row in rows)
    assert trace.totals() == (len(rows), 0)


def test_icmp6(network: Network, pwru: Start) -> None:
    with pwru("--filter-func", "ipv6_rcv|icmpv6_rcv", f"icmp6 and src host {network.source6}") as trace:
        network.ping("-6", to=network.destination6)
        trace.wait_for_func(" icmpv6_rcv")
        trace.stop()
    echo = [row for row in trace.rows() if row["tuple"] == "[fd09::1]:0->[fd09::2]:0(icmp6)"]
    assert in_order(["ipv6_rcv", "icmpv6_rcv"], [row["func"] for row in echo])
    assert {row["proto"] for row in echo} == {"0x86dd"}


def test_ipv6_extension_headers_are_passed_over(network: Network, pwru: Start) -> None:
    """Shows the ports of a UDP packet after hop-by-hop and destination options (RFC 8200)."""
    code = (
        "import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('::', 7777))\n"
        "pad = bytes((0, 0, 1, 4, 0, 0, 0, 0))\n"
        "s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_HOPOPTS, pad)\n"
        "s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, pad)\n"
        f"s.sendto(b'x', ('{network.destination6}', 9999))"
    )
    with pwru("--filter-func", "ipv6_rcv", f"dst host {network.destination6} and not icmp6") as trace:
        network.python(network.client, code)
        trace.wait_for_func(" ipv6_rcv")
        trace.stop()
    assert [row["tuple"] for row in trace.rows()] == ["[fd09::1]:7777->[fd09::2]:9999(udp)"]


@pytest.mark.three_kernels
def test_later_fragments_have_no_ports(network: Network, pwru: Start) -> None:
    with pwru("--filter-func", "ip_rcv", f"udp and dst host {network.destination}") as trace:
        send_udp(network, 1, size=4000)
        trace.wait_for(lambda: trace.out.count(" ip_rcv\n") >= 3)
        trace.stop()
    assert [row["tuple"] for row in trace.rows()] == [
        "10.9.0.1:7777->10.9.0.2:9999(udp)",
        "10.9.0.1->10.9.0.2(udp)",
        "10.9.0.1->10.9.0.2(udp)",
    ]


@pytest.mark.three_kernels
def test_arp_has_no_tuple(network: Network, pwru: Start) -> None:
    with pwru("--filter-func", "arp_rcv", "arp") as trace:
        sh("ip", "-n", network.client, "neigh", "flush", "dev", "v0")
        network.ping()
        trace.wait_for_func(" arp_rcv")
        trace.stop()
    assert {(row["proto"], row["tuple"]) for row in trace.rows()} == {("0x0806", None)}


@pytest.mark.three_kernels
@pytest.mark.parametrize("by", ["path", "inode"])
def test_filter_netns(network: Network, pwru: Start, by: str) -> None:
    inode = netns_inode(network.server)
    spec = f"/run/netns/{network.server}" if by == "path" else f"inode:{inode}"
    with pwru("--filter-netns", spec, "--filter-func", "__ip_local_out|ip_rcv", "icmp") as trace:
        network.ping()
        trace.wait_for(lambda: len(trace.out.splitlines()) >= 3)
        trace.stop()
    assert "No process" not in trace.err
    # The request is received, the reply is sent; the client's half of both is missing.
    assert funcs(trace) == ["ip_rcv", "__ip_local_out"]
    assert {row["netns"] for row in trace.rows()} == {str(inode)}


@pytest.mark.three_kernels
def test_filter_ifname(network: Network, pwru: Start) -> None:
    netns = f"/run/netns/{network.client}"
    with pwru(
        "--filter-netns", netns, "--filter-ifname", "v0", "--filter-func", "ip_rcv|ip_finish_output", "icmp"
    ) as t:
        network.ping()
        # The other namespace has a device with the same index; this ping passes the same namespace's loopback.
        network.run(network.client, "ping", "-n", "-c1", "-W5", network.source)
        t.wait_for_func(r" ip_finish_output\n(?s:.*) ip_rcv\n")
        t.stop()
    assert funcs(t) == ["ip_finish_output", "ip_rcv"]
    assert {row["iface"] for row in t.rows()} == {"v0:2"}


@pytest.mark.one_kernel
def test_a_namespace_that_nobody_is_in(pwru: Start) -> None:
    """It may be kept by something else than a process or a name, so this is no error."""
    note = "is in network namespace inode:1, and it has no name.\n"
    with pwru("--backend=tracepoint", "--filter-func=consume_skb", "--filter-netns=inode:1") as trace:
        assert trace.stop() == 0
    assert note in trace.err


@pytest.mark.one_kernel
def test_filter_mark(network: Network, pwru: Start) -> None:
    """0 is the packets without a mark, or without the bits of a mask."""
    wanted = {"0xa0/0xf0": ["a5"], "0": ["0"], "0/0x10": ["a5", "0"], "177": ["b1"], "0/0": ["b1", "a5", "0"]}
    flags = ("--filter-func", "__ip_local_out", "icmp and src host 10.9.0.1")
    with ExitStack() as stack:
        traces = {mark: stack.enter_context(pwru("--filter-mark", mark, *flags)) for mark in wanted}
        for mark in ("177", "165", "0"):  # 0xb1, 0xa5
            network.ping("-m", mark)
        for trace in traces.values():
            assert trace.stop() == 0
    assert {mark: [row["mark"] for row in trace.rows()] for mark, trace in traces.items()} == wanted


@pytest.mark.three_kernels
def test_output_limit_lines(network: Network, pwru: Start) -> None:
    with pwru("--output-limit-lines", "3", "--filter-func", "ip_rcv|__ip_local_out", "icmp") as trace:
        network.ping()
        network.ping()
        assert trace.process.wait(60) == 0
    assert len(trace.rows()) == 3
    assert trace.totals() == (3, 0)


@pytest.mark.three_kernels
def test_output_file_is_appended_to(network: Network, pwru: Start, tmp_path: Path) -> None:
    file = tmp_path / "events"
    for _ in range(2):
        with pwru("--output-file", str(file), "--filter-func", "icmp_rcv", "icmp[0] = 8") as trace:
            network.ping()
            trace.wait_for(lambda: file.exists() and file.read_text().endswith(" icmp_rcv\n"))
            trace.stop()
        assert trace.out == ""
        assert trace.totals() == (1, 0)
    lines = file.read_text().splitlines()
    assert [line.split()[0][:2] for line in lines] == ["SK", "0x", "0x"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.three_kernels
def test_ready_file(pwru: Start, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with pwru("--ready-file", str(ready), "--filter-func", "ip_rcv") as trace:
        assert ready.exists()
        trace.stop()


@pytest.mark.three_kernels
def test_the_examples_of_help(pwru: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names in them exist on every kernel."""
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^  pwru (.*)", sh("pwru", "--help").stdout, re.MULTILINE)
    assert len(examples) == 5
    for example in examples:
        words = shlex.split(example.replace("$$", str(os.getpid())))
        # Attaching to all functions is slow on some kernels, and is tested above.
        narrow = {"--filter-func", "--filter-drop-reason"} & set(words)
        with pwru(*words, *[] if narrow else ["--filter-func=ip_rcv"]) as trace:
            assert trace.stop() == 0
