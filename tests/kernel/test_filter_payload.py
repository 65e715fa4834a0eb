"""Filters on payload, which a sender's skbs have in page fragments, and what `--output-payload` shows of it."""

from __future__ import annotations

import base64
from contextlib import ExitStack

import pytest

from tests.unit.filter.fragments import Fragments
from vmtest.network import Network

from .tracing import Start

pytestmark = pytest.mark.three_kernels

GET = "tcp dst port 9997 and tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420"
AT_1000 = "tcp dst port 9997 and tcp[1000:4] = 0x78787878"
POST = "tcp dst port 9997 and tcp[((tcp[12] & 0xf0) >> 2):4] = 0x504f5354"
REQUEST = """
import socket
listener = socket.create_server(("10.9.0.1", 9997))
sender = socket.create_connection(("10.9.0.1", 9997))
sender.sendall(b"GET /index.html HTTP/1.1\\r\\n\\r\\n" + b"x" * 3000)
receiver, _ = listener.accept()
left = 3028
while left:
    left -= len(receiver.recv(left))
"""


class TestFragments(Fragments):
    each = 3


def test_a_request(network: Network, pwru: Start) -> None:
    """In the function that TCP passes its packets to, and where they are received."""
    flags = ("--filter-func=__ip_local_out|ip_rcv", "--output-json", "--output-payload=200")
    with ExitStack() as stack:
        get, post, later = (stack.enter_context(pwru(*flags, text)) for text in (GET, POST, AT_1000))
        network.python(network.client, REQUEST)
        for trace in (get, post, later):
            assert trace.stop() == 0
            assert "page fragments" not in trace.err
    events = get.objects()
    assert {event["func"] for event in events} >= {"__ip_local_out", "ip_rcv"}
    assert all(b"GET /index.html" in base64.b64decode(event["payload"]) for event in events)
    assert later.objects()
    assert post.objects() == []
