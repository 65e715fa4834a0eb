"""Lockdown for confidentiality: nobody may read the kernel's memory, and BPF programs lose the helper for it.

There is no way back but a reboot, so these tests run last (conftest.py).
"""

from __future__ import annotations

import subprocess
from base64 import b64decode
from pathlib import Path

import pytest

from pwru.kernel import features
from pwru.kernel.btf import FUNC, vmlinux_btf
from vmtest.network import Network

from .backends import BACKENDS, NARROW, narrow
from .leftovers import traces, wait_for
from .refusals import refused, run
from .tracing import Start

pytestmark = [pytest.mark.three_kernels, pytest.mark.last]

HAS_CAST = vmlinux_btf().find("bpf_rdonly_cast", FUNC) is not None
with_cast = pytest.mark.skipif(not HAS_CAST, reason="BPF programs read memory by a helper only on this kernel")
LOG = "Lockdown: pwru: "  # the kernel's message about each refusal


@pytest.fixture(scope="module", autouse=True)
def _locked_down() -> None:
    wait_for(lambda: not any(traces().values()))  # the children of earlier traces would be in the log
    Path(features.LOCKDOWN).write_text(features.CONFIDENTIALITY)
    subprocess.run(["dmesg", "--clear"], check=True)


def kernel_log() -> str:
    return subprocess.run(["dmesg"], check=True, capture_output=True, text=True).stdout


@with_cast
@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "kprobe"])
def test_everything_is_shown(backend: str, network: Network, pwru: Start) -> None:
    """Without a message in the kernel's log."""
    parts = "--output-caller", "--output-skb", "--output-skb-cb", "--output-skb-shared-info", "--output-payload=100"
    with pwru("--output-json", *narrow(backend), *parts, "--filter-skb-expr=skb->len > 20", "icmp") as trace:
        network.ping("-p", "a5")
        trace.wait_for_func(r'"10\.9\.0\.2".*"10\.9\.0\.1"')
        assert trace.stop() == 0
    events = trace.objects()
    assert events
    for event in events:
        assert event["tuple"]["saddr"] in (network.source, network.destination)
        assert f".len = (unsigned int){event['len']}," in event["skb_metadata"]
        assert b"\xa5" * 32 in b64decode(event["payload"])
        assert event["caller_func"]
    assert LOG not in kernel_log()


@with_cast
def test_kprobe_is_refused() -> None:
    line = refused("pwru", "--backend=kprobe", *NARROW)
    assert line.endswith("kprobe: this kernel is locked down (confidentiality), which forbids kprobes through tracefs")
    assert LOG not in kernel_log()


@pytest.mark.skipif(HAS_CAST, reason="BPF programs can read memory without the helper")
def test_nothing_can_be_shown_without_the_cast() -> None:
    reason = "this kernel is locked down (confidentiality): BPF programs may not read its memory"
    assert refused("pwru", *NARROW).startswith(f"pwru: {reason}")
    assert LOG not in kernel_log()
    report = " ".join(run("pwru", "--check").stdout.split())
    assert report.count("BPF programs may not read") == 1
