"""A WireGuard tunnel between the two namespaces, set up by netlink: linux/include/uapi/linux/wireguard.h."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from vmtest.network import Network, inside, sh

LOCAL, REMOTE = "10.6.0.1", "10.6.0.2"
LOCAL6, REMOTE6 = "fd06::1", "fd06::2"
PORT = 51820

_NETLINK_GENERIC, _GENL_ID_CTRL, _CTRL_CMD_GETFAMILY = 16, 16, 3
_CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 1, 2
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP, _NLA_F_NESTED = 1, 4, 0x300, 0x8000
_GET_DEVICE, _SET_DEVICE = 0, 1
_IFNAME, _PRIVATE_KEY, _PUBLIC_KEY, _LISTEN_PORT, _PEERS = 2, 3, 4, 6, 8
_PEER_PUBLIC_KEY, _PEER_ENDPOINT, _PEER_ALLOWED_IPS = 1, 4, 9
_FAMILY, _ADDRESS, _MASK = 1, 2, 3


@contextmanager
def wireguard(network: Network) -> Iterator[None]:
    """Join the namespaces by WireGuard, LOCAL in the client and REMOTE in the server; they have shaken hands then."""
    ends = {
        network.client: (network.destination, LOCAL, LOCAL6),
        network.server: (network.source, REMOTE, REMOTE6),
    }
    try:
        keys = {}
        for netns in ends:
            network.ip(netns, "link", "add", "wg0", "type", "wireguard")
            keys[netns] = _set_key(netns)
        for netns, peer in ((network.client, network.server), (network.server, network.client)):
            _set_peer(netns, keys[peer], ends[netns][0])
            network.ip(netns, "address", "add", f"{ends[netns][1]}/24", "dev", "wg0")
            network.ip(netns, "address", "add", f"{ends[netns][2]}/64", "dev", "wg0", "nodad")
            network.ip(netns, "link", "set", "wg0", "up")
        network.ping("-w30", to=REMOTE)
        yield
    finally:
        for netns in ends:
            sh("ip", "-n", netns, "link", "delete", "wg0", check=False)


def _set_key(netns: str) -> bytes:
    """Give the device a private key; return the public one."""
    name = _attribute(_IFNAME, b"wg0\0")
    port = _attribute(_LISTEN_PORT, struct.pack("=H", PORT))
    _request(netns, _SET_DEVICE, name + port + _attribute(_PRIVATE_KEY, netns.encode().ljust(32, b"k")[:32]))
    return _attributes(_request(netns, _GET_DEVICE, name, _NLM_F_DUMP))[_PUBLIC_KEY]


def _set_peer(netns: str, key: bytes, address: str) -> None:
    endpoint = struct.pack("=H", socket.AF_INET) + struct.pack("!H", PORT) + socket.inet_aton(address) + bytes(8)
    mask = _attribute(_MASK, b"\0")
    allowed = b"".join(
        _attribute(0, _attribute(_FAMILY, family) + _attribute(_ADDRESS, bytes(size)) + mask, _NLA_F_NESTED)
        for family, size in ((struct.pack("=H", socket.AF_INET), 4), (struct.pack("=H", socket.AF_INET6), 16))
    )
    peer = _attribute(_PEER_PUBLIC_KEY, key) + _attribute(_PEER_ENDPOINT, endpoint)
    peer += _attribute(_PEER_ALLOWED_IPS, allowed, _NLA_F_NESTED)
    peers = _attribute(_PEERS, _attribute(0, peer, _NLA_F_NESTED), _NLA_F_NESTED)
    _request(netns, _SET_DEVICE, _attribute(_IFNAME, b"wg0\0") + peers)


def _request(netns: str, command: int, payload: bytes, flags: int = _NLM_F_ACK) -> bytes:
    """Return the attributes of the answer."""
    with inside(netns):
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC)
    with netlink:
        family = _attribute(_CTRL_ATTR_FAMILY_NAME, b"wireguard\0")
        answer = _talk(netlink, _GENL_ID_CTRL, _CTRL_CMD_GETFAMILY, family, 0)
        (number,) = struct.unpack("=H", _attributes(answer)[_CTRL_ATTR_FAMILY_ID])
        return _talk(netlink, number, command, payload, flags)


def _talk(netlink: socket.socket, kind: int, command: int, payload: bytes, flags: int) -> bytes:
    header = struct.pack("=IHHIIBBH", 20 + len(payload), kind, flags | _NLM_F_REQUEST, 0, 0, command, 1, 0)
    netlink.send(header + payload)
    answer = netlink.recv(1 << 16)
    length, answer_kind = struct.unpack_from("=IH", answer)
    if answer_kind == 2:  # NLMSG_ERROR, 0: an acknowledgement
        (error,) = struct.unpack_from("=i", answer, 16)
        assert not error, f"netlink: error {error}"
    return answer[20:length]


def _attribute(kind: int, data: bytes, flags: int = 0) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind | flags) + data + bytes(-len(data) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while data:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[length + 3 & ~3 :]
    return found
