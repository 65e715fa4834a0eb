"""Where events go: what all formats share, and the file that they are written to. A module for each format."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, TypeVar

from pwru.errors import PwruError

if TYPE_CHECKING:
    from pwru.event import Decoder, Function, Packet, Process, Record, Symbolize

# What is kept per distinct run of bytes is bounded by forgetting all of it: a trace can go on for days.
CACHE_LIMIT = 1 << 16

K = TypeVar("K")


class Format(ABC):
    """Turns events into lines. A line is a few look-ups: what repeats along a packet's way is formatted once."""

    # printf-like, of skb, cpu and what the three methods below return, in their order.
    LINE: ClassVar[str]

    def __init__(self, decoder: Decoder, symbolize: Symbolize) -> None:
        self._decoder = decoder
        self._symbolize = symbolize
        self._processes: dict[bytes, str] = {}
        self._packets: dict[bytes, str] = {}
        self._functions: dict[tuple[int, int, int], str] = {}

    def header(self) -> str:
        return ""

    def events(self, records: list[Record]) -> str:
        """The lines for these records, one each, with their line ends."""
        line, processes, packets, functions = self.LINE, self._processes, self._packets, self._functions
        lines = []
        for _, _, skb, addr, location, cpu, reason, process, packet in records:
            what = (addr, reason, location)
            lines.append(
                line
                % (
                    skb,
                    cpu,
                    processes.get(process) or _keep(processes, process, self.process(self._decoder.process(process))),
                    packets.get(packet) or _keep(packets, packet, self.packet(self._decoder.packet(packet))),
                    functions.get(what) or _keep(functions, what, self.function(self._symbolize(*what))),
                )
            )
        return "".join(lines)

    def forget_functions(self) -> None:
        """What addresses mean has changed: there are other modules."""
        self._functions.clear()

    @abstractmethod
    def process(self, process: Process) -> str: ...

    @abstractmethod
    def packet(self, packet: Packet) -> str: ...

    @abstractmethod
    def function(self, function: Function) -> str: ...


def _keep(cache: dict[K, str], key: K, text: str) -> str:
    """Puts formatted text into a cache, and returns it."""
    if len(cache) >= CACHE_LIMIT:
        cache.clear()
    cache[key] = text
    return text


class Writer:
    """The destination: standard output or a file that is appended to. Every write is complete when it returns."""

    def __init__(self, path: str | None) -> None:
        """Raises PwruError if the file cannot be written."""
        self.path = path
        self.fd = 1
        if path is None and sys.stdout is None:
            raise PwruError("standard output is closed: there is nowhere to write events to; see --output-file")
        if path is not None:
            try:
                # Packets are nobody else's business: readable by the owner only.
                self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise PwruError(f"--output-file: cannot write {path}: {error.strerror}") from None

    def write(self, text: str) -> None:
        """Raises BrokenPipeError when the reader has gone."""
        data = memoryview(text.encode())
        while data:
            try:
                data = data[os.write(self.fd, data) :]
            except BrokenPipeError:
                raise
            except OSError as error:
                where = self.path or "standard output"
                raise PwruError(f"cannot write to {where}: {error.strerror}") from None

    def close(self) -> None:
        if self.path is not None:
            os.close(self.fd)
