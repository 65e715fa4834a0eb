"""Killed with SIGKILL at any moment of attach, trace and detach, a tracer soon leaves nothing in the kernel."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import NamedTuple

import pytest

from vmtest.network import Network

from .backends import BACKENDS, narrow
from .leftovers import PATIENCE, TRACEFS, probes, traces

pytestmark = [pytest.mark.one_kernel, pytest.mark.usefixtures("nothing_left")]

# To repeat a failed run: python -m vmtest KERNEL -- SEED=N python3 -m pytest tests/kernel/test_kill.py
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
KILLS = 60
ROUND = 20
AT_ONCE = 2
PROBES = 1000  # the minimum when all functions are traced


class Victim(NamedTuple):
    """A tracer that is killed at `moment`, from 0 to 1, of a phase of its life."""

    arguments: tuple[str, ...]
    phase: str
    moment: float
    with_guardian: bool

    def run(self, took: dict[str, float]) -> None:
        """Start the tracer and kill it. `took`: the duration of each phase, in seconds."""
        process = subprocess.Popen(["pwru", *self.arguments], stdout=DEVNULL, stderr=PIPE, text=True)
        try:
            if self.phase == "define":
                wanted, group = self.moment * PROBES, f"_{process.pid}_"
                while sum(group in probe.partition("/")[0] for probe in probes()) < wanted:
                    assert process.poll() is None
                    time.sleep(0.1)
            elif self.phase != "attach":
                until_listening(process)
            if self.phase == "detach":
                process.send_signal(signal.SIGINT)
            time.sleep(self.moment * took[self.phase])
        finally:
            for pid in [*children(process.pid), process.pid] if self.with_guardian else [process.pid]:
                with contextlib.suppress(ProcessLookupError):  # it has ended already
                    os.kill(pid, signal.SIGKILL)
            process.communicate()


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def until_listening(process: subprocess.Popen[str]) -> None:
    assert process.stderr
    lines = []
    for line in process.stderr:
        if line == "Listening for events..\n":
            return
        lines.append(line)
    raise AssertionError(f"it ended: {lines}")


def life(*arguments: str) -> dict[str, float]:
    """The duration of each phase of a tracer that is not killed, in seconds."""
    began = time.monotonic()
    process = subprocess.Popen(["pwru", *arguments], stdout=DEVNULL, stderr=PIPE, text=True)
    until_listening(process)
    ready = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    return {"attach": ready - began, "define": 0, "trace": 0.2, "detach": time.monotonic() - ready}


def in_kernel() -> dict[str, object]:
    """Everything that tracers have in the kernel, and which of it is enabled, by the kernel's own lists."""
    return {
        **traces(),
        "kprobes": sorted(Path("/sys/kernel/debug/kprobes/list").read_text().splitlines()),
        "enabled_functions": sorted((TRACEFS / "enabled_functions").read_text().splitlines()),
    }


@pytest.fixture
def noise(network: Network) -> Iterator[None]:
    """Send packets all the time, so that enabled probes are hit."""
    command = ["ip", "netns", "exec", network.client, "ping", "-q", "-i0.05", network.destination]
    process = subprocess.Popen(command, stdout=DEVNULL)
    yield
    process.kill()
    process.wait()


# The kernel needs a tenth of a second to remove each trampoline: a few are enough.
SHARES = {
    "kprobe-multi": KILLS // 2,
    "kprobe": KILLS // 2,
    "fentry": KILLS // 10,
}


@pytest.mark.usefixtures("noise")
@pytest.mark.parametrize(
    ("backend", "all_functions"), [*((name, False) for name in BACKENDS if name in SHARES), (BACKENDS[0], True)]
)
def test_killed_at_random_moments(backend: str, *, all_functions: bool) -> None:
    chance = random.Random(f"{SEED} {backend} {all_functions}")
    print(f"SEED={SEED}")  # shown if this fails
    before = in_kernel()
    if all_functions:
        arguments: tuple[str, ...] = ("--backend", backend)
        phases, kills = (("define",), 2) if backend == "kprobe" else (("attach", "attach", "trace", "detach"), 5)
    else:
        arguments = narrow(backend)
        phases, kills = ("attach", "attach", "trace", "detach"), SHARES[backend]
    took = life(*(narrow(backend) if phases == ("define",) else arguments))
    victims = [
        Victim(arguments, chance.choice(phases), chance.random(), with_guardian=chance.random() < 0.2)
        for _ in range(kills)
    ]
    for first in range(0, kills, ROUND):
        batch = victims[first : first + ROUND]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(lambda victim: victim.run(took), batch):
                pass
        if any(victim.with_guardian for victim in batch):
            life(*narrow("kprobe"))  # cleans up after tracers that were killed with their guardians
        deadline = time.monotonic() + PATIENCE
        while (after := in_kernel()) != before and time.monotonic() < deadline:
            time.sleep(0.1)
        assert after == before, batch
