"""The interface of all backends, and what several of them share."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, ClassVar

from pwru import libbpf
from pwru.ebpf import RETURN_0
from pwru.kernel import roles
from pwru.kernel.btf import Tracepoint
from pwru.kernel.places import Places
from pwru.libbpf import Link
from pwru.live import rlimits
from pwru.live.backends.arg_table import with_own_table
from pwru.live.backends.how import BAD_FUNCTION, How, Missing, ProgramSpec, Progress, Refused, reason_of
from pwru.live.names import FunctionNames, LiveNames
from pwru.live.permissions import refused_load
from pwru.live.program import Program

if TYPE_CHECKING:
    from pwru.kernel.functions import Target


class Backend(ABC):
    """One way to attach to a kernel, at work on one loaded object."""

    name: ClassVar[str]
    program: ClassVar[ProgramSpec]
    unit: ClassVar[str] = "function"  # what it attaches to
    takes_modules: ClassVar[bool] = True
    one_by_one: ClassVar[bool] = False  # whether each place costs as much as if it were the only one
    # Its events have a location even if none is requested: the place of a drop.
    has_location: ClassVar[bool] = False
    sees_stack: ClassVar[bool] = False  # whether it can follow packets by the kernel stack

    def __init__(self, places: Places, how: How = How()) -> None:  # noqa: B008  (a constant)
        self.places = places
        self.kernel = places.kernel
        self.how = how
        self.links: list[Link] = []
        self._links_of: dict[str, list[Link]] = {}  # those among them that belong to one module alone
        self.attached = 0
        # What was attached, by the address that the BPF program reports.
        self.by_address: dict[int, Target] = {}
        self.skipped: list[tuple[str, str]] = []  # names that the kernel refused, with the reason
        self.left_out: dict[str, list[str]] = {}  # names of targets that this backend does not try, by cause
        # After detach(): the hits for which the kernel did not run the program, if it counts them.
        self.missed = 0

    @abstractmethod
    def unavailable(self) -> Missing | None:
        """Return what this kernel lacks for this backend, if that is known without attaching."""

    def find(self) -> Sequence[Target | Tracepoint]:
        """Return what it will attach to. Raises PwruError if there is nothing."""
        return self.places.functions

    def config(self) -> Mapping[str, int]:
        """Return the members of struct config in bpf/pwru.h that depend on the backend."""
        return {"tries": 1}

    def names(self, tracer_frames: int, on_message: Callable[[str], None]) -> LiveNames:
        """Return the names of what it reports. `tracer_frames`: CALLER_FRAMES of bpf/pwru.h."""
        return FunctionNames(self.kernel, self.by_address, tracer_frames, on_message)

    def unseen_relations(self) -> list[str]:
        """Return the kinds of relations of packets that are followed (roles.RELATIONS) that it does not see here."""
        return roles.missing(self.by_address.values())

    @property
    def knows_ends(self) -> bool:
        """Whether a packet that is followed is forgotten wherever it ends."""
        return roles.ENDS not in self.unseen_relations()

    def tidy(self) -> None:
        """Remove the probes of tracers that were killed, in a child process."""
        from pwru.live.backends.kprobe_events import clean_up

        clean_up()

    @abstractmethod
    def attach(self, program: Program, progress: Progress) -> None:
        """Attach to all places. Raises Refused if it could not attach to any."""

    def attach_module(self, program: Program, module: str, targets: list[Target]) -> int:
        """Attach to functions of a module that has been loaded; return how many. Raises Refused if none can be."""
        links, skipped = len(self.links), len(self.skipped)
        try:
            count = self.attach_more(program, targets)
        finally:
            self._links_of.setdefault(module, []).extend(self.links[links:])
            refused = self.skipped[skipped:]
            del self.skipped[skipped:]  # else these grow with each module that comes
        if not count:
            raise Refused(refused[0][1] if refused else "none can be attached to")
        return count

    def attach_more(self, program: Program, targets: list[Target]) -> int:
        """Attach to these, too, while events come; return the number attached. Raises Refused if that is impossible.

        Nothing that running programs use is changed: the new functions get a program of their own.
        """
        raise Refused(f"{self.name} cannot attach to more while it traces")

    def forget(self, modules: Collection[str]) -> Callable[[], None]:
        """Forget the names of modules that have gone: their addresses may be used again.

        Return what gives back all else that belonged to them. That takes a while, and can wait for modules that came.
        """
        for address in [address for address, target in self.by_address.items() if target.module in modules]:
            del self.by_address[address]
        links = [link for module in modules for link in self._links_of.pop(module, [])]

        def give_back() -> None:
            self.missed += self.missed_by(links)
            self.links = [link for link in self.links if link not in links]
            close_all(links)

        return give_back

    def try_end(self) -> None:
        """Ask the kernel for what detach() will ask. Raises OSError if this process may not."""
        self.missed_by(self.links[:1])

    def detach(self) -> None:
        """Detach everything; may be called at any time, more than once."""
        self.missed += self.missed_by(self.links)
        close_all(self.links)
        self.links = []

    def missed_by(self, links: list[Link]) -> int:
        """Return the hits while a program ran on that CPU, as the kernel counts them per link or program."""
        return sum(link.missed() for link in links) + programs_missed(links)

    def load_copy(self, insns: bytes, *, btf_id: int = 0, btf_fd: int = 0) -> int:
        """Load changed instructions of a loaded program; return a descriptor that the caller must close.

        `btf_id`, `btf_fd`: attach_btf_id and attach_btf_obj_fd of libbpf.prog_load(). Raises PwruError.
        """
        return rlimits.with_memlock(
            self.kernel,
            lambda: libbpf.prog_load(
                self.program.prog_type,
                insns,
                expected_attach_type=self.program.attach_type,
                attach_btf_id=btf_id,
                attach_btf_obj_fd=btf_fd,
            ),
        )

    @contextmanager
    def copied(self, insns: bytes, *, btf_id: int = 0, btf_fd: int = 0) -> Iterator[int]:
        """Load a copy as load_copy() does, for as long as it takes to attach it: then the link holds it."""
        fd = self.load_copy(insns, btf_id=btf_id, btf_fd=btf_fd)
        try:
            yield fd
        finally:
            os.close(fd)


def programs_missed(links: list[Link]) -> int:
    """Return the hits for which the programs of these links were not run; links may share one."""
    return sum(dict(link.program_missed() for link in links).values())


def close_all(links: list[Link]) -> None:
    """Close the links.

    Closing one waits for an RCU grace period. Closed by one thread each, all links wait for the same one.
    """
    closing = [Thread(target=link.close) for link in links]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join()


class SharedProgram(Backend):
    """A backend with one program for all functions, which looks up in a table where their arguments are."""

    @abstractmethod
    def admit(self, targets: list[Target]) -> dict[int, Target]:
        """Return the targets that can be attached to while it traces, by the address that the program will see."""

    @abstractmethod
    def link_copy(self, insns: bytes, targets: list[Target]) -> None:
        """Attach a copy of the program to the targets that admit() returned."""

    def attach_more(self, program: Program, targets: list[Target]) -> int:
        by_address = self.admit(targets)
        if not by_address:
            return 0
        refused = len(self.skipped)
        self.by_address.update(by_address)
        with with_own_table(program, by_address) as insns:
            self.link_copy(insns, list(by_address.values()))
        return len(by_address) - (len(self.skipped) - refused)

    def probe_link(
        self, program_type: str, link: Callable[[int], Link], *, unsupported: Missing | None = None
    ) -> Missing | None:
        """Try to load a program and to link it to no function, which is an error in itself (EINVAL).

        `unsupported`: the meaning of EOPNOTSUPP.
        """
        try:
            fd = self.load_copy(RETURN_0)
        except OSError as error:
            return Missing(refused_load() or f"loading a {program_type} program is refused ({reason_of(error)})")
        try:
            link(fd).close()
        except OSError as error:
            if unsupported and error.errno == errno.EOPNOTSUPP:
                return unsupported
            if error.errno != errno.EINVAL:
                return Missing(f"attaching is refused ({reason_of(error)})")
        finally:
            os.close(fd)
        return None

    def link_many(self, link: Callable[[list[Target]], Link], targets: list[Target]) -> None:
        """Make one link for all. If the kernel refuses a function, halve the link until that function is alone."""
        try:
            self.links.append(link(targets))
        except OSError as error:
            reason = reason_of(error)
            if error.errno not in BAD_FUNCTION:
                raise Refused(f"attaching is refused ({reason})") from None
            if len(targets) == 1:
                self.skipped.append((targets[0].name, reason))
                return
            half = len(targets) // 2
            self.link_many(link, targets[:half])
            self.link_many(link, targets[half:])
