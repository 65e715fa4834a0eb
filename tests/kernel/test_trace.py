"""The main job: real packets between two namespaces, and what pwru says about them."""

from __future__ import annotations

import os
import signal
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pwru.kernel.btf import FUNC, vmlinux_btf
from pwru.libbpf import possible_cpus

from .conftest import Network, Trace, in_order, sh

Start = Callable[..., Trace]

BTF = vmlinux_btf()
WITHOUT = {
    "kprobe-multi": None if BTF.find("register_fprobe_ips", FUNC) else "this kernel has no FPROBE",
    "kprobe": None if BTF.find("register_kprobe", FUNC) else "this kernel has no kprobes",
    "tracepoint": None,
}
# The functions that drop, newest first; commit c504e5c2f964 ("net: skb: introduce kfree_skb_reason()"), in v5.17, and
# commit ba8de796baf4 ("net: introduce sk_skb_reason_drop function"), in v6.11.
DROP = next(name for name in ("sk_skb_reason_drop", "kfree_skb_reason", "kfree_skb") if BTF.find(name, FUNC))
HAS_REASON = BTF.enum("skb_drop_reason") is not None
# Few enough that single probes are attached in a moment.
SOME = rf"__ip_local_out|ip6_output|ip_rcv|ipv6_rcv|ip_local_deliver|ip6_input|nf_hook_slow|{DROP}"

each_backend = pytest.mark.parametrize(
    "backend",
    [pytest.param(name, marks=pytest.mark.skipif(why is not None, reason=why or "")) for name, why in WITHOUT.items()],
)
each_function_backend = pytest.mark.parametrize(
    "backend",
    [
        pytest.param(name, marks=pytest.mark.skipif(why is not None, reason=why or ""))
        for name, why in WITHOUT.items()
        if name != "tracepoint"
    ],
)


@pytest.fixture
def firewall(network: Network) -> Iterator[int]:
    """A port that the server drops, by IPv4 and IPv6."""
    port = 8080
    rules = f"""
    table inet test {{
        chain input {{
            type filter hook input priority 0
            tcp dport {port} drop
        }}
    }}
    """
    sh("ip", "netns", "exec", network.server, "nft", "-f", "-", text=rules)
    yield port
    sh("ip", "netns", "exec", network.server, "nft", "delete", "table", "inet", "test")


def connect(network: Network, address: str, port: int) -> None:
    family = "AF_INET6" if ":" in address else "AF_INET"
    code = f"import socket; s = socket.socket(socket.{family}); s.settimeout(0.2); s.connect_ex(({address!r}, {port}))"
    network.python(network.client, code)


def send_udp(network: Network, count: int, size: int = 64, options: str = "") -> None:
    """UDP from port 7777 to port 9999, where nobody listens."""
    network.python(
        network.client,
        f"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 7777)); {options}\n"
        f"for _ in range({count}):\n"
        f"    try: s.sendto(bytes({size}), ('{network.destination}', 9999))\n"
        "    except ConnectionRefusedError: pass",
    )


def netns_inode(netns: str) -> int:
    return os.stat(f"/run/netns/{netns}").st_ino


def funcs(trace: Trace) -> list[str]:
    return [row["func"] for row in trace.rows()]


def test_the_way_of_a_ping(network: Network, pwru: Start) -> None:
    """With nothing but a filter: all functions, by the best backend; a request from where it is made to its end."""
    with pwru(f"icmp and src host {network.source}") as trace:
        network.ping()
        trace.wait_for_func(r"icmp_rcv\n(?s:.*) kfree_skbmem\n")
        assert trace.stop() == 0
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
    assert (out["netns"], out["iface"], out["mtu"], out["len"]) == (client, "0", "0", "84")
    assert (forward["netns"], forward["iface"], forward["mtu"], forward["len"]) == (client, "v0:2", "1500", "98")
    assert (rcv["netns"], rcv["iface"], rcv["proto"], rcv["len"]) == (server, "v1:2", "0x0800", "84")
    assert out["process"].startswith("ping:")
    assert all(int(row["cpu"]) < possible_cpus() for row in rows)
    assert trace.totals() == (len(rows), 0)


