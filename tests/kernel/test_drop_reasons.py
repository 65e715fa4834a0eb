"""Drop reasons that are not in enum skb_drop_reason: those of qdiscs, and of a module that is loaded meanwhile."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from pwru.kernel.kernel import Kernel
from vmtest.network import Network, sh

from .openvswitch import datapath
from .tracing import Start, fails

FLOW = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(4):
    s.sendto(b"x", ("{}", 5000))
"""


@pytest.mark.three_kernels
def test_subsystems(network: Network, pwru: Start) -> None:
    """The names are known to the filter and to the output, by the enum of each subsystem."""
    reasons = Kernel().drop_reasons
    if "OPENVSWITCH" not in reasons.all():
        assert "does not report drop reasons" in fails("--filter-drop-reason", "QDISC")
        return
    sh("modprobe", "-r", "openvswitch", check=False)
    of_qdiscs = "QDISC" in reasons.all()
    limit, wanted = (
        ("QDISC_DROP_FLOW_LIMIT", "QDISC") if of_qdiscs else ("SKB_DROP_REASON_FQ_FLOW_LIMIT", "FQ_FLOW_LIMIT")
    )
    drop = f"tracepoint:{'qdisc_drop' if of_qdiscs else 'kfree_skb'}({limit})"
    explicit = "tracepoint:kfree_skb(OVS_DROP_EXPLICIT)"
    with ExitStack() as stack:
        traces = [
            stack.enter_context(pwru("--filter-drop-reason", words)) for words in ("any", f"{wanted},OPENVSWITCH")
        ]
        functions = stack.enter_context(pwru("--filter-func=(sk_skb|kfree_skb_list)_reason.*", "udp dst port 5000"))
        tc, one_packet = ("tc", "-n", network.client, "qdisc"), ("fq", "flow_limit", "1", "maxrate", "8kbit")
        sh(*tc, "replace", "dev", "v0", "root", *one_packet)
        stack.callback(sh, *tc, "delete", "dev", "v0", "root")
        network.python(network.client, FLOW.format(network.destination))
        sh("modprobe", "openvswitch")
        with datapath("ovs-test") as switch:
            switch.drop(socket.if_nametoindex("ovs-test"))
        for trace in (*traces, functions):
            assert trace.stop() == 0
    everything, chosen = ([row["func"].split()[0] for row in trace.rows()] for trace in traces)
    assert {drop, explicit} <= set(everything)
    assert set(chosen) == {drop, explicit}
    # What frees a packet of a qdisc gets no more than QDISC_DROP as its reason; the first packet arrives.
    assert f"tracepoint:kfree_skb({limit})" in everything
    reasons_given = {row["func"].partition("(")[2] for row in functions.rows()}
    assert reasons_given == {f"{limit})", "SKB_DROP_REASON_NO_SOCKET)"}
    hint = "QDISC_DROP_FLOW_LIMIT" if of_qdiscs else "FQ_FLOW_LIMIT"
    assert f"did you mean {hint}" in fails("--filter-drop-reason", hint[:-1])
