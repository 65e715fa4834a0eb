"""Reasons why the kernel drops a packet, by name.

enum skb_drop_reason is of commit c504e5c2f964 ("net: skb: introduce kfree_skb_reason()"), in v5.17.
"""

from pwru.errors import PwruError, did_you_mean, near

PREFIX = "SKB_DROP_REASON_"
ANY = "any"


def reasons(wanted: tuple[str, ...], known: dict[int, str]) -> list[int]:
    """Return the numbers of these reasons, which are names with or without the prefix, in any case, or numbers.

    For `any` the list is empty. `known` is the kernel's enum skb_drop_reason, which may be empty. Raises PwruError.
    """
    if ANY in map(str.lower, wanted):
        return []
    if not known:
        raise PwruError("`drop_reasons`: this kernel does not report drop reasons (Linux 5.17 and later do); use `any`")
    by_name = {name.removeprefix(PREFIX): number for number, name in known.items()}
    return [_number(word, by_name) for word in wanted]


def _number(word: str, by_name: dict[str, int]) -> int:
    if word.isdecimal():  # the reasons of a subsystem are not in the enum
        if int(word) >= 1 << 32:
            raise PwruError(f"`drop_reasons`: {word} is no number of 32 bits")
        return int(word)
    name = word.upper().removeprefix(PREFIX)
    if name in by_name:
        return by_name[name]
    hint = near(name, by_name) or did_you_mean([other for other in by_name if name in other][:3])
    hint = hint or "include/net/dropreason-core.h lists them"
    raise PwruError(f"`drop_reasons`: this kernel has no {word!r}; {hint}")
