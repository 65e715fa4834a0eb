"""The scenario: a TCP connection that a firewall rule drops, traced by pwru from the sender to the drop.

Two network namespaces, joined by a veth pair; in the receiver an nftables rule drops one port. Needs root, iproute2 and
nftables; leaves nothing behind. Arguments are handed to pwru. Exits with TRACEPOINTS_ONLY where the kernel let only
tracepoints be traced.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack

SENDER, RECEIVER, PORT = "10.9.0.1", "10.9.0.2", 8080
SECONDS = 120
RULES = f"""
table ip demo {{
    chain input {{
        type filter hook input priority 0
        tcp dport {PORT} drop
    }}
}}
"""
TRACEPOINTS_ONLY = 3
DROP = re.compile(r"kfree_skb|skb_reason_drop")
CLONE_NEWNET = 0x40000000


def run(command: str, **kwargs: str) -> None:
    subprocess.run(command.split(), check=True, text=True, **kwargs)  # type: ignore[call-overload]


def lay_out(stack: ExitStack, a: str, b: str) -> None:
    for netns in (a, b):
        run(f"ip netns add {netns}")
        stack.callback(run, f"ip netns delete {netns}")
    run(f"ip link add veth-a netns {a} type veth peer name veth-b netns {b}")
    for netns, device, address in ((a, "veth-a", SENDER), (b, "veth-b", RECEIVER)):
        run(f"ip -n {netns} address add {address}/24 dev {device}")
        run(f"ip -n {netns} link set {device} up")
    run(f"ip netns exec {b} nft -f -", input=RULES)


def connect(netns: str) -> None:
    """One attempt from inside the namespace; setns(2) changes only this process."""
    if os.fork():
        return
    with open(f"/run/netns/{netns}") as namespace:
        ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET)
    client = socket.socket()
    client.settimeout(0.5)
    client.connect_ex((RECEIVER, PORT))
    os._exit(0)


def main() -> int:
    with ExitStack() as stack:
        a, b = f"sender-{os.getpid()}", f"receiver-{os.getpid()}"
        lay_out(stack, a, b)
        expression = f"dst host {RECEIVER} and tcp dst port {PORT}"
        print("# pwru", *sys.argv[1:], f"'{expression}'", flush=True)
        tracer = subprocess.Popen(
            [sys.executable, "-m", "pwru", *sys.argv[1:], expression], stdout=subprocess.PIPE, text=True
        )
        stack.callback(tracer.kill)
        status = 1
        assert tracer.stdout
        for line in tracer.stdout:
            print(line, end="", flush=True)
            if line.startswith("SKB "):  # the header: everything is attached
                connect(a)
            elif status == 1 and DROP.search(line):
                status = TRACEPOINTS_ONLY if "tracepoint:" in line else 0
                tracer.send_signal(signal.SIGINT)  # what is left to print still comes
        return tracer.wait() or status


if __name__ == "__main__":
    signal.alarm(SECONDS)
    sys.exit(main())
