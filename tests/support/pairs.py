"""How each flag of the command line is given in a test of pairs, which pairs are refused, and sets that cover the rest.

A new flag is one more line of WORDS, or of ALONE. All that filters pass the datagrams of vmtest.udp.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import combinations

FUNCTIONS = "__ip_local_out|ip_rcv|net_dev_queue|netif_receive_skb"
FOLDER, PID, COMM, NETNS = "{folder}", "{pid}", "{comm}", "{netns}"

WORDS: dict[str, str] = {
    "PCAP-FILTER": "udp",
    "--src-ip": "--src-ip=10.9.0.1",
    "--dst-ip": "--dst-ip=10.9.0.2",
    "--sport": "--sport=7777",
    "--dport": "--dport=9999",
    "--proto": "--proto=udp",
    "--filter-netns": f"--filter-netns={NETNS}",
    "--filter-ifname": "--filter-ifname=v0",
    "--filter-mark": "--filter-mark=0",
    "--filter-skb-expr": "--filter-skb-expr=skb->len > 0",
    "--filter-xdp-expr": "--filter-xdp-expr=xdp->data != 0",
    "--filter-tunnel-pcap-l2": "--filter-tunnel-pcap-l2=udp",
    "--filter-tunnel-pcap-l3": "--filter-tunnel-pcap-l3=udp",
    "--filter-pid": f"--filter-pid={PID}",
    "--filter-comm": f"--filter-comm={COMM}",
    "--filter-drop-reason": "--filter-drop-reason=any",
    "--follow": "--follow",
    "--filter-track-skb-by-stackid": "--filter-track-skb-by-stackid",
    "--filter-non-skb-funcs": "--filter-non-skb-funcs=dst_release",
    "--follow-packets": "--follow-packets=64",
    "--summary": "--summary",
    "--only": "--only=slower=1ns",
    "--filter-func": f"--filter-func={FUNCTIONS}",
    "--all-kprobes": "--all-kprobes",
    "--kmods": "--kmods=veth",
    "--all-kmods": "--all-kmods",
    "--filter-trace-tc": "--filter-trace-tc",
    "--filter-trace-xdp": "--filter-trace-xdp",
    "--filter-track-bpf-helpers": "--filter-track-bpf-helpers",
    "--backend kprobe-multi": "--backend=kprobe-multi",
    "--backend fentry-multi": "--backend=fentry-multi",
    "--backend kprobe": "--backend=kprobe",
    "--backend fentry": "--backend=fentry",
    "--backend tracepoint": "--backend=tracepoint",
    "--filter-kprobe-batch": "--filter-kprobe-batch=3",
    "--ring-buffer-size": "--ring-buffer-size=1M",
    "--kernel-btf": "--kernel-btf=/sys/kernel/btf/vmlinux",
    "--ready-file": f"--ready-file={FOLDER}/ready",
    "--user": "--user=root",
    "--group": "--group",
    "--stages": "--stages",
    "--output-json": "--output-json",
    "--output-meta": "--output-meta=false",
    "--output-tuple": "--output-tuple=false",
    "--output-packet-id": "--output-packet-id",
    "--output-tcp-flags": "--output-tcp-flags",
    "--output-tunnel": "--output-tunnel",
    "--output-skb-cb": "--output-skb-cb",
    "--output-netns-names": "--output-netns-names",
    "--netns-names-max-length": "--netns-names-max-length=10",
    "--output-caller": "--output-caller",
    "--output-stack": "--output-stack",
    "--output-skb-metadata": "--output-skb-metadata=skb->hash",
    "--output-xdp-metadata": "--output-xdp-metadata=xdp->frame_sz",
    "--output-skb": "--output-skb",
    "--output-skb-shared-info": "--output-skb-shared-info",
    "--output-bpfmap": "--output-bpfmap",
    "--output-payload": "--output-payload=64",
    "--set-percpu-buf": "--set-percpu-buf=4096",
    "--timestamp": "--timestamp=relative",
    "--color": "--color=always",
    "--output-limit-lines": "--output-limit-lines=1000000",
    "--strict": "--strict",
    "--output-file": f"--output-file={FOLDER}/events",
    "--output-file-max-size": "--output-file-max-size=1",
    "--output-file-max-age": "--output-file-max-age=1",
    "--output-file-max-backups": "--output-file-max-backups=1",
    "--output-file-compress": "--output-file-compress",
    "--output-pcap": f"--output-pcap={FOLDER}/events.pcapng",
    "--output-pcap-all": "--output-pcap-all",
    "-w": f"-w{FOLDER}/recording",
    "--report": f"--report={FOLDER}/report.html",
    "--print": "--print",
    "--debug": "--debug",
}
# Nothing is traced with them.
ALONE = {
    "-r",
    "--filter-packet",
    "--filter-time",
    "--diff",
    "--output-parquet",
    "--check",
    "--completion",
    "--man",
    "--version",
    "-h",
}
# Flags that mean nothing without another one, and backends that attach to all functions one by one, which takes long.
NEEDS = {
    "--filter-ifname": "--filter-netns",  # where v0 is
    "-w": "--print",
    "--report": "--print",
    "--backend kprobe": "--filter-func",
    "--backend fentry": "--filter-func",
    "--follow-packets": "--follow",
    "--output-packet-id": "--follow",
    "--filter-xdp-expr": "--filter-trace-xdp",
    "--output-xdp-metadata": "--filter-trace-xdp",
    "--output-bpfmap": "--filter-track-bpf-helpers",
    "--output-pcap-all": "--output-pcap",
    **{name: "--output-file" for name in WORDS if name.startswith("--output-file-")},
}
BACKENDS = [name for name in WORDS if name.startswith("--backend ")]
_BY_STACK = (
    *("--filter-track-skb-by-stackid", "--filter-non-skb-funcs"),
    *("--filter-track-bpf-helpers", "--output-bpfmap"),
)
_NOT_WITH_DROPS = {
    *_BY_STACK,
    "--only",
    *("--filter-xdp-expr", "--output-xdp-metadata"),
    *("--follow", "--follow-packets", "--output-packet-id", "--filter-func", "--kmods", "--all-kmods"),
    *("--group", "--stages"),
    *("--filter-trace-tc", "--filter-trace-xdp"),
    *(name for name in BACKENDS if name != "--backend tracepoint"),
}
# Each with one line that names both.
REFUSED = {
    frozenset(pair)
    for pair in (
        ("--all-kprobes", "--filter-func"),
        ("--only", "--output-limit-lines"),
        *(("--output-meta", name) for name in ("--output-netns-names", "--output-pcap", "--output-pcap-all")),
        *(("--filter-drop-reason", name) for name in _NOT_WITH_DROPS),
        *((name, f"--backend {other}") for name in _BY_STACK for other in ("fentry-multi", "fentry", "tracepoint")),
    )
}
# They do not go with what one of them needs.
_INDIRECT = {
    frozenset((name, other))
    for name, needed in NEEDS.items()
    for pair in REFUSED
    if needed in pair
    for other in pair - {needed}
}
# What kernels differ in: how they are attached to, and what they have or let programs read.
DIFFERS_BY_KERNEL = {
    *("--filter-netns", "--filter-ifname", "--filter-skb-expr", "--filter-tunnel-pcap-l2", "--filter-pid"),
    *("--filter-drop-reason", "--follow", "--output-packet-id", "--filter-func", "--kmods", "--filter-trace-tc"),
    *("--filter-xdp-expr", "--output-xdp-metadata", "--group", "--stages", *_BY_STACK),
    *("--summary", "--only"),
    *("--filter-trace-xdp", *BACKENDS, "--output-tunnel", "--output-caller", "--output-stack", "--output-skb"),
    *("--output-skb-metadata", "--output-payload", "PCAP-FILTER"),
}


def go_together(one: str, other: str) -> bool:
    """Whether both can be given; of two backends only the last one counts."""
    return frozenset((one, other)) not in REFUSED | _INDIRECT and not {one, other} <= set(BACKENDS)


def pairs(names: Collection[str]) -> set[frozenset[str]]:
    return {frozenset(pair) for pair in combinations(names, 2) if go_together(*pair)}


def covering(names: Collection[str], size: int) -> Iterator[list[str]]:
    """Yield sets of about `size` of these flags, each with what it needs; all pairs that go together are in one."""
    order = [name for name in WORDS if name in names]
    left = pairs(names)
    while left:
        chosen: list[str] = []
        while len(chosen) < size:
            # The flag with the most pairs that are left; first with those that are chosen already.
            gains = {
                name: (
                    sum(frozenset((name, other)) in left for other in chosen),
                    sum(name in pair for pair in left),
                )
                for name in order
                if name not in chosen and _fits(name, chosen)
            }
            best = max(gains, key=gains.__getitem__, default="")
            if not best or (chosen and not gains[best][0]):
                break
            chosen += [name for name in _with_needs(best) if name not in chosen]
        assert left & pairs(chosen), chosen
        left -= pairs(chosen)
        yield sorted(chosen, key=list(WORDS).index)


def _with_needs(name: str) -> list[str]:
    return [NEEDS[name], name] if name in NEEDS else [name]


def _fits(name: str, chosen: list[str]) -> bool:
    return all(go_together(new, old) for new in _with_needs(name) for old in chosen if new != old)
