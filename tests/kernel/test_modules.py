"""Functions of modules: of named ones, of all, and of modules that come and go during a trace."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pwru.kernel import modules
from pwru.kernel.kernel import Kernel
from pwru.kernel.places import Places
from vmtest.network import Network, sh

from .backends import BACKENDS, each_function_backend
from .leftovers import probes, traces, wait_for
from .tracing import Start, Trace, fails
from .tunnels import REMOTE, tunnel

pytestmark = pytest.mark.usefixtures("nothing_left")

HAVE_BTF = not modules.without_btf(["virtio_blk"])
needs_btf = pytest.mark.skipif(not HAVE_BTF, reason="this kernel has no BTF of its modules")


@contextmanager
def loaded(*names: str) -> Iterator[None]:
    """Load the modules, and unload them afterwards with all of their devices."""
    sh("modprobe", "--all", *names)
    yield
    sh("modprobe", "--remove", *reversed(names))


def dummy_traffic() -> None:
    """Send a packet through a dummy device that exists only for it."""
    sh("ip", "link", "add", "d0", "type", "dummy")
    sh("ip", "address", "add", "10.7.0.1/24", "dev", "d0")
    sh("ip", "link", "set", "d0", "up", "arp", "off")
    sh("ping", "-n", "-c1", "-W0.1", "10.7.0.2", check=False)
    sh("ip", "link", "delete", "d0")


@contextmanager
def paused(trace: Trace) -> Iterator[None]:
    """Stop the tracer meanwhile, as a slow reader of its output would."""
    trace.process.send_signal(signal.SIGSTOP)
    yield
    trace.process.send_signal(signal.SIGCONT)


def holds(trace: Trace) -> tuple[object, ...]:
    """What the tracer has in the kernel, and how many open files."""
    return traces(), len(list(Path(f"/proc/{trace.process.pid}/fd").iterdir()))


def pings(trace: Trace, func: str) -> int:
    return trace.out.count(f" {func}\n")


@needs_btf
@each_function_backend
def test_a_named_module(network: Network, pwru: Start, backend: str) -> None:
    with pwru("--backend", backend, "--kmods", "veth", "--filter-func", "veth_xmit|ip_rcv", "icmp") as trace:
        assert "Attached to 2 functions" in trace.err
        network.ping()
        trace.wait_for(lambda: pings(trace, "ip_rcv") == 2)
        assert trace.stop() == 0
    assert [row["func"] for row in trace.rows()] == ["veth_xmit", "ip_rcv"] * 2
    assert trace.totals() == (4, 0)


@pytest.mark.one_kernel
def test_names_as_they_are_printed(network: Network, pwru: Start) -> None:
    """By functions and callers: with the compiler's suffix, an offset, and the module."""
    (renamed,) = Places(Kernel(), "__netif_receive_skb_core").functions
    assert renamed.name != "__netif_receive_skb_core"
    printed = f"{renamed.name}|ip_rcv+0x4f|veth_xmit+0x5[veth]"
    with pwru("--kmods", "veth", "--filter-func", printed, "icmp") as trace:
        network.ping()
        trace.wait_for(lambda: pings(trace, "ip_rcv") == 2)
        assert trace.stop() == 0
    assert [row["func"] for row in trace.rows()] == ["veth_xmit", renamed.name, "ip_rcv"] * 2
    assert "split it off tcp_v4_rcv" in fails("--filter-func", "ip_rcv|tcp_v4_rcv.cold")
    assert "--kmods veth adds" in fails("--filter-func", "ip_rcv|veth_xmit[veth]")


@needs_btf
@pytest.mark.three_kernels
@pytest.mark.differs("6.12")
def test_all_modules(network: Network, pwru: Start) -> None:
    """Together with all functions of vmlinux; with fewer if each needs a probe of its own, which is slow."""
    fewer = [] if "kprobe-multi" in BACKENDS else ["--filter-func=ip_rcv|(veth|dummy)_.*"]
    with loaded("dummy"), pwru("--all-kmods", *fewer, "icmp") as trace:
        network.ping()
        dummy_traffic()
        trace.wait_for_func(" ip_rcv\n")
        trace.wait_for_func(" veth_xmit\n")
        trace.wait_for_func(" dummy_xmit\n")
        assert trace.stop() == 0
    assert trace.totals() == (len(trace.rows()), 0)


