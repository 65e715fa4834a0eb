"""Reasons why the kernel drops a packet: their names, and what a word on the command line stands for.

enum skb_drop_reason is of commit c504e5c2f964 ("net: skb: introduce kfree_skb_reason()"), in v5.17. The upper bits of a
reason are its subsystem since commit 071c0fc6fb91 ("net: extend drop reasons for multiple subsystems"), in v6.4. Each
subsystem has an enum of its own, in the BTF of vmlinux or of a module, and a number that differs between kernels.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pwru.errors import PwruError, did_you_mean, near
from pwru.kernel.btf import Btf

ANY = "any"
ENUMS = "_drop_reason"  # how the names of these enums end
NO_DROP = ("SKB_NOT_DROPPED_YET", "SKB_CONSUMED")  # passed when nothing is dropped

_CORE = "skb_drop_reason"
_SUBSYSTEMS = "skb_drop_reason_subsys"
_PREFIX = "SKB_DROP_REASON_"
_SUBSYSTEM_PREFIX = "SKB_DROP_REASON_SUBSYS_"
_MASK = "SKB_DROP_REASON_SUBSYS_MASK"
_NO_REASONS = (_MASK, "_MAX", "_SUBSYS_NUM")  # how the names of bounds end
_U32 = 0xFFFFFFFF


class Wanted(NamedTuple):
    """The reasons that equal `value` under `mask`: a single one, or all of a subsystem."""

    value: int
    mask: int = _U32


class DropReasons:
    """The reasons of one kernel. Other enums than skb_drop_reason are read when something is not in that one."""

    def __init__(self, btf: Btf, new_modules: Callable[[], Iterable[Btf]] = tuple) -> None:
        """`new_modules` returns the BTF of the modules that it has not returned before."""
        core = btf.enum(_CORE) or {}
        self._btf = btf
        self._new_modules = new_modules
        self._mask = next((number & _U32 for number, name in core.items() if name == _MASK), 0)
        self._shift = max((self._mask & -self._mask).bit_length() - 1, 0)
        self._names = {number: name for number, name in core.items() if not name.endswith(_NO_REASONS)}
        subsystems = (btf.enum(_SUBSYSTEMS) or {}).items() if self._mask else ()
        self._subsystems = {
            number: name.removeprefix(_SUBSYSTEM_PREFIX)
            for number, name in subsystems
            if not name.endswith(_NO_REASONS)
        }
        self._with_others = False

    def __bool__(self) -> bool:
        """Return whether this kernel has drop reasons at all."""
        return bool(self._names)

    def name(self, number: int) -> str | None:
        """Return the name of a reason, looking into modules that were loaded meanwhile if need be."""
        if number not in self._names and number & self._mask:
            self._read_others()
        return self._names.get(number)

    def text(self, number: int) -> str:
        """Return the name, or else SUBSYSTEM/NUMBER, or else the number; wanted() takes all of them."""
        if name := self.name(number):
            return name
        subsystem = self._subsystems.get(number >> self._shift) if number & self._mask else None
        return f"{subsystem}/{number & ~self._mask}" if subsystem else str(number)

    def all(self) -> list[str]:
        """Return every word that wanted() takes: names without SKB_DROP_REASON_, subsystems, `any`."""
        self._read_others()
        names = [name.removeprefix(_PREFIX) for name in self._names.values() if name not in NO_DROP]
        return [*names, *self._subsystems.values(), ANY]

    def wanted(self, words: tuple[str, ...]) -> list[Wanted]:
        """Return what these words stand for, which are in any case; for `any` the list is empty. Raises PwruError.

        A word is what text() returns, a name without SKB_DROP_REASON_, a number, or a subsystem.
        """
        if ANY in map(str.lower, words):
            return []
        if not self:
            raise PwruError(
                "`drop_reasons`: this kernel does not report drop reasons (Linux 5.17 and later do); use `any`"
            )
        return list(dict.fromkeys(map(self._wanted, words)))

    def _wanted(self, word: str) -> Wanted:
        numbers = {name: number for number, name in self._subsystems.items()}
        if word.isdecimal():
            if (value := _u32(word)) is None:
                raise PwruError(f"`drop_reasons`: {word!r} is not a number of 32 bits")
            return Wanted(value)
        subsystem, slash, number = word.upper().partition("/")
        subsystem = subsystem.removeprefix(_SUBSYSTEM_PREFIX)
        if slash:
            value = _u32(number)
            if subsystem not in numbers or value is None or value & self._mask:
                raise PwruError(f"`drop_reasons`: {word!r} is no SUBSYSTEM/NUMBER; {self._list_subsystems()}")
            return Wanted(numbers[subsystem] << self._shift | value)
        reason = self._number(word.upper())
        if reason is not None:
            return Wanted(reason)
        if subsystem in numbers:
            return Wanted(numbers[subsystem] << self._shift, self._mask)
        known = self.all()
        name = word.upper().removeprefix(_PREFIX)
        hint = near(name, known) or did_you_mean([other for other in known if name in other][:3])
        raise PwruError(f"`drop_reasons`: this kernel has no {word!r}; {hint or self._list_subsystems()}")

    def _number(self, name: str) -> int | None:
        """Return the reason with this name; in the kernel's own enum the prefix may be left out."""
        found = (number for number, known in self._names.items() if name in (known, known.removeprefix(_PREFIX)))
        number = next(found, None)
        if number is None and self._read_others():
            return self._number(name)
        return number

    def _list_subsystems(self) -> str:
        if not self._subsystems:
            return "include/net/dropreason-core.h lists them"
        names = ", ".join(self._subsystems.values())
        return f"its subsystems are {names}, and the reasons of a module are known while it is loaded"

    def _read_others(self) -> bool:
        """Read the enums of subsystems, and of modules that are new; return whether more is known now."""
        before = len(self._names)
        if self._mask and not self._with_others:
            self._with_others = True
            self._read(self._btf)
        for btf in self._new_modules() if self._mask else ():
            self._read(btf)
        return len(self._names) > before

    def _read(self, btf: Btf) -> None:
        for enum in btf.enums(ENUMS):
            for number, declared in enum.items():
                # mac80211 has each reason twice, the second time as ___NAME; __NAME is where an enum begins.
                name = declared.removeprefix("___")
                if number & self._mask and not name.startswith("__") and not name.endswith(_NO_REASONS):
                    self._names.setdefault(number, name)


def _u32(digits: str) -> int | None:
    """Return the number; None for other digits than ours, and for more than 32 bits."""
    value = int(digits) if re.fullmatch(r"[0-9]{1,10}", digits) else _U32 + 1
    return value if value <= _U32 else None
