"""Whose probes are left over is known by a lock, in whatever PID namespace its holder is."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pwru.live.backends.child import start
from pwru.live.backends.kprobe_events import dead_groups, hold, new_names


def test_a_group_is_dead_with_the_last_who_holds_it(tmp_path: Path) -> None:
    (tmp_path / "kprobe_events").touch()
    mine, other = (new_names()[0] for _ in range(2))
    for group in (mine, other, "pwru_my_own", f"{mine}_more"):
        (tmp_path / "events" / group).mkdir(parents=True)
    assert sorted(dead_groups(tmp_path)) == sorted([mine, other])
    lock = hold(tmp_path, mine)
    assert dead_groups(tmp_path) == [other]
    guardian = start(lambda read_end: os.read(read_end, 1), [lock])
    os.close(lock)
    assert dead_groups(tmp_path) == [other]
    guardian.release()
    deadline = time.monotonic() + 20
    while mine not in dead_groups(tmp_path):
        assert time.monotonic() < deadline
