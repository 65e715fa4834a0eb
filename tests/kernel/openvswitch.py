"""A datapath of Open vSwitch that drops what it is given, by generic netlink: include/uapi/linux/openvswitch.h."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_GENERIC = 16  # NETLINK_GENERIC
_CONTROLLER, _GETFAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2  # include/uapi/linux/genetlink.h
_REQUEST_ACK = 5  # NLM_F_REQUEST | NLM_F_ACK
_ERROR = 2  # NLMSG_ERROR
_NEW, _DELETE, _NAME, _UPCALL_PID = 1, 2, 1, 2  # of datapaths
_EXECUTE, _PACKET, _KEY, _ACTIONS = 3, 1, 2, 3  # of packets
_DROP = 24  # OVS_ACTION_ATTR_DROP, since v6.7
_FRAME = (
    bytes(12) + b"\x08\x00" + struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, bytes(4), bytes(4)) + b"x" * 8
)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


class Datapath:
    """`drop()` has the kernel drop one packet explicitly; the sender's namespace is the caller's."""

    def __init__(self, name: str) -> None:
        self._name = _attribute(_NAME, name.encode() + b"\0")
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _GENERIC)
        self._socket.bind((0, 0))

    def change(self, command: int) -> None:
        upcalls = _attribute(_UPCALL_PID, bytes(4))
        self._send("ovs_datapath", command, bytes(4) + self._name + upcalls)

    def drop(self, ifindex: int) -> None:
        actions = _attribute(_ACTIONS, _attribute(_DROP, bytes(4)))
        packet = _attribute(_PACKET, _FRAME) + _attribute(_KEY, b"") + actions
        self._send("ovs_packet", _EXECUTE, struct.pack("=i", ifindex) + packet)

    def close(self) -> None:
        self._socket.close()

    def _send(self, family: str, command: int, body: bytes) -> None:
        """`body` begins with struct ovs_header."""
        answer = self._ask(_CONTROLLER, _GETFAMILY, _attribute(_FAMILY_NAME, family.encode() + b"\0"))
        at = answer.index(_attribute(_FAMILY_NAME, family.encode() + b"\0"))
        number = answer.index(struct.pack("=HH", 6, _FAMILY_ID), at)
        self._ask(struct.unpack_from("=H", answer, number + 4)[0], command, body)

    def _ask(self, family: int, command: int, body: bytes) -> bytes:
        """Return what comes before the acknowledgement."""
        length = 20 + len(body)
        self._socket.send(struct.pack("=IHHIIBBH", length, family, _REQUEST_ACK, 0, 0, command, 1, 0) + body)
        answer = b""
        while True:
            message = self._socket.recv(1 << 16)
            if struct.unpack_from("=H", message, 4)[0] == _ERROR:
                error = -struct.unpack_from("=i", message, 16)[0]
                assert not error, os.strerror(error)
                return answer
            answer += message


@contextmanager
def datapath(name: str) -> Iterator[Datapath]:
    """Make a datapath, and the interface of this name, in this namespace."""
    made = Datapath(name)
    try:
        made.change(_NEW)
        yield made
        made.change(_DELETE)
    finally:
        made.close()
