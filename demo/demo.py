"""`make demo`: the main job on real traffic, on this machine's kernel, and in a guest where it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dropped_syn import TRACEPOINTS_ONLY

ROOT = Path(__file__).resolve().parent.parent
SCENARIO = "demo/dropped_syn.py"
KERNEL = "6.12"


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def main() -> int:
    release = Path("/proc/sys/kernel/osrelease").read_text().strip()
    say(f"A connection to a port that the firewall drops, traced on this machine (Linux {release})")
    status = subprocess.run([sys.executable, SCENARIO], cwd=ROOT, check=False).returncode
    if status != TRACEPOINTS_ONLY:
        return status
    say(f"This kernel lets tracepoints be traced only: the drop, and its reason. The whole way, in a guest ({KERNEL}):")
    return subprocess.run(
        [sys.executable, "-m", "vmtest", KERNEL, "--", "python3", f"/pwru/{SCENARIO}"], cwd=ROOT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
