"""What functions mean for packets that are followed: enum role of bpf/pwru.h, by the name of the function.

Found in Linux 5.10 to 7.2. A function that a kernel does not have, or that the compiler inlined, is a relation that
cannot be seen there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pwru.kernel.functions import Target

# Every skb whose memory is given back passes RELEASE or one of the others that end it; the first of them is its end.
# What they call has it after that.
RELEASE = "skb_release_head_state"
AFTER_ENDS = re.compile(r"skb_release_data|skb_free_head|kfree_skbmem|napi_skb_cache_put|\w+_[a-z]free|\w+_destruct\w*")
_ROLES = {
    RELEASE: "ROLE_END",
    "napi_skb_free_stolen_head": "ROLE_STOLEN",
    "napi_reuse_skb": "ROLE_END_SECOND",
    "kfree_skbmem": "ROLE_LAST",
    "__kfree_skb": "ROLE_FREEING",
    "__consume_stateless_skb": "ROLE_FREEING",
    "kfree_skb_partial": "ROLE_MERGED",
    "__napi_kfree_skb": "ROLE_FREEING_REASON",
    "pskb_expand_head": "ROLE_HEAD",
    "__copy_skb_header": "ROLE_COPY",
    "ip_copy_metadata": "ROLE_FRAGMENT",
    "ip6_copy_metadata": "ROLE_FRAGMENT",
    "inet_frag_reasm_finish": "ROLE_REASSEMBLE",
    "skb_split": "ROLE_SPLIT",
    "skb_gro_receive": "ROLE_MERGE",
    "skb_gro_receive_list": "ROLE_MERGE",
    "skb_try_coalesce": "ROLE_MERGE",
    "__tcp_transmit_skb": "ROLE_TRANSMIT",
}
ENDING = {name for name, role in _ROLES.items() if role in ("ROLE_END", "ROLE_STOLEN", "ROLE_END_SECOND", "ROLE_LAST")}
_SECOND = {"ROLE_TRANSMIT", "ROLE_END_SECOND", "ROLE_REASSEMBLE"}  # whose first skb is the second argument
ENDS = "ends"
# What each kind of relation is seen by: all of these.
RELATIONS = {
    "clones, copies and segments": ("__copy_skb_header",),
    "IP fragments": ("ip_copy_metadata", "ip6_copy_metadata"),
    "reassembly": ("inet_frag_reasm_finish",),
    "what TCP splits": ("skb_split",),
    "merges": ("skb_gro_receive", "skb_try_coalesce"),
    "transmissions of TCP": ("__tcp_transmit_skb",),
    "new heads": ("pskb_expand_head",),
    ENDS: (RELEASE,),
}
# The end of each packet, at the tracepoints where it is released; not of what __kfree_skb() frees.
TRACEPOINTS = {"kfree_skb": "ROLE_END", "consume_skb": "ROLE_END"}


def role_of(target: Target) -> str:
    """Return the name of the role of a function, "" if it has none, or other arguments than the role expects."""
    name, _, _ = target.name.partition(".")
    role = _ROLES.get(name, "")
    if not role and AFTER_ENDS.fullmatch(name):
        role = "ROLE_AFTER_END"
    first = 2 if role in _SECOND else 1
    return role if target.skb_arg == first and not target.double_pointer else ""


def with_roles(chosen: Iterable[Target], everything: Iterable[Target]) -> list[Target]:
    """Return the chosen functions with their roles, and those others, silent, without which nothing can be followed."""
    given = [target._replace(role=role_of(target)) for target in chosen]
    names = {target.name for target in given}
    further = (target._replace(role=role_of(target), silent=True) for target in everything if target.name not in names)
    return given + [target for target in further if target.role and target.name in _ROLES]


def missing(targets: Iterable[Target]) -> list[str]:
    """Return the kinds of relations that cannot be seen with these functions."""
    names = {target.name for target in targets if target.role}
    return [kind for kind, functions in RELATIONS.items() if not names.issuperset(functions)]
