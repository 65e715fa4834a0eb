"""`import pwru` in a script: typed events of a live kernel, and a process that afterwards is what it was before.

The scripts run in processes of their own, with the installed product, as a user's would.
"""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from vmtest.network import Network

from .backends import KERNEL, each_backend
from .leftovers import PATIENCE, ids, wait_for

pytestmark = [pytest.mark.one_kernel, pytest.mark.usefixtures("nothing_left")]

README = Path(__file__).parents[2] / "README.md"
# Before and after a trace: descriptors, signal handlers, threads, children.
STATE = """
import json, os, signal, sys, threading, time

def state():
    descriptors = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            descriptors[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # the one that lists them
            pass
    handlers = [str(signal.getsignal(number)) for number in signal.valid_signals()]
    children = open("/proc/thread-self/children").read()
    return descriptors, handlers, signal.set_wakeup_fd(-1), threading.active_count(), children

import pwru
first = state()
"""
# Of epoll_wait(2) on x86-64, epoll_pwait(2) on arm64.
EPOLL_WAIT = ("232", "22")
READY = "print('ready', flush=True)\n"


@contextmanager
def script(code: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-u", "-c", code]
    with subprocess.Popen(command, cwd="/", stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def result(process: subprocess.Popen[str], text: str | None = None) -> Any:
    """Return what the script, given this input, printed last, as JSON."""
    out, err = process.communicate(text, timeout=PATIENCE)
    assert process.returncode == 0, err
    assert err == ""
    return json.loads(out.splitlines()[-1])


def until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout
    assert select.select([process.stdout], [], [], PATIENCE)[0], "it hangs"
    assert process.stdout.readline() == "ready\n", process.communicate(timeout=PATIENCE)


def test_the_example_of_the_readme(network: Network) -> None:
    """It runs until Ctrl-C, which ends it as any script."""
    (block,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert len([line for line in block.splitlines() if line]) <= 5
    with script(block) as process:
        assert process.stdout
        before = ids("prog")
        wait_for(lambda: ids("prog") != before or process.poll() is not None)
        lines: list[str] = []
        while not lines:
            network.ping()
            if select.select([process.stdout], [], [], 1)[0]:
                lines.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    assert err.rstrip().endswith("KeyboardInterrupt")
    lines += out.splitlines(keepends=True)
    assert all(re.fullmatch(r"ip_rcv 10\.9\.0\.[12] v[01]\n", line) for line in lines), lines


@each_backend
def test_events_and_what_is_left(network: Network, backend: str) -> None:
    """A loop that is left, a stop() from another thread, and one from a signal handler, one after the other."""
    functions = None if backend == "tracepoint" else "ip_rcv|icmp_rcv|ip_local_deliver"
    code = (
        STATE
        + f"""
def events():
    parts = {{"meta": 0, "tuple": 0, "time": 0, "stack": 0, "payload": 64}}
    return pwru.trace("icmp", functions={functions!r}, backend={backend!r}, parts=parts, skb_metadata=["skb->len"])

with events() as trace:
    {READY.strip()}
    for event in trace:
        if event.tuple.saddr == {network.source!r} and event.meta.ifname:
            break
seen = [event.function.name, event.meta.ifname, event.tuple.daddr, event.task.pid > 0, event.time > 0,
        len(event.stack.frames) > 3, len(event.payload.data), list(event.parts["values"]) == [event.meta.len]]
left = state()

with events() as trace:
    {READY.strip()}
    stopper = threading.Thread(target=trace.stop)
    count = 0
    for event in trace:
        count += 1
        if count == 2:
            stopper.start()
    stopper.join()
stopped, account = state(), trace.account

signal.signal(signal.SIGUSR1, lambda *_: trace.stop())
second = state()
with events() as trace:
    {READY.strip()}
    rest = sum(1 for event in trace)
print(json.dumps([seen, first == left, first == stopped, second == state(), count, account.events, account.hits, rest]))
"""
    )
    with script(code) as process:
        for _ in range(2):
            until_ready(process)
            network.ping()
        until_ready(process)
        process.send_signal(signal.SIGUSR1)
        seen, left, stopped, by_signal, count, events, hits, rest = result(process)
    assert seen[1] in ("v0", "v1")
    assert seen[2:] == [network.destination, True, True, True, 64, True]
    assert seen[0].startswith("tracepoint:") or seen[0] in ("ip_rcv", "icmp_rcv", "ip_local_deliver")
    assert (left, stopped, by_signal) == (True, True, True)
    assert count == events == hits >= 2
    assert rest == 0


def test_a_signal_that_another_thread_gets() -> None:
    """The kernel delivers it to any thread; Python runs its handler in the main one, which waits for events."""
    code = (
        STATE
        + f"""
def interrupt():
    {READY.strip()}
    sys.stdin.readline()
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

with pwru.trace("icmp", backend="tracepoint") as trace:
    signal.signal(signal.SIGUSR1, lambda *_: trace.stop())
    threading.Thread(target=interrupt).start()
    print(json.dumps(sum(1 for event in trace)))
"""
    )
    with script(code) as process:
        until_ready(process)
        waits = Path(f"/proc/{process.pid}/syscall")
        wait_for(lambda: waits.read_text().split()[0] in EPOLL_WAIT)
        assert result(process, "\n") == 0


@pytest.mark.one_kernel
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("'icmpx'", "pcap filter 'icmpx': "),
        ("functions='no_such_function'", "`functions` no_such_function: matches no function"),
        ("parts=['mtea']", "`parts`: no such part: mtea; did you mean meta?"),
        ("netns='/nowhere'", "/nowhere: No such file or directory"),
        ("backend='kprobe', functions='ip_rcv', skb_expr='skb->nothing'", "nothing"),
        ("backend='kprobes'", "`backend`: no such backend: kprobes; did you mean kprobe"),
        ("pid=-1", "`pid`: -1 is not a PID"),
        ("comm='x' * 16", "`comm`: the kernel keeps 1 to 15 bytes of a name"),
        ("netns='/a\\0b'", "`netns` must be text, without a NUL"),
        ("ifname=1", "`ifname` must be text"),
        ("'icmp\\0and port 99'", "it has a NUL"),
        ("modules='no_such'", "`modules` no_such: there is no such module"),
        ("parts={'payload': 0}", "`parts`: payload takes a size in bytes, 1 to 1024"),
        ("parts='values'", "`parts`: values come with `skb_metadata`"),
        ("skb_metadata=['skb->len'] * 2", "`skb_metadata`: a field is there twice"),
        ("skb_metadata=['skb->len', 'skb->mark', 'skb->hash', 'skb->priority', 'skb->protocol']", "5 fields; up to"),
        ("drop_reasons='any', functions='x'", "`drop_reasons` works only without `functions`"),
    ],
)
def test_errors(arguments: str, said: str) -> None:
    """An exception that names the parameter, and a process as before."""
    code = (
        STATE
        + f"""
for again in range(2):
    try:
        with pwru.trace({arguments}):
            raise SystemExit("it traces")
    except pwru.PwruError as error:
        text = str(error)
print(json.dumps([text, first == state()]))
"""
    )
    with script(code) as process:
        text, same = result(process)
    assert said in text
    assert same


@each_backend
def test_an_exception_in_the_loop(network: Network, backend: str) -> None:
    functions = None if backend == "tracepoint" else "ip_rcv|icmp_rcv"
    code = (
        STATE
        + f"""
try:
    with pwru.trace("icmp", functions={functions!r}, backend={backend!r}) as events:
        {READY.strip()}
        for event in events:
            raise ZeroDivisionError
except ZeroDivisionError:
    print(json.dumps(first == state()))
"""
    )
    with script(code) as process:
        until_ready(process)
        network.ping()
        assert result(process) is True


@pytest.mark.one_kernel
def test_misuse(network: Network) -> None:
    """Left by one thread while another iterates, entered twice, used outside, and forgotten."""
    code = (
        STATE
        + f"""
import gc
def tracing():
    return pwru.trace("icmp", backend="tracepoint")

def error(use):
    try:
        use()
    except pwru.PwruError as error:
        return str(error)

events = tracing().__enter__()
thread = threading.Thread(target=lambda: [event for event in events])
thread.start()
{READY}
again = error(events.__enter__)
sys.stdin.readline()
events.__exit__()
thread.join(60)
outside = error(lambda: next(iter(events))), error(lambda: tracing().account)
forgotten = tracing().__enter__()
forgotten.stop()
del forgotten, events, thread
gc.collect()
print(json.dumps([again, *outside, threading.active_count(), first == state()]))
"""
    )
    with script(code) as process:
        until_ready(process)
        network.ping()
        again, after, before, threads, same = result(process, "\n")
    assert again == "a trace is entered once: make another one"
    assert after == before == "the trace is not open: it is only inside its `with` block"
    assert threads == 1
    assert same


@pytest.mark.one_kernel
def test_packets_that_are_followed(network: Network) -> None:
    """Each is given with its way; what is read of them is read by no other loop."""
    code = (
        STATE
        + f"""
parts = ["meta", "tuple", "time"]
with pwru.trace("icmp", functions="ip_rcv|icmp_rcv|skb_release_head_state", parts=parts, follow=True) as events:
    {READY.strip()}
    sys.stdin.readline()
    events.stop()
    ways = [[way.number, way.end, [step.function.name for step in way.steps]] for way in events.packets()]
    rest = sum(1 for event in events)
print(json.dumps([ways, rest, events.about.follow_limit]))
"""
    )
    with script(code) as process:
        until_ready(process)
        network.ping()
        ways, rest, limit = result(process, "\n")
    assert [number for number, _, _ in ways] == list(range(1, len(ways) + 1))
    assert [names[:2] == ["ip_rcv", "icmp_rcv"] for _, _, names in ways].count(True) >= 2
    assert {end for _, end, _ in ways} == {"ended"}
    assert (rest, limit) == (0, 16384)


@pytest.mark.one_kernel
def test_a_second_loop_goes_on_where_the_first_was_left(network: Network) -> None:
    code = (
        STATE
        + f"""
with pwru.trace("icmp", backend="tracepoint") as events:
    {READY.strip()}
    sys.stdin.readline()
    for event in events:
        break
    events.stop()
    count = 1 + sum(1 for event in events)
    account = events.account
print(json.dumps([count, account.events, account.hits]))
"""
    )
    with script(code) as process:
        until_ready(process)
        network.ping()
        count, events, hits = result(process, "\n")
    assert count == events == hits > 4


@pytest.mark.skipif(not KERNEL, reason="the machine has other processes that trace")
def test_importing_costs_little() -> None:
    """`import pwru` alone loads neither libbpf nor libpcap, and opens nothing."""
    code = STATE + "print(json.dumps(sorted(m for m in sys.modules if m.startswith(('pwru.', 'libpcap', 'ctypes')))))"
    with script(code) as process:
        assert result(process) == []
