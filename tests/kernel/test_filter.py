"""The packet filter agrees with libpcap on this kernel: tests/unit/filter/verdicts.py with fewer pairs.

Kernels differ in verifier and JIT; each is tested with bpf_rdonly_cast() or without, as it needs. After that, the flags
that are joined to the filter, with real packets.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE

import pytest

from pwru.kernel.kernel import Kernel
from pwru.sinks.text import cut
from tests.unit.filter import harness
from tests.unit.filter.headers import Headers
from tests.unit.filter.parsers import Parsers
from tests.unit.filter.shorthands import Shorthands
from tests.unit.filter.tags import Tags
from tests.unit.filter.verdicts import Verdicts
from vmtest.network import Network, sh
from vmtest.udp import send_udp

from .packets import connect
from .tracing import Start, Trace, fails

pytestmark = pytest.mark.two_kernels


class TestVerdicts(Verdicts):
    default_pairs = 6000


class TestHeaders(Headers):
    pass


class TestParsers(Parsers):
    pass


class TestShorthands(Shorthands):
    default_pairs = 2000
    per_filter = 20


class TestTags(Tags):
    every = 5


def test_nothing_is_skipped_for_the_harness() -> None:
    assert harness.OBJECT.exists(), "make -C tests/bpf"
    assert not harness.permitted()


PING, PONG = "10.9.0.1:0->10.9.0.2:0(icmp)", "10.9.0.2:0->10.9.0.1:0(icmp)"
PING6, PONG6 = "[fd09::1]:0->[fd09::2]:0(icmp6)", "[fd09::2]:0->[fd09::1]:0(icmp6)"
UDP = "10.9.0.1:7777->10.9.0.2:9999(udp)"  # answered by ICMP
TCP, RST = "10.9.0.1:PORT->10.9.0.2:9998(tcp)", "10.9.0.2:9998->10.9.0.1:PORT(tcp)"
FLAGS: dict[tuple[str, ...], set[str]] = {
    (): {PING, PONG, PING6, PONG6, UDP, TCP, RST},
    ("--src-ip=10.9.0.2/31",): {PONG, RST},
    ("--src-ip=fd09::2",): {PONG6},
    ("--sport=9998",): {RST},
    ("--dport=9999",): {UDP},
    ("--proto=58",): {PING6, PONG6},
    ("--dst-ip=10.9.0.1", "icmp or tcp"): {PONG, RST},
    ("--src-ip=10.9.0.1", "--dport=9998", "--proto=tcp", "not udp"): {TCP},
}


@pytest.mark.one_kernel
def test_flags_that_are_joined_to_the_filter(network: Network, pwru: Start) -> None:
    """Each passes the packets that it names, and no others of the same traffic."""
    with ExitStack() as stack:
        traces = {flags: stack.enter_context(pwru("--filter-func=ip_rcv|ipv6_rcv", *flags)) for flags in FLAGS}
        network.ping()
        network.ping("-6", to=network.destination6)
        send_udp(network, 1)
        connect(network, network.destination, 9998)
        for trace in traces.values():
            assert trace.stop() == 0
    assert {flags: tuples(trace) for flags, trace in traces.items()} == FLAGS


EXTENSION_HEADERS = """
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("v0", 0))
udp = struct.pack("!HHHH", 7, 5000, 8, 0)
options, last = struct.pack("!BBHI", 60, 0, 0x104, 0), struct.pack("!BBHI", 17, 0, 0x104, 0)
first, later = struct.pack("!BBHI", 17, 0, 1, 9), struct.pack("!BBHI", 17, 0, 0x101, 9)
chains = (17, b""), (0, last), (60, last), (0, options + last), (44, first), (44, later)
for number, (kind, data) in enumerate(chains):
    ip = struct.pack("!IHBB", 6 << 28, len(data) + 8, kind, 64) + bytes(15) + bytes((number + 1,)) + bytes(15) + b"\\2"
    for tag in (b"", struct.pack("!HH", 0x8100, 5), struct.pack("!HHHH", 0x88A8, 5, 0x8100, 6)):
        s.send(bytes(12) + tag + b"\\x86\\xdd" + ip + data + udp)
