"""The scenario: a TCP connection that a firewall rule drops, traced by pwru from the sender to the drop.

Two network namespaces are joined by a veth pair; an nftables rule in the receiver's drops one port. Needs root,
iproute2, ping and nftables, and leaves nothing behind. Arguments are handed to pwru. Exits with TRACEPOINTS_ONLY if the
kernel lets only tracepoints be traced.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys

from vmtest.network import Network, enter

PORT = 8080
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


def connect(network: Network) -> None:
    """Try once to connect, in a process of its own in the sender's namespace."""
    if os.fork():
        return
    try:
        enter(network.client)
        client = socket.socket()
        client.settimeout(0.5)
        client.connect_ex((network.destination, PORT))
    finally:
        os._exit(0)  # the network is the parent's to remove


def main() -> int:
    names = f"sender-{os.getpid()}", f"receiver-{os.getpid()}", "veth-a", "veth-b"
    with Network(*names, source6="", destination6="") as network:
        network.run(network.server, "nft", "-f", "-", text=RULES)
        return trace(network, f"dst host {network.destination} and tcp dst port {PORT}")


def trace(network: Network, pcap_filter: str) -> int:
    """Run pwru until it has printed the drop; return its exit status, or TRACEPOINTS_ONLY."""
    print("# pwru", *sys.argv[1:], f"'{pcap_filter}'", flush=True)
    command = [sys.executable, "-m", "pwru", *sys.argv[1:], pcap_filter]
    status = 1
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout
        try:
            for line in tracer.stdout:
                print(line, end="", flush=True)
                if line.startswith("SKB "):  # the header: everything is attached
                    connect(network)
                elif status == 1 and DROP.search(line):
                    status = TRACEPOINTS_ONLY if "tracepoint:" in line else 0
                    tracer.send_signal(signal.SIGINT)  # it still prints what is queued
        except BaseException:
            tracer.kill()
            raise
        return tracer.wait() or status


def late(*_: object) -> None:
    raise SystemExit(f"not finished after {SECONDS} s")  # unwinds, so that the network is removed


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    sys.exit(main())
