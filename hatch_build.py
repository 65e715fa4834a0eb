"""Build hook: the wheel carries `pwru/pwru.bpf.o`, made by bpf/Makefile for the machine that builds it.

Or for that in PWRU_MACHINE: all else in the wheel is Python, so an aarch64 wheel can be built on x86_64.
"""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ARCH = {"x86_64": "x86", "aarch64": "arm64"}


class BpfObject(BuildHookInterface[Any]):
    """Makes the object where it is missing or older than its sources, and names the platform in the wheel's tag."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        machine = os.environ.get("PWRU_MACHINE") or platform.machine()
        if machine not in ARCH:
            self.app.abort(f"pwru is built for {' and '.join(ARCH)} only, not for {machine}")
        bpf = Path(self.root, "bpf")
        # an editable install runs from the checkout: a link there, and nothing in the wheel
        goal = "use" if version == "editable" else "all"
        try:
            made = subprocess.run(
                ["make", "-s", "-C", bpf, f"ARCH={ARCH[machine]}", goal],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            self.app.abort("make is missing, which builds the BPF object: apt-get install make")
        if made.returncode:
            self.app.abort(f"the BPF object cannot be built:\n{made.stdout.strip()}")
        if version != "editable":
            built = Path(self.root, "build/bpf", ARCH[machine], "pwru.bpf.o")
            build_data["force_include"][str(built)] = "pwru/pwru.bpf.o"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{machine}"
