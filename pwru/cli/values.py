"""Values of flags: functions from the text of an argument to its value.

Each raises PwruError for text that is no such value.
"""

import os
import re

from pwru.errors import PwruError
from pwru.live.request import MAX_COMM, MAX_PAYLOAD, MAX_PID

# The protocols of libpcap that stand alone. Not `vlan`, `mpls` and the like, which move what comes after them.
PROTOCOLS = "ah, arp, carp, esp, icmp, icmp6, igmp, igrp, ip, ip6, pim, rarp, sctp, stp, tcp, udp, vrrp"

_MAX_DAYS = 36500
_NAME_MAX = 255  # include/uapi/linux/limits.h


def boolean(text: str) -> bool:
    if text.lower() in ("true", "t", "1"):
        return True
    if text.lower() in ("false", "f", "0"):
        return False
    raise PwruError(f"{text!r} is neither true nor false")


def count(text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise PwruError(f"{text!r} is not a number of 0 or more")
    return int(text)


def positive(text: str) -> int:
    if not (value := count(text)):
        raise PwruError("it must be 1 or more")
    return value


def pid(text: str) -> int:
    if not 1 <= (value := count(text)) <= MAX_PID:
        raise PwruError(f"{text} is not a PID (1 to {MAX_PID})")
    return value


def days(text: str) -> int:
    if (value := count(text)) > _MAX_DAYS:
        raise PwruError(f"{text}: it must be {_MAX_DAYS} or less; 0 is for ever")
    return value


def size(text: str) -> int:
    """Return bytes: 4096, 512K, 8M, 1G."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text, re.IGNORECASE)
    value = int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2].upper()] if match else 0
    if not 1 <= value <= 1 << 30:
        raise PwruError(f"{text!r} is not a size up to 1G, such as 512K or 8M")
    return value


def u32(text: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 32:
        raise PwruError(f"{text!r} is not a number of 32 bits, decimal or 0x…")
    return value


def mark(text: str) -> tuple[int, int]:
    """Return MARK and MASK; 0 without a mask is off, as is a mask of 0."""
    value, slash, mask = text.partition("/")
    number = u32(value)
    return number, u32(mask) if slash else (0xFFFFFFFF if number else 0)


def comm(text: str) -> str:
    if not 1 <= len(os.fsencode(text)) <= MAX_COMM or "\0" in text:
        raise PwruError(f"{text!r} is no name of a process: the kernel keeps 1 to {MAX_COMM} bytes of it")
    return text


def name_width(text: str) -> int:
    if not len("NETNS NAME") <= (width := count(text)) <= _NAME_MAX:
        raise PwruError(f"{text}: it must be 10 or more, up to {_NAME_MAX}")
    return width


def names(text: str) -> tuple[str, ...]:
    listed = tuple(name.strip() for name in text.split(","))
    if not all(re.fullmatch(r"[\w-]+", name) for name in listed):
        raise PwruError(f"{text!r} is not a list of names: a,b,c")
    return listed


def fields(text: str) -> tuple[str, ...]:
    listed = tuple(field.strip() for field in text.split(","))
    if not all(listed):
        raise PwruError(f"{text!r} is not a list of fields: skb->mark,skb->dev->mtu")
    return listed


def payload(text: str) -> int:
    if not re.fullmatch(r"\d{1,4}", text) or not 1 <= int(text) <= MAX_PAYLOAD:
        raise PwruError(f"{text!r} is not a number of bytes from 1 to {MAX_PAYLOAD}")
    return int(text)


def address(text: str) -> str:
    """Return what pcap-filter(7) calls an address or network."""
    import ipaddress

    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        hint = "10.0.0.1 is one, or fd00::/8"
        if "host bits" in str(error):
            hint = f"did you mean {ipaddress.ip_network(text, strict=False)}?"
        raise PwruError(f"{text!r} is no address or network; {hint}") from None
    if "%" in text:
        raise PwruError(f"{text!r} names an interface: a packet has none; see --filter-ifname")
    single = network.prefixlen == network.max_prefixlen
    return f"host {network.network_address}" if single else f"net {network}"


def port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 0xFFFF:
        raise PwruError(f"{text!r} is no port: a number up to 65535")
    return int(text)


def protocol(text: str) -> str:
    """Return a primitive of pcap-filter(7)."""
    if text in PROTOCOLS.split(", "):
        return text
    if re.fullmatch(r"[0-9]{1,3}", text) and int(text) <= 0xFF:
        return f"(ip proto {int(text)} or ip6 proto {int(text)})"
    raise PwruError(f"{text!r} is no protocol: a number up to 255, or {PROTOCOLS}")
