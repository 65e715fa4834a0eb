"""Values of flags: functions from the text of an argument to its value.

Each raises PwruError for text that is no such value.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pwru.errors import PwruError
from pwru.live.request import MAX_COMM, MAX_FOLLOWED, MAX_PAYLOAD, MAX_PID

if TYPE_CHECKING:
    from pwru.replay.moments import Span

# The protocols of libpcap that stand alone. Not `vlan`, `mpls` and the like, which move what comes after them.
PROTOCOLS = "ah, arp, carp, esp, icmp, icmp6, igmp, igrp, ip, ip6, pim, rarp, sctp, stp, tcp, udp, vrrp"

_MAX_DAYS = 36500
_MAX_COUNT = (1 << 63) - 1
_NAME_MAX = 255  # include/uapi/linux/limits.h


def boolean(text: str) -> bool:
    if text.lower() in ("true", "t", "1"):
        return True
    if text.lower() in ("false", "f", "0"):
        return False
    raise PwruError(f"{text!r} is neither true nor false")


def count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > _MAX_COUNT:
        raise PwruError(f"{text!r} is not a number of 0 or more")
    return int(text)


def positive(text: str) -> int:
    if not (value := count(text)):
        raise PwruError("it must be 1 or more")
    return value


def pid(text: str) -> int:
    """Return a PID, which may be typed as PROCESS has it: ping:214."""
    if not 1 <= (value := count(text.rpartition(":")[2])) <= MAX_PID:
        raise PwruError(f"{text!r} is not a PID (1 to {MAX_PID})")
    return value


def followed(text: str) -> int:
    if not 1 <= (value := count(text)) <= MAX_FOLLOWED:
        raise PwruError(f"{text!r} is not a number of skbs (1 to {MAX_FOLLOWED})")
    return value


def days(text: str) -> int:
    if (value := count(text)) > _MAX_DAYS:
        raise PwruError(f"{text}: it must be {_MAX_DAYS} or less; 0 is for ever")
    return value


def size(text: str) -> int:
    """Return bytes: 4096, 512K, 8M, 1G."""
    match = re.fullmatch(r"([0-9]{1,10})([KMG]?)", text, re.IGNORECASE)
    value = int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2].upper()] if match else 0
    if not 1 <= value <= 1 << 30:
        raise PwruError(f"{text!r} is not a size up to 1G, such as 512K or 8M")
    return value


def u32(text: str) -> int:
    # Not all that int() takes: 1_0, 0b11, ' 7', 0o17. What begins with a 0 may be meant as octal.
    decimal, hexadecimal = re.fullmatch(r"0|[1-9][0-9]{0,9}", text), re.fullmatch(r"0[xX]0*[0-9a-fA-F]{1,8}", text)
    if not (decimal or hexadecimal) or (value := int(text, 0)) >= 1 << 32:
        raise PwruError(f"{text!r} is not a number of 32 bits, decimal or 0x…")
    return value


def mark(text: str) -> tuple[int, int]:
    """Return MARK and MASK, by default all ones: 0 is packets without a mark."""
    number_text, slash, mask_text = text.partition("/")
    number, mask = u32(number_text), u32(mask_text) if slash else 0xFFFFFFFF
    if number & ~mask:
        raise PwruError(f"{text!r} matches no packet: the mark has bits that the mask lacks")
    return number, mask


def comm(text: str) -> str:
    if not 1 <= len(os.fsencode(text)) <= MAX_COMM or "\0" in text:
        raise PwruError(f"{text!r} is no name of a process: the kernel keeps 1 to {MAX_COMM} bytes of it")
    return text


def name_width(text: str) -> int:
    if not len("NETNS NAME") <= (width := count(text)) <= _NAME_MAX:
        raise PwruError(f"{text}: it must be 10 or more, up to {_NAME_MAX}")
    return width


def names(text: str) -> tuple[str, ...]:
    return _listed(text, r"[\w-]+", "names: a,b,c")


def functions(text: str) -> tuple[str, ...]:
    """Return names of functions, with those that the compiler gave a suffix."""
    return _listed(text, r"[\w.]+", "functions: a,b,c")


def drop_reasons(text: str) -> tuple[str, ...]:
    return _listed(text, r"\w+(/\d+)?", "drop reasons: NO_SOCKET,QDISC,QDISC/3")


def fields(text: str) -> tuple[str, ...]:
    return _listed(text, r"(?s).+", "fields: skb->mark,skb->dev->mtu")


def only(text: str) -> tuple[str, ...]:
    from pwru.record.wrong import parse

    words = tuple(word.strip() for word in text.split(","))
    parse(words)
    return words


def _listed(text: str, each: str, what: str) -> tuple[str, ...]:
    """Return the words between commas, all of which match as a whole; `what` names them, with an example."""
    listed = tuple(word.strip() for word in text.split(","))
    if not all(re.fullmatch(each, word) for word in listed):
        raise PwruError(f"{text!r} is not a list of {what}")
    return listed


def payload(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MAX_PAYLOAD:
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


def packets(text: str) -> list[int]:
    return [positive(number.removeprefix("#")) for number in text.split(",")]


def span(text: str) -> Span:
    from pwru.replay.moments import span

    return span(text)