"""


@pytest.mark.one_kernel
def test_flags_find_what_the_tuple_shows(network: Network, pwru: Start) -> None:
    """After extension headers and tags, where libpcap does not look; a later fragment has no ports."""
    flags = ("--filter-func=dev_hard_start_xmit", "--filter-ifname=v0@if2", "--filter-netns=client", "--output-json")
    with ExitStack() as stack:
        port, protocol, address, typed, none = (
            stack.enter_context(pwru(*flags, *more))
            for more in (
                ("--dport=5000",),
                ("--proto=udp", "--dst-ip=::2"),
                ("--src-ip=::5",),
                ("--sport=7", "vlan 5"),
                ("--dport=5001",),
            )
        )
        network.python(network.client, EXTENSION_HEADERS)
        for trace in (port, protocol, address, typed, none):
            assert trace.stop() == 0
    # With two tags the tuple, too, is there.
    by_port = sorted(f"::{number}" for number in range(1, 6) for _ in range(3))
    assert sorted(event["tuple"]["saddr"] for event in port.objects()) == by_port
    assert {event["tuple"]["dport"] for event in port.objects()} == {5000}
    assert sorted(event["tuple"]["saddr"] for event in protocol.objects()) == sorted([*by_port, *["::6"] * 3])
    assert [event["tuple"]["saddr"] for event in address.objects()] == ["::5"] * 3
    assert len(typed.objects()) == 10
    assert none.objects() == []


def test_by_process(network: Network, pwru: Start) -> None:
    """Two processes send; each filter shows only one of them."""
    with subprocess.Popen(
        ["ip", "netns", "exec", network.client, "python3", "-c", ONE_PACKET], stdin=PIPE, stdout=PIPE, text=True
    ) as sender:
        assert sender.stdout
        pid = int(sender.stdout.readline())
        flags = ("--filter-func=__ip_local_out", f"dst host {network.destination}")
        with (
            pwru("--filter-pid", str(pid), *flags) as by_pid,
            pwru("--filter-comm", "by any other", *flags) as by_comm,
            pwru("--filter-comm", "by any", *flags) as by_half,
            pwru("--filter-pid", str(pid), "--filter-comm", "ping", *flags) as by_both,
        ):
            network.ping()
            sender.communicate("go\n")
            for trace in (by_pid, by_comm, by_half, by_both):
                assert trace.stop() == 0
    assert [row["process"] for row in by_pid.rows()] == [cut(f"by any other:{pid}")]
    assert [row["process"] for row in by_comm.rows()] == [cut(f"by any other:{pid}")]
    assert by_half.rows() == by_both.rows() == []
    assert fails("--filter-pid", f"{pid}") == f"pwru: --filter-pid: there is no process {pid}"


@pytest.fixture
def container() -> Iterator[tuple[str, ...]]:
    """The start of a command that runs in a PID namespace with a /proc of its own."""
    hold = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", "echo; exec sleep infinity"]
    with subprocess.Popen(hold, stdout=PIPE, text=True) as holder:
        assert holder.stdout
        holder.stdout.readline()
        yield "nsenter", "-t", f"{youngest(holder.pid)}", "--pid", "--mount"
        holder.kill()


def youngest(pid: int) -> int:
    """The child of a process, or a child's child, that has none itself."""
    while children := subprocess.run(["pgrep", "-P", f"{pid}"], capture_output=True, text=True, check=False).stdout:
        pid = int(children)
    return pid


