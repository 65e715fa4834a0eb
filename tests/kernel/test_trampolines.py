"""The backends on BPF trampolines: what they attach to, what the kernel refuses, functions of modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pwru import libbpf, tracer
from pwru.event import Decoder
from pwru.kernel.btf import Btf, vmlinux_btf
from pwru.kernel.functions import drop_notrace, find_targets
from pwru.options import Options
from pwru.probes import Probes, Sites, backend
from pwru.probes.trampoline import split
from tests.kernel.conftest import Network
from tests.kernel.test_errors import OBJECT

VMLINUX = Path("/sys/kernel/btf/vmlinux").read_bytes()
BACKENDS = [*["fentry-multi"] * (b"\0BPF_TRACE_FENTRY_MULTI\0" in VMLINUX)]
MODULE_BTF = Path("/sys/kernel/btf/veth")


def of_veth(btf: Btf) -> Sites:
    """Sites of this module and none of vmlinux."""
    sites = Sites(btf, None)
    functions = Btf.from_file(MODULE_BTF, btf).functions()
    sites.__dict__["_targets"] = drop_notrace(find_targets(functions, sites.kallsyms, module="veth"))
    return sites


@contextmanager
def attached(probes: Probes) -> Iterator[Callable[[], list[str]]]:
    """The backend at work; gives a function that tells where packets were seen so far."""
    image = OBJECT.read_bytes()
    with tracer._load(Options(), image, tracer._config(Options()), probes) as bpf:
        try:
            probes.attach(bpf, lambda done, total: None)
            decoder, events = Decoder(Btf(bpf.btf())), bpf.map("events")
            ring = libbpf.RingBuffer(events.fd, events.max_entries)

            def seen() -> list[str]:
                records = decoder.records(ring.read(1 << 20))
                return [probes.by_address[addr].name for _, _, _, addr, *_ in records]

            yield seen
        finally:
            probes.detach()


@pytest.mark.parametrize("name", BACKENDS)
def test_functions_of_a_module(name: str, network: Network) -> None:
    """The network is made of veth devices: a module in these kernels."""
    if not MODULE_BTF.exists():
        pytest.skip("this kernel has no BTF of its modules")
    with attached(backend(name)(of_veth(vmlinux_btf()))) as seen:
        network.ping()
        functions = seen()
    assert functions.count("veth_xmit") >= 2, "the request and the answer"


@pytest.mark.skipif("fentry-multi" not in BACKENDS, reason="this kernel has no fentry-multi links")
def test_what_is_left_out_is_what_the_kernel_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given everything, it refuses just that, without a word about which: the same is found by bisection."""
    sites = Sites(vmlinux_btf(), None)
    found, left_out = split(sites)
    expected = {name for names in left_out.values() for name in names}
    assert len(expected) > 10
    # One of each pair with the same id and name is attached to whichever function the kernel finds.
    everything = [target for target in sites.targets if not target.ambiguous]
    monkeypatch.setattr("pwru.probes.fentry_multi.split", lambda _: (everything, {}))
    probes = backend("fentry-multi")(sites)
    with attached(probes):
        assert {name for name, _ in probes.skipped} == expected - {t.name for t in sites.targets if t.ambiguous}
        assert probes.attached == len(found)