@needs_btf
@pytest.mark.three_kernels
@pytest.mark.differs("6.12")
def test_only_an_ambiguous_name_has_its_module(network: Network, pwru: Start) -> None:
    """The gre_rcv() of gre passes packets on to the gre_rcv() of ip_gre."""
    functions = "gre_rcv|ip_local_deliver|ipgre_xmit"
    with (
        tunnel(network, "gre"),
        pwru("--kmods", "gre,ip-gre", "--filter-func", functions) as both,
        pwru("--kmods", "gre", "--filter-func", functions, "--output-json") as one,
    ):
        network.ping(to=REMOTE)
        both.wait_for(lambda: pings(both, "ip_local_deliver") == 4)
        one.wait_for(lambda: one.out.count("ip_local_deliver") == 4)
        assert both.stop() == one.stop() == 0
    way = ["ipgre_xmit", "ip_local_deliver", "gre_rcv[gre]", "gre_rcv[ip_gre]", "ip_local_deliver"]
    assert [row["func"] for row in both.rows()] == way * 2
    assert [o["func"] for o in one.objects()] == ["ip_local_deliver", "gre_rcv", "ip_local_deliver"] * 2


@pytest.mark.three_kernels
def test_the_place_of_a_drop_in_a_module(network: Network, pwru: Start) -> None:
    """No tunnel takes the packet. The second module may be loaded after the first drop was printed."""

    def send() -> None:
        network.python(
            network.client,
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 47)\n"
            f"s.sendto(bytes(40), ('{network.destination}', 0))",
        )

    sh("modprobe", "--remove", "ip_gre", check=False)  # other tests may have loaded it
    drops = "--backend=tracepoint", "--filter-func=kfree_skb"
    with loaded("gre"), pwru(*drops, f"ip proto 47 and dst host {network.destination}") as trace:
        send()
        trace.wait_for_func(r" tracepoint:kfree_skb\S* gre_rcv\+0x[0-9a-f]+\[gre\]\n")
        with loaded("ip_gre"):
            send()
            trace.wait_for_func(r" tracepoint:kfree_skb\S* gre_rcv\+0x[0-9a-f]+\[ip_gre\]\n")
        trace.stop()


@needs_btf
@each_function_backend
def test_a_module_that_comes_and_goes(network: Network, pwru: Start, backend: str) -> None:
    """It is picked up each time. Single probes let it be unloaded, links do not (kprobe-multi since v6.3).

    What was hit before it went has its name, though it is gone before that is printed.
    """
    functions = "dummy_xmit|veth_xmit|icmp_rcv"
    loads = 1 + (backend == "kprobe")
    with pwru("--backend", backend, "--all-kmods", "--filter-func", functions, "icmp") as trace:
        assert "Attached to 2 functions" in trace.err
        before = holds(trace)
        sh("modprobe", "dummy")
        trace.wait_for(lambda: "Attached to 1 function of dummy.\n" in trace.err)
        with paused(trace):
            dummy_traffic()
            removed = sh("rmmod", "dummy", check=False)
            assert removed.returncode == 0 if backend == "kprobe" else "Module dummy is in use" in removed.stderr
        trace.wait_for(lambda: pings(trace, "dummy_xmit") == 1)
        sh("modprobe", "dummy")
        trace.wait_for(lambda: trace.err.count("Attached to 1 function of dummy.\n") == loads)
        dummy_traffic()
        trace.wait_for(lambda: pings(trace, "dummy_xmit") == 2)
        if backend == "kprobe":
            sh("rmmod", "dummy")
            wait_for(lambda: holds(trace) == before, lambda: (before, holds(trace)))
        network.ping()
        trace.wait_for(lambda: pings(trace, "icmp_rcv") == 2)
        assert trace.stop() == 0
    sh("rmmod", "dummy", check=False)
    assert [row["func"] for row in trace.rows()] == ["dummy_xmit"] * 2 + ["veth_xmit", "icmp_rcv"] * 2
    assert trace.totals() == (6, 0)
    assert len(trace.err.splitlines()) == 3 + loads