def test_by_process_in_a_container(network: Network, tmp_path: Path, container: tuple[str, ...]) -> None:
    """The PID is that of /proc there, even of a process in a container inside; PROCESS has the host's."""
    deeper = ("unshare", "--pid", "--fork")
    command = [*container, *deeper, "ip", "netns", "exec", network.client, "python3", "-c", ONE_PACKET]
    with subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True) as sender:
        assert sender.stdout
        innermost = sender.stdout.readline().strip()
        pid = youngest(sender.pid)
        (numbers,) = re.findall(r"^NSpid:(.*)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        assert numbers.split()[2:] == [innermost]
        flags = ("--filter-func=__ip_local_out", "--output-limit-lines=1", f"dst host {network.destination}")
        for name in ("inside", "outside"):
            (tmp_path / name).mkdir()
        with (
            Trace(tmp_path / "inside", ("--filter-pid", numbers.split()[1], *flags), container) as inside,
            Trace(tmp_path / "outside", ("--filter-pid", f"{pid}", *flags)) as outside,
        ):
            network.ping()
            subprocess.run([*container, "ip", "netns", "exec", network.client, "ping", "-c1", "10.9.0.2"], check=True)
            sender.communicate("go\n")
            for trace in (inside, outside):
                trace.wait_until_it_ends()
    for trace in (inside, outside):
        assert [row["process"] for row in trace.rows()] == [cut(f"by any other:{pid}")]


ONE_PACKET = """
import os, socket, sys
open("/proc/self/comm", "w").write("by any other")
print(os.getpid(), flush=True)
sys.stdin.readline()
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("10.9.0.2", 7777))
"""


def test_drop_reasons(network: Network, firewall: int, pwru: Start) -> None:
    """A firewall drops, and a socket is missing: each reason alone, both, and any. None shows packets that arrive."""
    known = Kernel().drop_reasons
    wanted = {"any": {"NETFILTER_DROP", "NO_SOCKET"} if known else {""}}
    if known:
        ((number, _),) = known.wanted(("NO_SOCKET",))
        wanted |= {"netfilter_drop": {"NETFILTER_DROP"}, f"{number}": {"NO_SOCKET"}}
        wanted |= {"NO_SOCKET,SKB_DROP_REASON_NETFILTER_DROP": {"NO_SOCKET", "NETFILTER_DROP"}}
    with ExitStack() as stack:
        traces = {
            reasons: stack.enter_context(pwru("--filter-drop-reason", reasons, f"dst host {network.destination}"))
            for reasons in wanted
        }
        network.ping()
        connect(network, network.destination, firewall)
        send_udp(network, 1)
        for trace in traces.values():
            assert trace.stop() == 0
    for reasons, names in wanted.items():
        rows = traces[reasons].rows()
        funcs = [re.fullmatch(r"tracepoint:kfree_skb(?:\(SKB_DROP_REASON_(\w+)\))? \w+\+0x.*", r["func"]) for r in rows]
        assert {func and (func[1] or "") for func in funcs} == names, rows
        assert not any("icmp" in row["tuple"] for row in rows)
    if known:
        assert "did you mean NETFILTER_DROP" in fails("--filter-drop-reason", "netfilter_dorp")
    else:
        assert "does not report drop reasons" in fails("--filter-drop-reason", "NO_SOCKET")


TAGGED = """
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("v0", 0))
for vid in (10, 11):
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, bytes((10, 8, 0, vid)), bytes((10, 8, 0, 2)))
    s.send(bytes(12) + struct.pack("!HHH", 0x8100, vid, 0x800) + ip + struct.pack("!HHHH", 7, 8, 8, 0) + bytes(20))
"""


def test_vlan(network: Network, pwru: Start, tmp_path: Path) -> None:
    """A tag in the packet's bytes, and one in the skb that the hardware inserts later; also in a recording."""
    for vid in (10, 11):
        link = ("link", "v0", "name", f"v0.{vid}", "type", "vlan", "id", f"{vid}")
        network.ip(network.client, "link", "add", *link)
        network.ip(network.client, "address", "add", f"10.8.{vid}.1/24", "dev", f"v0.{vid}")
        network.ip(network.client, "link", "set", f"v0.{vid}", "up")
        neighbour = (f"10.8.{vid}.2", "lladdr", "02:00:00:00:00:99", "dev", f"v0.{vid}")
        network.ip(network.client, "neigh", "add", *neighbour)
    recording = str(tmp_path / "vlan.pwru")
    try:
        wanted = {
            "vlan 10 and udp": {("own", 10), ("bytes", 10)},
            "vlan 11 and udp": {("own", 11), ("bytes", 11)},
            "vlan and dst host 10.8.10.2": {("own", 10)},
            "vlan and src host 10.8.0.11": {("bytes", 11)},
            "dst host 10.8.11.2": {("own", 11)},
            "udp port 8 or (vlan and udp port 8)": {(where, vid) for where in ("own", "bytes") for vid in (10, 11)},
            "udp port 9 or (vlan 11 and udp port 8)": {("own", 11), ("bytes", 11)},
            "udp port 8 and not vlan 10": set(),
        }
        with ExitStack() as stack:
            flags = ("--filter-func=dev_hard_start_xmit", "--filter-ifname=v0@if2", "--filter-netns=client")
            traces = {text: stack.enter_context(pwru(*flags, text)) for text in wanted}
            all_of_them = stack.enter_context(pwru(*flags, "-w", recording))
            for vid in (10, 11):
                code = (
                    f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ('10.8.{vid}.2', 8))"
                )
                network.python(network.client, code)
            network.python(network.client, TAGGED)
            for trace in (*traces.values(), all_of_them):
                assert trace.stop() == 0
    finally:
        for vid in (10, 11):
            network.ip(network.client, "link", "delete", f"v0.{vid}")
    sources = {
        "10.8.10.1": ("own", 10),
        "10.8.11.1": ("own", 11),
        "10.8.0.10": ("bytes", 10),
        "10.8.0.11": ("bytes", 11),
    }

    def seen(out: str) -> set[tuple[str, int]]:
        return {sources[source] for source in re.findall(r" (10\.8\.[0-9.]+):\d+->", out)}

    assert {text: seen(trace.out) for text, trace in traces.items()} == wanted
    assert {text: seen(sh("pwru", "-r", recording, text).stdout) for text in wanted} == wanted


