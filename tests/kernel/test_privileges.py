"""What pwru may still do once it traces, and that it is enough to trace on, to name everything, and to end."""

from __future__ import annotations

import pwd
import re
import shutil
import signal
from pathlib import Path

import pytest

from pwru.kernel.features import CAPABILITIES
from vmtest.network import Network

from .backends import KERNEL, each_backend, narrow
from .refusals import PACKAGE, refused
from .tracing import Start, Trace

pytestmark = [pytest.mark.two_kernels, pytest.mark.usefixtures("nothing_left")]

NOBODY = pwd.getpwnam("nobody")
# Up to v5.18 every bpf() takes CAP_BPF, with Debian's kernel.unprivileged_bpf_disabled.
OF_THE_END = {"CAP_BPF"} if KERNEL and KERNEL.name == "5.10" else set()


def status(trace: Trace) -> dict[str, list[str]]:
    lines = Path(f"/proc/{trace.process.pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def kept(trace: Trace) -> set[str]:
    """The capabilities that the tracer has, and can have: both sets are the same."""
    of_process = status(trace)
    assert of_process["CapEff"] == of_process["CapPrm"]
    assert (of_process["CapInh"], of_process["NoNewPrivs"]) == (["0" * 16], ["1"])
    mask = int(of_process["CapPrm"][0], 16)
    names = {name for name, number in CAPABILITIES.items() if mask >> number & 1}
    assert mask.bit_count() == len(names) or names == set(CAPABILITIES)
    return names


@each_backend
def test_nothing_that_is_not_needed(network: Network, pwru: Start, backend: str) -> None:
    with pwru(*narrow(backend), "--follow", "--output-stack", "--output-json", "icmp") as trace:
        assert kept(trace) == OF_THE_END
        network.ping()
        trace.wait_for(lambda: len(trace.objects()) > 3)
        assert trace.stop() == 0
    assert trace.totals() == (len(trace.objects()), 0)


@pytest.mark.parametrize("backend", ["kprobe", "tracepoint"])
def test_another_user(network: Network, pwru: Start, folder: Path, backend: str) -> None:
    """kprobe counts missed hits in tracefs, which is root's."""
    files = "--output-file", f"{folder}/events", "--ready-file", f"{folder}/ready"
    with pwru(*narrow(backend), "--user", "nobody", *files, "icmp") as trace:
        assert kept(trace) == OF_THE_END | ({"CAP_DAC_OVERRIDE"} if backend == "kprobe" else set())
        assert status(trace)["Uid"] == [str(NOBODY.pw_uid)] * 4
        assert status(trace)["Gid"] == [str(NOBODY.pw_gid)] * 4
        assert set(status(trace)["Groups"]) <= {str(NOBODY.pw_gid)}
        network.ping()
        trace.wait_for(lambda: (folder / "events").read_text().count("\n") > 3)
        assert trace.stop() == 0
    assert {path.stat().st_uid for path in folder.iterdir()} == {NOBODY.pw_uid}
    assert {path.name for path in folder.iterdir()} == {"events", "ready"}
    assert re.search(r"^[1-9]\d* events of .*, 0 lost", trace.err, re.MULTILINE), trace.err


@pytest.mark.one_kernel
def test_root_creates_files_in_folders_of_others(network: Network, pwru: Start, folder: Path) -> None:
    """Also when it has given up the rest: logrotate renames the file and asks for a new one."""
    events = folder / "events"
    with pwru(*narrow("tracepoint"), "--output-file", str(events), "icmp") as trace:
        assert kept(trace) == OF_THE_END | {"CAP_DAC_OVERRIDE"}
        events.rename(folder / "old")
        trace.process.send_signal(signal.SIGHUP)
        trace.wait_for(events.exists)
        network.ping()
        trace.wait_for(lambda: "consume_skb" in events.read_text())
        assert trace.stop() == 0


@pytest.mark.one_kernel
@pytest.mark.parametrize("later", ["--all-kmods", "--filter-trace-tc"])
def test_what_attaches_later_keeps_all(network: Network, pwru: Start, later: str) -> None:
    with pwru(*narrow("kprobe"), later, "icmp") as trace:
        assert kept(trace) == set(CAPABILITIES)
        assert trace.stop() == 0


def test_symbols_of_modules_are_still_named(network: Network, pwru: Start) -> None:
    """They are read when the first event needs them; /proc/kallsyms shows addresses only to CAP_SYSLOG."""
    function = "--filter-func", "__dev_forward_skb", "--backend", "kprobe"
    with pwru(*function, "--output-caller", "--output-json", "icmp") as trace:
        assert kept(trace) == OF_THE_END
        network.ping()
        trace.wait_for(lambda: len(trace.objects()) > 1)
        assert trace.stop() == 0
    assert all(re.fullmatch(r"veth_\w+(\+0x\w+)?\[veth\]", event["caller_func"]) for event in trace.objects()), (
        trace.out
    )


@pytest.mark.one_kernel
@pytest.mark.parametrize("flag", ["--output-file", "--ready-file"])
def test_a_file_that_the_user_may_not_create(flag: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    line = refused("pwru", "--user=nobody", f"{flag}={tmp_path}/new")
    assert re.fullmatch(rf"pwru: {flag}: cannot \w+ {tmp_path}/new: Permission denied \(as nobody\)", line)


@pytest.mark.one_kernel
def test_a_program_that_the_user_may_not_read(tmp_path: Path) -> None:
    """Modules are imported when they are needed, later, too."""
    code, copy = PACKAGE / "live/privileges.py", tmp_path / "copy"
    shutil.copy(code, copy)
    copy.chmod(0o600)
    line = refused("pwru", "--user=nobody", before=f"mount --bind {copy} {code}")
    assert line == f"pwru: --user: cannot read {code}, of pwru or Python; install it where all may read it (as nobody)"


@pytest.mark.one_kernel
@pytest.mark.parametrize("name", ["no-such-user", "4294967296", "", "-1"])
def test_no_such_user(name: str) -> None:
    assert refused("pwru", f"--user={name}") == f"pwru: --user: there is no user {name!r}"
