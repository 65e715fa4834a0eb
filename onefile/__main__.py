"""The command line: `python -m onefile [x86_64|aarch64]` makes dist/pwru-ARCH."""

import argparse
import platform
from pathlib import Path

from onefile import build
from vmtest.arches import BY_UNAME
from vmtest.command import run_main

DIST = Path(__file__).parent.parent / "dist"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m onefile", description=__doc__)
    parser.add_argument("machine", nargs="?", default=platform.machine(), choices=BY_UNAME, help="default: this one")
    machine = parser.parse_args(arguments).machine
    DIST.mkdir(exist_ok=True)
    file = DIST / f"pwru-{machine}"
    build.build(BY_UNAME[machine], file)
    print(f"{file.relative_to(DIST.parent)}: {file.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    run_main("onefile", main)