PRIORITIES = """
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("v0", 0))
ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, bytes((10, 8, 0, 1)), bytes((10, 8, 0, 2)))
udp = struct.pack("!HHHH", 7, 8, 8, 0)
for protocol, priority in ((0x0800, 0), (0x0800, 2), (0x0800, 3), (0x1234, 2)):
    s.send(bytes(12) + struct.pack("!HHH", 0x8100, priority << 13 | 5, protocol) + ip + udp + bytes(20))
"""


def test_the_tuple_behind_a_tag(network: Network, pwru: Start) -> None:
    """On receipt the network header is at the tag, whose priority may look like an IP version."""
    with pwru("--filter-func=skb_vlan_untag", "vlan 5") as trace:
        network.python(network.client, PRIORITIES)
        trace.wait_for(lambda: trace.out.count("\n") == 5)
        assert trace.stop() == 0
    assert [row["tuple"] for row in trace.rows()] == ["10.8.0.1:7->10.8.0.2:8(udp)"] * 3 + [None]


def test_a_link_layer_that_is_not_there_yet(network: Network, pwru: Start) -> None:
    """Conditions on it are false, but only these parts of the filter."""
    # `ether host` can be decided only where the header exists.
    both, late = {"__ip_local_out", "dev_hard_start_xmit"}, {"dev_hard_start_xmit"}
    wanted = {
        "ether broadcast or icmp": both,
        "icmp and not vlan": both,
        "icmp and not ether host 02:00:00:00:00:99": both,
        "icmp and ether proto 0x800": both,
        "icmp and not ether multicast and ether[6] & 1 = 0": both,
        "icmp and not ether src 00:00:00:00:00:00": late,
        "vlan and icmp": set(),
    }
    with ExitStack() as stack:
        flags = ("--filter-func=__ip_local_out|dev_hard_start_xmit", f"--filter-netns=/run/netns/{network.client}")
        traces = {text: stack.enter_context(pwru(*flags, text)) for text in wanted}
        network.ping()
        for trace in traces.values():
            assert trace.stop() == 0
    assert {text: {row["func"] for row in trace.rows()} for text, trace in traces.items()} == wanted


def test_which_way_a_packet_goes(network: Network, pwru: Start) -> None:
    """The pcap filter cannot tell; the functions that the message names can."""
    with ExitStack() as stack:
        traces = []
        for word in ("inbound", "outbound"):
            line = fails(f"icmp and {word}")
            instead = re.search(rf"`{word}` is not in the packet; .*: --filter-func '(.*)'$", line)
            assert instead, line
            flags = (f"--filter-func={instead[1]}", f"--filter-netns=/run/netns/{network.client}", "icmp")
            traces.append(stack.enter_context(pwru(*flags)))
        network.ping()
        for trace in traces:
            assert trace.stop() == 0
    received, sent = map(tuples, traces)
    assert (received, sent) == ({PONG}, {PING})


def tuples(trace: Trace) -> set[str]:
    """The tuples of the traffic above, without what IPv6 sends by itself."""
    seen = {re.sub(r"10\.9\.0\.1:\d+(?=.*\(tcp\))", "10.9.0.1:PORT", row["tuple"]) for row in trace.rows()}
    return {each for each in seen if not each.endswith("(icmp6)") or each in (PING6, PONG6)}
