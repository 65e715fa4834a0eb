"""BPF programs that see packets: their kinds, the names of their verdicts, and what a program's own BTF says of it."""

from collections.abc import Mapping
from typing import NamedTuple

from pwru.errors import printable
from pwru.kernel.btf import PTR, STRUCT, Btf

EXT = 28  # enum bpf_prog_type: it replaces a function of another program (freplace), and is of that one's kind


class Kind(NamedTuple):
    """Programs of one purpose. `label` stands behind their names; `verdicts` are what they return, `drops` the deadly.

    `skb_in_context`: their argument is a struct bpf_nf_ctx, not a struct __sk_buff. `xdp`: it is a struct xdp_md.
    """

    label: str
    verdicts: Mapping[int, str] = {}
    drops: frozenset[int] = frozenset()
    skb_in_context: bool = False
    xdp: bool = False


# include/uapi/linux/pkt_cls.h; tcx and netkit have the same numbers
_TC_ACTIONS = ("OK", "RECLASSIFY", "SHOT", "PIPE", "STOLEN", "QUEUED", "REPEAT", "REDIRECT", "TRAP")
_TC = {-1: "TC_ACT_UNSPEC", **{number: f"TC_ACT_{name}" for number, name in enumerate(_TC_ACTIONS)}}
# enum sk_action, include/uapi/linux/bpf.h. Programs of cgroups return the same, and 2 is added to slow a sender down:
# BPF_PROG_CGROUP_INET_EGRESS_RUN_ARRAY().
_SK = {0: "SK_DROP", 1: "SK_PASS"}
_CGROUP = {**_SK, 2: "SK_DROP|CN", 3: "SK_PASS|CN"}
# enum bpf_ret_code
_LWT = {0: "BPF_OK", 2: "BPF_DROP", 7: "BPF_REDIRECT", 128: "BPF_LWT_REROUTE"}
# include/uapi/linux/netfilter.h
_NETFILTER = dict(enumerate(("NF_DROP", "NF_ACCEPT", "NF_STOLEN", "NF_QUEUE", "NF_REPEAT")))

# enum xdp_action
_XDP = dict(enumerate(("XDP_ABORTED", "XDP_DROP", "XDP_PASS", "XDP_TX", "XDP_REDIRECT")))

_XDP_KIND = Kind("xdp", _XDP, frozenset({0, 1}), xdp=True)
_TC_KIND = Kind("tc", _TC, frozenset({2}))
# By enum bpf_prog_type, include/uapi/linux/bpf.h: those that have a packet.
KINDS = {
    3: _TC_KIND,
    4: _TC_KIND,
    6: _XDP_KIND,
    8: Kind("cgroup_skb", _CGROUP, frozenset({0, 2})),
    10: Kind("lwt_in", _LWT, frozenset({2})),
    11: Kind("lwt_out", _LWT, frozenset({2})),
    12: Kind("lwt_xmit", _LWT, frozenset({2})),
    14: Kind("sk_skb", _SK, frozenset({0})),
    19: Kind("lwt_seg6local", _LWT, frozenset({2})),
    32: Kind("netfilter", _NETFILTER, frozenset({0}), skb_in_context=True),
}
_CONTEXTS = {"__sk_buff": _TC_KIND, "xdp_md": _XDP_KIND}  # the argument of what replaces a function


def verdict(kind: Kind, returned: int) -> tuple[str, bool]:
    """Return the name of what a program returned, or the number, and whether that drops the packet.

    `returned`: the lower half of the register.
    """
    number = (returned & 0xFFFFFFFF ^ 1 << 31) - (1 << 31)
    return kind.verdicts.get(number, str(number)), number in kind.drops


def main_function(btf: Btf, main: int) -> tuple[str, str]:
    """Return the whole name of a program, and the name of the struct that its first argument points to or "".

    `main`: the id of its function. Raises BtfError for damaged BTF.
    """
    record = btf.record(main)
    name = printable(btf.string(record[0]))
    prototype = btf.record(record[2])
    if not prototype[1] & 0xFFFFFF:
        return name, ""
    argument = btf.type(prototype[4])
    target = btf.type(argument.target) if argument.kind == PTR else None
    return name, target.name if target and target.kind == STRUCT else ""


def kind_of(prog_type: int, context: str) -> Kind | None:
    """Return the kind of a program; None if it sees no packet. `context`: what main_function() says."""
    return _CONTEXTS.get(context) if prog_type == EXT else KINDS.get(prog_type)
