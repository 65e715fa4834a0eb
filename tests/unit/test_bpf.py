"""The headers of the BPF programs: each includes what it uses, so that their order does not matter."""

from __future__ import annotations

import subprocess
from pathlib import Path

BPF = Path(__file__).parents[2] / "bpf"


def check_headers(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-s", "-C", str(BPF), "check-headers", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_each_header_compiles_alone() -> None:
    done = check_headers()
    assert done.returncode == 0, done.stderr


def test_a_header_that_needs_another_first_is_refused(tmp_path: Path) -> None:
    header = tmp_path / "needs_pwru.h"
    header.write_text("static inline __u32 cpu_of(const struct task *task) { return task->cpu; }\n")
    done = check_headers(f"HEADERS={BPF / 'config.bpf.h'} {header}")
    assert done.returncode != 0
    assert "needs_pwru.h" in done.stderr
