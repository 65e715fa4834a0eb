"""The README's lines about containers, for the tests on this machine and in guests."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).parents[2] / "README.md"


class DockerLine(NamedTuple):
    """The words of `docker run`: what comes before the image, the image, what comes after it."""

    options: tuple[str, ...]
    image: str
    arguments: tuple[str, ...]

    def values(self, option: str) -> list[str]:
        return [word.partition("=")[2] for word in self.options if word.startswith(f"{option}=")]


def lines() -> list[str]:
    [section] = re.findall(r"^### Container\n(.*?)^###? ", README.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]


def load() -> list[str]:
    [line] = [line for line in lines() if line.startswith("docker load ")]
    return shlex.split(line)


def run() -> DockerLine:
    [line] = [line for line in lines() if line.startswith("docker run ")]
    _, _, *words = shlex.split(line)
    at = next(index for index, word in enumerate(words) if not word.startswith("-"))
    return DockerLine(tuple(words[:at]), words[at], tuple(words[at + 1 :]))


def privileged() -> DockerLine:
    """The line as the README says it is for `kprobe`."""
    line = run()
    kept = [option for option in line.options if not option.startswith(("--cap", "--volume"))]
    return line._replace(options=("--privileged", *kept))
