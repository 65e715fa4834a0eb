"""Why the kernel drops a packet: names for --filter-drop-reason.

enum skb_drop_reason is of commit c504e5c2f964 ("net: skb: introduce kfree_skb_reason()"), in v5.17.
"""

from __future__ import annotations

from pwru.errors import PwruError

PREFIX = "SKB_DROP_REASON_"
ANY = "any"


def reasons(wanted: tuple[str, ...], known: dict[int, str]) -> list[int]:
    """Numbers of these reasons, which are names with or without the prefix, in any case, or numbers; [] for `any`.

    `known`: the kernel's enum skb_drop_reason, empty if it has none. Raises PwruError for a name that it does not have.
    """
    if ANY in map(str.lower, wanted):
        return []
    if not known:
        raise PwruError("--filter-drop-reason: this kernel tells no reasons (Linux 5.17 does); `any` shows all drops")
    by_name = {name.removeprefix(PREFIX): number for number, name in known.items()}
    return [_number(word, by_name) for word in wanted]


def _number(word: str, by_name: dict[str, int]) -> int:
    if word.isdecimal():  # a subsystem's are not in the enum
        if int(word) >= 1 << 32:
            raise PwruError(f"--filter-drop-reason: {word} is no number of 32 bits")
        return int(word)
    name = word.upper().removeprefix(PREFIX)
    if name in by_name:
        return by_name[name]
    from difflib import get_close_matches

    near = get_close_matches(name, by_name, n=3) or [other for other in by_name if name in other][:3]
    hint = f"did you mean {' or '.join(near)}?" if near else "include/net/dropreason-core.h lists them"
    raise PwruError(f"--filter-drop-reason: this kernel has no {word!r}; {hint}")