@each_backend
@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_a_dropped_syn(network: Network, firewall: int, pwru: Start, backend: str, family: str) -> None:
    """From the sender to the drop, reason included."""
    address = network.destination if family == "ipv4" else network.destination6
    only = () if backend == "tracepoint" else ("--filter-func", SOME)
    with pwru("--backend", backend, *only, f"dst host {address} and tcp dst port {firewall}") as trace:
        connect(network, address, firewall)
        trace.wait_for_func(" tracepoint:kfree_skb" if backend == "tracepoint" else f" {DROP}")
        assert trace.stop() == 0
    rows = trace.rows()
    reason = "(SKB_DROP_REASON_NETFILTER_DROP)" if HAS_REASON else ""
    if backend == "tracepoint":
        way = ["tracepoint:net_dev_queue", "tracepoint:netif_receive_skb", "tracepoint:kfree_skb"]
        (drop,) = [row for row in rows if row["func"].startswith("tracepoint:kfree_skb")]
        func, _, place = drop["func"].partition(" ")
        assert func == f"tracepoint:kfree_skb{reason}"
        assert place.startswith(("nf_hook_slow+0x", "nft_do_chain+0x"))
    else:
        rcv = ["ip_rcv", "ip_local_deliver"] if family == "ipv4" else ["ipv6_rcv", "ip6_input"]
        out = ["__ip_local_out"] if family == "ipv4" else ["ip6_output"]
        way = [*out, *rcv, "nf_hook_slow", DROP]
        (drop,) = [row for row in rows if row["func"].startswith(DROP)]
        assert drop["func"] == f"{DROP}{reason}"
    assert in_order(way, [func.partition("(")[0].partition(" ")[0] for func in funcs(trace)])
    assert drop["iface"] == "v1:2"
    assert drop["netns"] == str(netns_inode(network.server))
    left, right = ("10.9.0.1:", "->10.9.0.2:") if family == "ipv4" else ("[fd09::1]:", "->[fd09::2]:")
    assert drop["tuple"].startswith(left)
    assert drop["tuple"].endswith(f"{right}{firewall}(tcp)")
    assert trace.totals() == (len(rows), 0)


@each_backend
def test_what_does_not_match_is_not_printed(network: Network, pwru: Start, backend: str) -> None:
    only = () if backend == "tracepoint" else ("--filter-func", SOME)
    with (
        pwru("--backend", backend, *only, "host 192.0.2.77 or arp host 192.0.2.77") as silent,
        pwru("--backend", backend, *only, f"icmp and host {network.destination}") as witness,
    ):
        network.ping()
        witness.wait_for_func(r" (ip_rcv|tracepoint:netif_receive_skb)\n")
        assert witness.stop() == silent.stop() == 0
    assert witness.rows()
    assert silent.rows() == []
    assert silent.totals() == (0, 0)


def test_icmp6(network: Network, pwru: Start) -> None:
    with pwru("--filter-func", "ipv6_rcv|icmpv6_rcv", f"icmp6 and src host {network.source6}") as trace:
        network.ping("-6", to=network.destination6)
        trace.wait_for_func(" icmpv6_rcv")
        trace.stop()
    echo = [row for row in trace.rows() if row["tuple"] == "[fd09::1]:0->[fd09::2]:0(icmp6)"]
    assert in_order(["ipv6_rcv", "icmpv6_rcv"], [row["func"] for row in echo])
    assert {row["proto"] for row in echo} == {"0x86dd"}


def test_ipv6_extension_headers_are_passed_over(network: Network, pwru: Start) -> None:
    """The ports of a UDP packet behind hop-by-hop and destination options (RFC 8200)."""
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


def test_arp_has_no_tuple(network: Network, pwru: Start) -> None:
    with pwru("--filter-func", "arp_rcv", "arp") as trace:
        sh("ip", "-n", network.client, "neigh", "flush", "dev", "v0")
        network.ping()
        trace.wait_for_func(" arp_rcv")
        trace.stop()
    assert {(row["proto"], row["tuple"]) for row in trace.rows()} == {("0x0806", None)}


def test_json_says_what_text_says(network: Network, pwru: Start) -> None:
    """Both at once, so that they see the very same hits."""
    arguments = ("--filter-func", SOME, f"icmp and host {network.source}")
    with pwru(*arguments) as text, pwru("--output-json", *arguments) as json:
        network.ping()
        for trace in (text, json):
            trace.wait_for(lambda trace=trace: trace.out.count("ip_local_deliver") >= 2)  # type: ignore[misc]
            assert trace.stop() == 0
    objects = json.objects()
    assert len(objects) == json.totals()[0]
    keys = ["skb", "cpu", "process", "netns", "mark", "iface", "proto", "mtu", "len", "tuple", "func"]
    assert {tuple(o) for o in objects} == {tuple(keys)}

    def as_row(o: dict[str, Any]) -> dict[str, str]:
        t = o["tuple"]
        assert (t["sport"], t["dport"], t["proto"]) == (None, None, 1)
        row = {key: str(o[key]) for key in ("skb", "cpu", "process", "netns", "iface", "mtu", "len", "func")}
        return {
            **row,
            "mark": f"{o['mark']:x}",
            "proto": f"0x{o['proto']:04x}",
            "tuple": f"{t['saddr']}:0->{t['daddr']}:0(icmp)",
        }

    assert Counter(frozenset(as_row(o).items()) for o in objects) == Counter(frozenset(r.items()) for r in text.rows())


