"""`make demo`: trace real traffic on this machine's kernel, and in a guest if it only lets tracepoints be traced."""

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
    say(f"A connection to a port that a firewall rule drops, on this machine (Linux {release})")
    status = subprocess.run([sys.executable, SCENARIO], cwd=ROOT, check=False).returncode
    if status != TRACEPOINTS_ONLY:
        return status
    say(f"This kernel lets only tracepoints be traced. The same in a guest (Linux {KERNEL}), function by function")
    return subprocess.run(
        [sys.executable, "-m", "vmtest", KERNEL, "--", "python3", f"/pwru/{SCENARIO}"], cwd=ROOT, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
