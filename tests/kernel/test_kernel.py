"""pwru.kernel on the booted kernel. test_vmlinux.py runs the unit tests of BTF on this kernel, too."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from pwru.errors import PwruError
from pwru.kernel import features, ftrace, netns
from pwru.kernel.btf import functions, read_btf, vmlinux_btf
from pwru.kernel.functions import Targets, drop_blacklisted, drop_notrace, find_targets
from pwru.kernel.kallsyms import Kallsyms, text_start
from vmtest.network import Network, sh

pytestmark = pytest.mark.three_kernels


@pytest.fixture(scope="module")
def targets() -> Targets:
    return find_targets(functions(vmlinux_btf(), "sk_buff"), Kallsyms.read())


def available() -> list[str]:
    tracefs = features.tracefs()
    assert tracefs
    return (tracefs / "available_filter_functions").read_text().splitlines()


def test_targets(targets: Targets) -> None:
    """Every skb function that ftrace knows and BTF describes is a target."""
    names = {target.name for target in targets.found}
    assert {"ip_rcv", "__ip_local_out", "tcp_v4_rcv", "ip6_rcv_core", "__dev_queue_xmit"} <= names
    # Kernels built by newer compilers have only a renamed copy; its argument is a double pointer.
    core = [target for target in targets.found if target.name.startswith("__netif_receive_skb_core")]
    assert [(target.skb_arg, target.double_pointer) for target in core] in ([], [(1, True)])
    assert sum(map(len, targets.skipped.values())) < len(targets.found) / 10
    carriers = [function.name for function in functions(vmlinux_btf(), "sk_buff") if function.skb_arg <= 5]
    described = names | {name.split(".")[0] for name in names}
    assert set(carriers) & set(available()) <= described


def test_the_code_tells_what_the_list_of_ftrace_tells(targets: Targets) -> None:
    """Nops at the entry are as reliable as available_filter_functions, which takes twenty times longer to read."""
    addresses = {target.address for target in drop_notrace(targets).found}
    listed = drop_notrace(targets, kcore="/dev/null")
    assert addresses == {target.address for target in listed.found}
    assert 0 < len(addresses) <= len(targets.found)
    assert ftrace.nop_ends([targets.found[0].address]) is not None, "this test compared the list with itself"


def test_functions_that_somebody_else_traces(targets: Targets) -> None:
    tracefs = features.tracefs()
    assert tracefs
    wanted = drop_notrace(targets).found
    traced = [target.name for target in wanted if target.name.startswith("ip_")]
    assert len(traced) > 10
    (tracefs / "set_ftrace_filter").write_text("\n".join(traced))
    (tracefs / "current_tracer").write_text("function")
    try:
        assert drop_notrace(targets).found == wanted
    finally:
        (tracefs / "current_tracer").write_text("nop")
        (tracefs / "set_ftrace_filter").write_text("\n")


def test_the_blacklist_is_read(targets: Targets) -> None:
    lines = Path("/sys/kernel/debug/kprobes/blacklist").read_text().splitlines()
    assert len(lines) > 100
    name = lines[0].split()[1]
    one = targets.found[0]._replace(name=name)
    assert drop_blacklisted(Targets([one, targets.found[1]], {})).found == [targets.found[1]]


def test_symbols_of_a_module(network: Network) -> None:
    """The network consists of veth devices, which are a module in these kernels."""
    symbols = Kallsyms.read()
    (address,) = symbols.find(["veth_xmit"], "veth")["veth_xmit"]
    found = symbols.lookup(address + 8)
    assert found
    assert (found.name, found.module, found.offset) == ("veth_xmit", "veth", 8)


@pytest.mark.differs
def test_functions_of_a_module(network: Network) -> None:
    path = Path("/sys/kernel/btf/veth")
    if not path.exists():
        pytest.skip("this kernel has no BTF of its modules")
    own = functions(read_btf(path, vmlinux_btf()), "sk_buff")
    targets = drop_notrace(find_targets(own, Kallsyms.read(), module="veth"))
    (xmit,) = [target for target in targets.found if target.name == "veth_xmit"]
    assert (xmit.skb_arg, xmit.module) == (1, "veth")
    assert f"{xmit.name} [veth]" in available()


def test_hidden_addresses() -> None:
    """With kptr_restrict set to 2 they are hidden from everybody."""
    sysctl = Path("/proc/sys/kernel/kptr_restrict")
    before = sysctl.read_text()
    sysctl.write_text("2")
    try:
        with pytest.raises(PwruError, match="kptr_restrict"):
            Kallsyms.read()
    finally:
        sysctl.write_text(before)


def test_what_the_kernel_has() -> None:
    """Features detected by BTF agree with the kernel's symbols."""
    btf = vmlinux_btf()
    assert features.tracefs() == Path("/sys/kernel/tracing")
    assert features.missing_capabilities() == []
    assert not features.in_user_namespace()
    assert bool(features.rdonly_cast(btf)) == bool(Kallsyms.read().find(["bpf_rdonly_cast"]))
    assert features.charges_memlock(btf) == (not Kallsyms.read().find(["bpf_ktime_get_coarse_ns"]))


