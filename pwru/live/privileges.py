"""What is given up once everything is attached: capabilities, gains by what is executed, and the user root."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from pwru.errors import PwruError
from pwru.kernel.features import CAPABILITIES, missing_capabilities
from pwru.libbpf import capabilities

if TYPE_CHECKING:
    from pwru.live.session import Session

# What the end of a trace may need. CAP_BPF: up to v5.18 every bpf() does, if kernel.unprivileged_bpf_disabled is set:
# commit c8644cd0efe7 ("bpf: refine kernel.unprivileged_bpf_disabled behaviour"). CAP_DAC_OVERRIDE: tracefs is root's.
_OF_THE_END = ("CAP_BPF", "CAP_DAC_OVERRIDE")


class User(NamedTuple):
    """Whom to become."""

    name: str
    uid: int
    gid: int


def find_user(name: str) -> User:
    """Return the user with this name, or number. Raises PwruError, also if this process may not become another user."""
    try:
        entry = pwd.getpwuid(int(name)) if name.isascii() and name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError, ValueError):
        raise PwruError(f"`user`: there is no user {name!r}") from None
    if missing := missing_capabilities(("CAP_SETGID", "CAP_SETUID")):
        raise PwruError(f"`user`: to become {entry.pw_name} takes {' and '.join(missing)}")
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid)


@contextmanager
def acting_as(user: User | None) -> Iterator[None]:
    """Check as this user what it will do: what it may not is said before an attach that takes long.

    It must be able to read what is imported later, which a folder below /root does not let it.
    """
    if user is None:
        yield
        return
    uid, gid, groups = os.geteuid(), os.getegid(), os.getgroups()
    os.initgroups(user.name, user.gid)
    os.setegid(user.gid)
    os.seteuid(user.uid)
    try:
        for code in () if getattr(sys, "frozen", False) else (__file__, os.__file__):
            if not os.access(code, os.R_OK, effective_ids=True):
                raise PwruError(f"`user`: cannot read {code}, of pwru or Python; install it where all may read it")
        yield
    except PwruError as error:
        raise PwruError(f"{error} (as {user.name})") from None
    finally:
        os.seteuid(uid)
        os.setegid(gid)
        os.setgroups(groups)


def give_up(session: Session, user: User | None = None, *, creates_files: bool = False) -> list[str]:
    """Keep only what the session needs from now on, and become `user`, if there is one. Return the capabilities kept.

    Which those are is found out by trying. A session that attaches later keeps all. `creates_files`: in folders of
    others, too, as root may. Raises PwruError if this process may not become the user.
    """
    session.kernel.open_symbols()
    before = capabilities.permitted()
    if user:
        session.settle()
        try:
            capabilities.become(*user)
        except OSError as error:
            raise PwruError(f"`user`: this process cannot become {user.name}: {error.strerror}") from None
    capabilities.set_no_new_privs()
    kept = before if session.attaches_later else _least(session, before, as_root=creates_files and not user)
    capabilities.set_capabilities(kept, kept)
    return [name for name, number in CAPABILITIES.items() if kept >> number & 1]


def _least(session: Session, permitted: int, *, as_root: bool) -> int:
    """Return the smallest set with which the session can end."""
    always = ("CAP_DAC_OVERRIDE",) if as_root else ()
    for count in range(len(_OF_THE_END) + 1):
        for names in combinations(_OF_THE_END, count):
            wanted = sum(1 << CAPABILITIES[name] for name in {*always, *names}) & permitted
            capabilities.set_capabilities(wanted, permitted)
            try:
                session.try_end()
            except OSError:
                continue
            return wanted
    return permitted
