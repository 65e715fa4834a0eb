"""Run as root in a guest: both tools trace the same traffic, for each set of flags; their output goes to /out."""

from __future__ import annotations

import gzip
import json
import platform
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pwru
from bench.trace import Tool, Trace
from pwru.kernel.btf import CONST, PTR, Btf, functions, vmlinux_btf
from tests.conformance.flags import FLAGS
from tests.conformance.traffic import PCAP_FILTER, network, send_all

OUT = Path("/out")
THEIRS = Tool("theirs", ("/usr/bin/pwru",))
OURS = Tool("ours", ("/usr/local/bin/pwru",))


def unknown(tool: Tool, flags: tuple[str, ...]) -> list[str]:
    """Return the flags that the tool's --help does not list."""
    done = subprocess.run([*tool.command, "--help"], capture_output=True, text=True, check=False)
    return [
        flag for flag in flags if flag.partition("=")[0] not in (done.stdout + done.stderr).replace(",", " ").split()
    ]


def signatures(btf: Btf) -> dict[str, tuple[int, bool, bool]]:
    """Return, by function: the first argument that is an skb, and whether it is const, and whether it is a `**`."""
    found = {}
    for function in functions(btf, "sk_buff"):
        prototype = btf.record(btf.record(function.btf_id)[2])
        pointer = btf.type(prototype[2 + 2 * function.skb_arg])
        found[function.name] = (function.skb_arg, is_const(btf, pointer.target), function.double_pointer)
    return found


def is_const(btf: Btf, type_id: int) -> bool:
    return btf.kind(type_id) == CONST or (btf.kind(type_id) == PTR and is_const(btf, btf.type(type_id).target))


def trace(theirs: tuple[str, ...], ours: tuple[str, ...]) -> dict[str, str]:
    with ExitStack() as stack:
        traces = {
            tool.name: stack.enter_context(Trace(tool, PCAP_FILTER, *flags))
            for tool, flags in ((THEIRS, theirs), (OURS, ours))
        }
        send_all()
        for each in traces.values():
            each.wait(float("inf"), seconds=3)
    printed = {}
    for name, each in traces.items():
        each.output.seek(0)
        printed[name] = each.output.read().decode(errors="replace")
        printed[f"{name} messages"] = "\n".join(line for _, line in each.messages)
    return printed


@network()
def main() -> None:
    runs = {}
    for flags in FLAGS:
        missing = [
            f"{tool.name} lacks {flag}"
            for tool, of in ((THEIRS, flags.theirs), (OURS, flags.ours))
            for flag in unknown(tool, of)
        ]
        runs[flags.name] = {"missing": "; ".join(missing)} if missing else trace(flags.theirs, flags.ours)
        print(f"conformance: {flags.name}: {runs[flags.name].get('missing', 'traced')}", file=sys.stderr, flush=True)
    measured = {
        "release": platform.release(),
        "theirs": subprocess.check_output(["dpkg-query", "-W", "-f", "${Version}", "pwru"], text=True),
        "ours": pwru.__version__,
        "signatures": signatures(vmlinux_btf()),
        "runs": runs,
    }
    (OUT / "found.json.gz").write_bytes(gzip.compress(json.dumps(measured).encode()))


if __name__ == "__main__":
    main()
