"""The kernel that the tests run on, its backends, and few enough functions for each of them."""

from __future__ import annotations

import os
from functools import cache

import pytest

from pwru.kernel.btf import FUNC, vmlinux_btf
from vmtest import kernels

# The booted kernel, by the guest harness's list; None on a machine of which nothing is known.
KERNEL = kernels.find([os.environ["VMTEST_KERNEL"]])[0] if "VMTEST_KERNEL" in os.environ else None
# The backends that must work here, best first.
BACKENDS = KERNEL.backends if KERNEL else ("tracepoint",)

each_backend = pytest.mark.parametrize("backend", BACKENDS)
each_function_backend = pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "tracepoint"])
without_functions = pytest.mark.skipif(BACKENDS == ("tracepoint",), reason="no functions can be traced here")

# Quick to attach, and hit by a ping in both namespaces.
NARROW = "--filter-func", "ip_rcv|icmp_rcv|__ip_local_out"
NARROW_FOR = {"tracepoint": ("--filter-func", "net_dev_queue|netif_receive_skb|consume_skb")}

btf = cache(vmlinux_btf)


def narrow(backend: str) -> tuple[str, ...]:
    """This backend at three or four places that a ping passes."""
    return ("--backend", backend, *NARROW_FOR.get(backend, NARROW))


def few_functions(backend: str) -> tuple[str, ...]:
    """This backend at the main places on a packet's path: few enough for single probes."""
    if backend == "tracepoint":
        return "--backend", backend
    functions = "__ip_local_out|ip6_output|ip_rcv|ipv6_rcv|ip_local_deliver|ip6_input|nf_hook_slow"
    return "--backend", backend, "--filter-func", f"{functions}|{drop_function()}"


@cache
def drop_function() -> str:
    """Commits c504e5c2f964 ("net: skb: introduce kfree_skb_reason()"), in v5.17, and ba8de796baf4 ("net: introduce
    sk_skb_reason_drop function"), in v6.11."""
    newest_first = ("sk_skb_reason_drop", "kfree_skb_reason", "kfree_skb")
    return next(name for name in newest_first if btf().find(name, FUNC))
