"""Traces into pcapng files in /out, for tshark; test_pcapng.py runs this in a guest."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.kernel.packets import connect
from tests.kernel.tracing import Trace
from vmtest.network import Network
from vmtest.udp import send_udp

OUT = Path("/out")
# By the name of the file: flags.
CASES = {"ends": (), "all": ("--output-pcap-all",), "by-skb": ("--follow=false",)}
FILTER = "icmp or icmp6 or (udp and port 9999) or tcp"


def main() -> None:
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        traces = []
        for name, flags in CASES.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            arguments = (f"--output-pcap={OUT / name}.pcapng", *flags, FILTER)
            traces.append(stack.enter_context(Trace(folder, arguments)))
        network.ping()
        network.ping("-6", to=network.destination6)
        send_udp(network, 1)
        connect(network, network.destination, 80)
        for trace in traces:
            assert trace.stop() == 0, trace.err
            print(trace.err)


if __name__ == "__main__":
    main()