@needs_btf
@pytest.mark.three_kernels
@pytest.mark.differs("6.12")
def test_a_named_module_that_is_loaded_again(network: Network, pwru: Start) -> None:
    """It was loaded when its probes were defined, together with all others."""
    with pwru("--backend=kprobe", "--all-kmods", "--filter-func=veth_xmit|ip_rcv") as without:
        with loaded("dummy"):
            without.wait_for(lambda: without.err.count("\n") >= 2)
            with pwru("--backend=kprobe", "--kmods=dummy", "--filter-func=dummy_xmit|ip_rcv", "icmp") as trace:
                assert "Attached to 2 functions" in trace.err
                dummy_traffic()
                trace.wait_for(lambda: pings(trace, "dummy_xmit") == 1)
                defined = len(probes())
                sh("rmmod", "dummy")
                trace.wait_for(lambda: len(probes()) == defined - 1)
                network.ping()
                trace.wait_for(lambda: pings(trace, "ip_rcv") == 2)
                sh("modprobe", "dummy")
                trace.wait_for(lambda: "Attached to 1 function of dummy.\n" in trace.err)
                dummy_traffic()
                trace.wait_for(lambda: pings(trace, "dummy_xmit") == 2)
                assert trace.stop() == 0
        assert without.stop() == 0
    assert trace.totals() == (4, 0)
    # No message about a module without matching functions.
    assert len(without.err.splitlines()) == 3


@needs_btf
@pytest.mark.three_kernels
@pytest.mark.differs("6.12")
def test_a_trace_in_a_network_namespace_hears_of_modules(network: Network, tmp_path: Path) -> None:
    inside = "ip", "netns", "exec", network.client
    with Trace(tmp_path, ("--all-kmods", "--filter-func=dummy_xmit|ip_rcv"), inside) as trace:
        for _ in range(2):  # of a module that it never gets to see it says so once
            with paused(trace), loaded("dummy"):
                pass
            trace.wait_for(lambda: "Not traced: functions of dummy: unloaded before they could" in trace.err)
        with loaded("dummy"):
            trace.wait_for(lambda: "Attached to 1 function of dummy.\n" in trace.err)
            assert trace.stop() == 0
    assert trace.err.count("dummy") == 2


# --- errors ---


def built_in() -> str:
    """The name of a module that is built into this kernel."""
    (path,) = Path("/lib/modules").glob("*/modules.builtin")
    return Path(path.read_text().split()[0]).stem.replace("-", "_")


@needs_btf
@pytest.mark.three_kernels
@pytest.mark.differs("6.12")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kmods=vteh"], "--kmods vteh: there is no such module; did you mean veth?"),
        (["--kmods=veth,dummy"], "--kmods dummy: it is not loaded; load it (modprobe dummy), or use --all-kmods to "),
        ([f"--kmods={built_in()}"], f"--kmods {built_in()}: it is built into this kernel and traced without this"),
        (["--filter-func=veth_xmit"], "--filter-func veth_xmit: matches no function with an skb argument"),
        (
            ["--kmods=veth", "--filter-func=veth_xmitt"],
            "--filter-func veth_xmitt: matches no function with an skb argument (the whole name has to match); "
            "did you mean veth_xmit",
        ),
    ],
)
def test_what_was_typed_is_wrong(arguments: list[str], message: str, network: Network) -> None:
    assert fails(*arguments)[6:].startswith(message)


@needs_btf
@pytest.mark.three_kernels
@pytest.mark.differs("6.12")
def test_a_module_without_packets(network: Network, pwru: Start) -> None:
    with pwru("--kmods=overlay,veth", "--filter-func=ip_rcv") as trace:
        trace.stop()
    assert "Not traced: functions of overlay: none has an skb argument that can be read.\n" in trace.err
    assert "Attached to 1 function " in trace.err


@needs_btf
@pytest.mark.three_kernels
@pytest.mark.differs("6.12")
def test_tracepoints_are_no_functions(network: Network, pwru: Start) -> None:
    with pwru("--backend=tracepoint", "--all-kmods", "--filter-func=netif_receive_skb") as trace:
        assert "Not traced: functions of modules" in trace.err
        with loaded("dummy"):
            network.ping()
            trace.wait_for_func("tracepoint:netif_receive_skb")
        trace.stop()
    assert len(trace.err.splitlines()) == 4


@pytest.mark.skipif(HAVE_BTF, reason="this kernel has BTF of its modules")
def test_no_btf_of_modules(network: Network, pwru: Start) -> None:
    line = fails("--kmods=veth")
    assert line.startswith("pwru: --kmods veth: this kernel has no BTF of its modules (Linux 5.11, CONFIG_")
    with pwru("--all-kmods", "--filter-func=ip_rcv", "icmp") as trace:
        assert trace.err.startswith("Not traced: functions of modules: this kernel has no BTF of its modules")
        network.ping()
        trace.wait_for_func(" ip_rcv\n")
        assert trace.stop() == 0