@each_function_backend
def test_filter_func_is_whole_names(network: Network, pwru: Start, backend: str) -> None:
    with pwru("--backend", backend, "--filter-func", "ip_rcv|ip_local_deliver", "icmp") as trace:
        network.ping()
        trace.wait_for(lambda: trace.out.count(" ip_local_deliver\n") >= 2)
        trace.stop()
    assert "Attached to 2 functions" in trace.err
    assert Counter(funcs(trace)) == {"ip_rcv": 2, "ip_local_deliver": 2}


@pytest.mark.parametrize("by", ["path", "inode"])
def test_filter_netns(network: Network, pwru: Start, by: str) -> None:
    inode = netns_inode(network.server)
    spec = f"/run/netns/{network.server}" if by == "path" else f"inode:{inode}"
    with pwru("--filter-netns", spec, "--filter-func", "__ip_local_out|ip_rcv", "icmp") as trace:
        network.ping()
        trace.wait_for(lambda: len(trace.out.splitlines()) >= 3)
        trace.stop()
    # The request comes in, the answer goes out; the client's half of both is not there.
    assert funcs(trace) == ["ip_rcv", "__ip_local_out"]
    assert {row["netns"] for row in trace.rows()} == {str(inode)}


def test_filter_ifname(network: Network, pwru: Start) -> None:
    netns = f"/run/netns/{network.client}"
    with pwru(
        "--filter-netns", netns, "--filter-ifname", "v0", "--filter-func", "ip_rcv|ip_finish_output", "icmp"
    ) as t:
        network.ping()
        # Another device with the same index, in the other namespace, and the same namespace's loopback.
        network.run(network.client, "ping", "-n", "-c1", "-W5", network.source)
        t.wait_for_func(r" ip_finish_output\n(?s:.*) ip_rcv\n")
        t.stop()
    assert funcs(t) == ["ip_finish_output", "ip_rcv"]
    assert {row["iface"] for row in t.rows()} == {"v0:2"}


def test_filter_mark(network: Network, pwru: Start) -> None:
    with pwru("--filter-mark", "0xa0/0xf0", "--filter-func", "__ip_local_out", "icmp") as trace:
        for mark in ("177", "165", "0"):  # 0xb1, 0xa5
            network.ping("-m", mark)
        trace.wait_for_func(" __ip_local_out")
        trace.stop()
    assert [row["mark"] for row in trace.rows()] == ["a5"]


def test_output_limit_lines(network: Network, pwru: Start) -> None:
    with pwru("--output-limit-lines", "3", "--filter-func", SOME, "icmp") as trace:
        network.ping()
        network.ping()
        assert trace.process.wait(60) == 0
    assert len(trace.rows()) == 3
    assert trace.totals() == (3, 0)


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
    assert [line.split()[0][:2] for line in lines] == ["SK", "0x", "SK", "0x"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_ready_file(pwru: Start, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with pwru("--ready-file", str(ready), "--filter-func", "ip_rcv") as trace:
        assert ready.exists()
        trace.stop()


@each_function_backend
def test_every_hit_is_a_line_or_lost(network: Network, pwru: Start, backend: str) -> None:
    """A reader that stands still while more hits come than the ring buffer holds: none is unaccounted for."""
    arguments = ("--backend", backend, "--filter-func", "ip_rcv.*|ip_local_deliver.*|udp_rcv|__udp4_lib_rcv|ip_route.*",
                 f"udp dst port 9999 and dst host {network.destination}")  # fmt: skip
    few, many = 10, 12_000
    with pwru(*arguments) as trace:
        send_udp(network, few)
        trace.wait_for(lambda: trace.out.count(" ip_rcv\n") == few)
        trace.stop()
    events, lost = trace.totals()
    assert (len(trace.rows()), lost) == (events, 0)
    per_packet, rest = divmod(events, few)
    assert per_packet >= 6
    assert rest <= per_packet  # the first packet is routed, and its route kept
    with pwru(*arguments) as trace:
        trace.process.send_signal(signal.SIGSTOP)
        send_udp(network, many)
        trace.process.send_signal(signal.SIGCONT)
        trace.stop()
    events, lost = trace.totals()
    assert len(trace.rows()) == events
    assert events > 50_000  # what fits the ring buffer is there
    assert lost > 0
    assert abs(events + lost - per_packet * many) <= 3 * per_packet
