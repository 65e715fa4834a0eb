"""What is known of BPF programs that see packets, by their type and their BTF."""

from __future__ import annotations

from pathlib import Path

import pytest

from pwru.kernel.bpf_programs import EXT, KINDS, kind_of, main_function, verdict
from pwru.kernel.btf import FUNC, read_btf

BPF = Path(__file__).parents[2] / "bpf"
TC, XDP, CGROUP_SKB, TRACING, NETFILTER = 3, 6, 8, 26, 32


@pytest.mark.parametrize(
    ("name", "context"),
    [("passes_every_packet_on", "__sk_buff"), ("drops_what_is_sent", "__sk_buff"), ("takes_anything", "")],
)
def test_main_function(name: str, context: str) -> None:
    btf = read_btf(BPF / "programs.bpf.o")
    main = btf.find(name, FUNC)
    assert main
    assert main_function(btf, main) == (name, context)


@pytest.mark.parametrize(
    ("prog_type", "context", "label"),
    [(TC, "", "tc"), (XDP, "", "xdp"), (EXT, "__sk_buff", "tc"), (EXT, "xdp_md", "xdp")],
)
def test_kind(prog_type: int, context: str, label: str) -> None:
    kind = kind_of(prog_type, context)
    assert kind
    assert kind.label == label


@pytest.mark.parametrize(("prog_type", "context"), [(TRACING, ""), (EXT, "")])
def test_others(prog_type: int, context: str) -> None:
    assert kind_of(prog_type, context) is None


@pytest.mark.parametrize(
    ("prog_type", "returned", "text", "drops"),
    [
        (TC, 0xFFFFFFFF, "TC_ACT_UNSPEC", False),
        (TC, 2, "TC_ACT_SHOT", True),
        (TC, 7, "TC_ACT_REDIRECT", False),
        (TC, 0xFFFFFFF0, "-16", False),
        (XDP, 1, "XDP_DROP", True),
        (XDP, 2, "XDP_PASS", False),
        (CGROUP_SKB, 0, "SK_DROP", True),
        (CGROUP_SKB, 1, "SK_PASS", False),
        (NETFILTER, 0, "NF_DROP", True),
    ],
)
def test_verdict(prog_type: int, returned: int, text: str, drops: bool) -> None:
    assert verdict(KINDS[prog_type], returned) == (text, drops)
