"""Each backend works on the kernels that vmtest/kernels.py lists for it, and is refused with a reason on the others.

On a machine with none of these kernels only tracepoints are traced.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pwru import libbpf
from pwru.ebpf import RETURN_0
from pwru.kernel.btf import VMLINUX
from pwru.live import backends as probes
from vmtest.network import Network
from vmtest.udp import send_udp

from .backends import BACKENDS, KERNEL, btf, drop_function, each_backend, few_functions
from .packets import connect, netns_inode, send_udp6
from .tracing import Start, fails, funcs, in_order


def _not_here() -> str | None:
    """Return why tracepoints cannot be traced on this machine, or None."""
    if os.geteuid() != 0:
        return "not run as root"
    if missing := [tool for tool in ("ip", "nft", "ping", "pwru") if not shutil.which(tool)]:
        return f"{' and '.join(missing)} missing"
    if not Path(VMLINUX).exists():
        return "its kernel has no BTF"
    if subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode:
        return "no network namespaces can be made"
    try:
        os.close(libbpf.prog_load(libbpf.BPF_PROG_TYPE_RAW_TRACEPOINT, RETURN_0))
    except OSError as error:
        return f"BPF programs cannot be loaded ({error.strerror})"
    return None


@pytest.fixture(scope="module", autouse=True)
def _can_be_traced() -> None:
    if not KERNEL and (why := _not_here()):
        pytest.exit(f"nothing is traced on the machine itself: {why}", returncode=0)


LACKS = {
    "kprobe-multi": r"without CONFIG_FPROBE|older than kprobe-multi links \(Linux 5\.18\)",
    "fentry-multi": r"older than .*\(Linux 7\.2\)",
}


def names(way: list[str]) -> list[str]:
    """The functions without the reason and the location of a drop."""
    return [re.split(r"[( ]", func)[0] for func in way]


def test_the_list_is_complete() -> None:
    """Every backend is tested: the backends that the list lacks are refused."""
    assert KERNEL is None or set(LACKS) >= set(probes.BACKENDS) - set(KERNEL.backends)
    assert [name for name in probes.BACKENDS if name in BACKENDS] == list(BACKENDS)


@pytest.mark.parametrize("backend", [name for name in probes.BACKENDS if name not in BACKENDS])
def test_refused(backend: str) -> None:
    line = fails("--backend", backend, "--filter-func", "ip_rcv", "icmp")
    assert re.search(rf"{backend}: .*({LACKS[backend]})", line)


def test_the_best_is_taken(pwru: Start) -> None:
    """One line says why the better backends could not be used."""
    with pwru("--filter-func", "ip_rcv|ip_local_deliver") as trace:
        assert trace.stop() == 0
    better = probes.BACKENDS[: probes.BACKENDS.index(BACKENDS[0])]
    said = [line for line in trace.err.splitlines() if not line.startswith("Attaching: ")]  # if it takes longer
    *reasons, attached, listening, _ = said
    expected = "; ".join(f"{name}: .*({LACKS[name]})" for name in better)
    assert len(reasons) == bool(better)
    assert all(re.fullmatch(rf"Not available: {expected}\.", line) for line in reasons)
    assert attached == f"Attached to 2 functions ({BACKENDS[0]})."
    assert listening == "Listening for events.."


@each_backend
def test_a_ping_in_text_and_json(network: Network, pwru: Start, backend: str) -> None:
    """Traced at the same time, so that both see the same hits. Request and reply are one skb each, end to end.

    What does not match is not printed.
    """
    arguments = (*few_functions(backend), f"icmp and host {network.source}")
    way = (
        ["tracepoint:net_dev_queue", "tracepoint:net_dev_start_xmit", "tracepoint:netif_receive_skb"]
        if backend == "tracepoint"
        else ["__ip_local_out", "ip_rcv", "ip_local_deliver"]
    )
    with (
        pwru(*arguments) as text,
        pwru("--output-json", *arguments) as json,
        pwru(*few_functions(backend), "host 192.0.2.77 or arp host 192.0.2.77") as silent,
    ):
        network.ping()
        for trace in (text, json):
            trace.wait_for(lambda trace=trace: trace.out.count(way[-1]) >= 2)  # type: ignore[misc]
        for trace in (text, json, silent):
            assert trace.stop() == 0
    assert silent.rows() == []
    assert silent.totals() == (0, 0)
    rows, objects = text.rows(), json.objects()
    for left, right in ((network.source, network.destination), (network.destination, network.source)):
        one = [row for row in rows if row["tuple"] == f"{left}:0->{right}:0(icmp)"]
        assert in_order(way, names([row["func"] for row in one if row["skb"] == one[0]["skb"]]))
    assert (len(rows), 0) == text.totals()
    assert (len(objects), 0) == json.totals()
    keys = ["skb", "cpu", "process", "netns", "mark", "iface", "proto", "mtu", "len", "tuple", "func"]
    # some tracepoints report a location
    assert {tuple(o) for o in objects} <= {tuple(keys), (*keys, "caller_func")}

    def as_row(o: dict[str, Any]) -> dict[str, str]:
        t = o["tuple"]
        assert (t["sport"], t["dport"], t["proto"]) == (None, None, 1)
        row = {key: str(o[key]) for key in ("skb", "cpu", "process", "netns", "iface", "mtu", "len")}
        return {
            **row,
            "func": " ".join(o[key] for key in ("func", "caller_func") if key in o),
            "mark": f"{o['mark']:x}",
            "proto": f"0x{o['proto']:04x}",
            "tuple": f"{t['saddr']}:0->{t['daddr']}:0(icmp)",
        }

    assert Counter(frozenset(as_row(o).items()) for o in objects) == Counter(frozenset(r.items()) for r in rows)


@each_backend
def test_a_dropped_syn(network: Network, firewall: int, pwru: Start, backend: str) -> None:
    """From the sender to the drop, with its reason."""
    drops = "tracepoint:kfree_skb" if backend == "tracepoint" else drop_function()
    both = network.destination, network.destination6
    to = " or ".join(f"dst host {address}" for address in both)
    with pwru(*few_functions(backend), f"({to}) and tcp dst port {firewall}") as trace:
        for address in both:
            connect(network, address, firewall)
        trace.wait_for(lambda: trace.out.count(f" {drops}") >= len(both))
        assert trace.stop() == 0
    rows = trace.rows()
    assert trace.totals() == (len(rows), 0)
    received = {"10.9.0.": ["ip_rcv", "ip_local_deliver"], "[fd09::": ["ipv6_rcv", "ip6_input"]}
    sent = {"10.9.0.": "__ip_local_out", "[fd09::": "ip6_output"}
    for start, rcv in received.items():
        own = [row for row in rows if row["tuple"].startswith(start)]
        way = [sent[start], *rcv, "nf_hook_slow", drops]
        if backend == "tracepoint":
            way = ["tracepoint:net_dev_queue", "tracepoint:netif_receive_skb", drops]
        assert in_order(way, names([row["func"] for row in own]))
        (drop,) = [row for row in own if row["func"].startswith(drops)]
        func, _, place = drop["func"].partition(" ")
        assert func == f"{drops}{'(SKB_DROP_REASON_NETFILTER_DROP)' if btf().enum('skb_drop_reason') else ''}"
        assert backend != "tracepoint" or place.startswith(("nf_hook_slow+0x", "nft_do_chain+0x"))
        assert drop["iface"] == "v1:2"
        assert drop["netns"] == str(netns_inode(network.server))
        closed = "]" if start.startswith("[") else ""
        assert drop["tuple"].startswith(f"{start}1{closed}:")
        assert drop["tuple"].endswith(f"->{start}2{closed}:{firewall}(tcp)")


@each_backend
def test_udp_by_ipv6(network: Network, pwru: Start, backend: str) -> None:
    """One packet to a closed port is one skb with one tuple, from one namespace to the other."""
    with pwru(*few_functions(backend), f"udp and dst host {network.destination6}") as trace:
        send_udp6(network)
        trace.wait_for_func(r" tracepoint:(kfree|consume)_skb" if backend == "tracepoint" else f" {drop_function()}")
        assert trace.stop() == 0
    rows = trace.rows()
    assert {row["tuple"] for row in rows} == {"[fd09::1]:7777->[fd09::2]:9999(udp)"}
    assert len({row["skb"] for row in rows}) == 1
    way = (
        ["tracepoint:net_dev_queue", "tracepoint:netif_receive_skb"]
        if backend == "tracepoint"
        else ["ip6_output", "ipv6_rcv", "ip6_input"]
    )
    assert in_order(way, names(funcs(trace)))
    by_func = dict(zip(names(funcs(trace)), rows, strict=True))
    assert by_func[way[0]]["netns"] == str(netns_inode(network.client))
    assert by_func[way[-1]]["netns"] == str(netns_inode(network.server))
    assert trace.totals() == (len(rows), 0)


@each_backend
def test_filter_func_is_whole_names(network: Network, pwru: Start, backend: str) -> None:
    out, back = ("net_dev_queue", "netif_rx") if backend == "tracepoint" else ("ip_rcv", "ip_local_deliver")
    with pwru("--backend", backend, "--filter-func", f"{out}|{back}", "icmp") as trace:
        network.ping()
        trace.wait_for(lambda: trace.out.count(f"{back}\n") >= 2)
        trace.stop()
    assert trace.err.startswith("Attached to 2 ")
    assert Counter(func.removeprefix("tracepoint:") for func in funcs(trace)) == {out: 2, back: 2}


@each_backend
def test_every_hit_is_a_line_or_lost(network: Network, pwru: Start, backend: str) -> None:
    """Even if more events arrive than the ring buffer holds while pwru is stopped."""
    # Passed once by every packet. Excludes ICMP errors, of which only some are sent, and the route lookup, in which the
    # first packets pass other functions than the rest.
    each_once = (
        "net_dev_queue|net_dev_start_xmit|net_dev_xmit|netif_rx|netif_receive_skb|kfree_skb"
        if backend == "tracepoint"
        else "ip_rcv|ip_rcv_core.*|ip_local_deliver|ip_protocol_deliver_rcu|udp_rcv|__udp4_lib_rcv"
    )
    expression = f"udp dst port 9999 and dst host {network.destination}"
    arguments = ("--backend", backend, "--filter-func", each_once, expression)
    received = r" (ip_rcv|tracepoint:netif_receive_skb)\n"
    few, many = 10, 1000
    with pwru(*arguments) as trace:
        send_udp(network, few)
        trace.wait_for(lambda: len(re.findall(received, trace.out)) == few)
        trace.stop()
    events, lost = trace.totals()
    assert (len(trace.rows()), lost) == (events, 0)
    per_packet, remainder = divmod(events, few)
    assert per_packet >= 4
    assert remainder == 0
    with pwru("--ring-buffer-size=256K", *arguments) as trace:
        trace.process.send_signal(signal.SIGSTOP)
        send_udp(network, many)
        trace.process.send_signal(signal.SIGCONT)
        trace.stop()
    events, lost = trace.totals()
    assert len(trace.rows()) == events
    assert events > 1800  # as many as fit in the ring buffer, at 136 or 144 bytes each
    assert lost > 0
    assert events + lost == per_packet * many