def test_where_the_code_begins() -> None:
    assert text_start() == Kallsyms.read().find(["_text"])["_text"][0]


def test_capabilities_that_are_not_there() -> None:
    dropped = sh(
        "setpriv", "--bounding-set=-bpf,-sys_admin,-perfmon", "--inh-caps=-all", "--", "cat", "/proc/self/status"
    ).stdout  # fmt: skip
    status = Path("/tmp/status")
    status.write_text(dropped)
    assert features.missing_capabilities(status=str(status)) == ["CAP_BPF", "CAP_PERFMON"]
    assert features.missing_capabilities(("CAP_SYSLOG",), str(status)) == []


# --- network namespaces ---


def inode(name: str) -> int:
    return os.stat(f"/run/netns/{name}").st_ino


def test_namespace_by_name_and_inode(network: Network) -> None:
    assert netns.resolve_netns("/run/netns/client") == inode("client") != netns.current_netns()
    index = int(network.run("client", "cat", "/sys/class/net/v0/ifindex").stdout)
    for spec in ("/run/netns/client", f"inode:{inode('client')}", "client", f"{inode('client')}"):
        assert netns.resolve_netns(spec) == inode("client")
        assert {netns.ifindex(name, spec) for name in ("v0", f"v0:{index}", f"{index}", "v0@if2")} == {index}
    with pytest.raises(PwruError, match="did you mean client"):
        netns.resolve_netns("cleint")


def test_namespace_by_a_process_in_it() -> None:
    """The namespace has no name and exists only through a process. Loaded tunnel modules add interfaces to it."""
    script = "ip link add here type veth peer there; echo; exec sleep 100"
    with subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            inode = netns.resolve_netns(f"/proc/{process.pid}/ns/net")
            assert inode != netns.current_netns()
            links = json.loads(sh("nsenter", f"--net=/proc/{process.pid}/ns/net", "ip", "-json", "link").stdout)
            indexes = {link["ifname"]: link["ifindex"] for link in links}
            assert {name: netns.ifindex(name, f"inode:{inode}") for name in indexes} == indexes
            assert {"lo", "here", "there"} <= indexes.keys()
        finally:
            process.kill()
    with pytest.raises(PwruError, match="no process in network namespace"):
        netns.ifindex("lo", f"inode:{inode}")


def test_this_process_stays_where_it_is(network: Network) -> None:
    before, interfaces = netns.current_netns(), socket.if_nameindex()
    netns.ifindex("v0", "/run/netns/client")
    with pytest.raises(PwruError, match=r"no interface v1 in network namespace /run/netns/client; there is .*v0"):
        netns.ifindex("v1", "/run/netns/client")
    assert (netns.current_netns(), socket.if_nameindex()) == (before, interfaces)


def test_alternative_name(network: Network) -> None:
    sh("ip", "-n", "client", "link", "property", "add", "dev", "v0", "altname", "uplink")
    assert netns.ifindex("uplink", "/run/netns/client") == netns.ifindex("v0", "/run/netns/client")
    sh("ip", "-n", "client", "link", "property", "del", "dev", "v0", "altname", "uplink")
