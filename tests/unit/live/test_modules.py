"""What is done about modules that come and go during a trace."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from pwru.kernel import modules as kernel_modules
from pwru.kernel.functions import Target
from pwru.live.backends.how import Refused
from pwru.live.modules import Modules, Running
from pwru.live.request import Request
from pwru.live.watch import Changes


class Fake:
    """A kernel, a backend and a ring buffer in one. Each module has one function, at the address that is its inode."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, request: Request) -> None:
        self.loaded = {"veth": 1}
        self.without_btf: list[str] = []
        self.refused = ""
        self.vanish: list[str] = []  # modules that go while they are looked at
        self.pending: list[str] = []
        self.done: list[str] = []
        self.said: list[str] = []
        self.ring = SimpleNamespace(produced=0, consumed=0)
        self.known = dict(self.loaded)
        self.missed: list[str] = []
        monkeypatch.setattr(kernel_modules, "loaded", lambda: dict(self.loaded))
        monkeypatch.setattr(
            kernel_modules, "without_btf", lambda names: [name for name in names if name in self.without_btf]
        )
        monkeypatch.setattr(kernel_modules, "resolve", list)
        monkeypatch.setattr("pwru.live.watch.Watch", lambda: self)
        self.modules = self.known
        self.kernel = SimpleNamespace(prepare_symbols=lambda: None)
        self._modules = Modules(request, self.said.append)

    def follow(self) -> None:
        self.pending.append("uevent")
        self.look()

    def look(self) -> None:
        self._modules.follow(Running(cast(Any, self), cast(Any, self), cast(Any, None)), cast(Any, self.ring))

    # --- the watch ---

    def notified(self) -> bool:
        pending, self.pending = self.pending, []
        return bool(pending)

    def changes(self) -> Changes:
        new = {name: inode for name, inode in self.loaded.items() if self.known.get(name) != inode}
        gone = {name: inode for name, inode in self.known.items() if self.loaded.get(name) != inode}
        return Changes(dict(self.loaded), new, gone, self.missed)

    def accept(self, changes: Changes) -> None:
        self.known, self.missed = changes.loaded, []

    # --- the places, and the backend ---

    def in_new_modules(self, names: list[str]) -> list[Target]:
        targets = [Target(f"{name}_xmit", self.loaded[name], 1, 0, False, 1, name, False) for name in names]
        for name in self.vanish:
            del self.loaded[name]
        return targets

    def attach_module(self, _program: object, module: str, targets: list[Target]) -> int:
        if self.refused:
            raise Refused(self.refused)
        self.done.append(f"attach {module}")
        return len(targets)

    def forget(self, gone: dict[str, int]) -> Any:
        self.done += [f"forget {name}" for name in gone]
        return lambda: self.done.extend(f"give back {name}" for name in gone)


@pytest.fixture
def every(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return Fake(monkeypatch, Request(all_modules=True))


def test_what_comes_is_attached_to(every: Fake) -> None:
    every.loaded.update(vxlan=2, gre=3)
    every.look()
    assert every.done == []
    every.follow()
    assert every.said == ["Attached to 1 function of vxlan.", "Attached to 1 function of gre."]
    every.follow()
    assert every.done == ["attach vxlan", "attach gre"]


def test_what_was_hit_before_a_module_went_is_read_first(every: Fake) -> None:
    every.loaded = {"veth": 2}  # it is back already
    every.ring.produced = 700
    every.follow()
    every.ring.produced, every.ring.consumed = 900, 699
    every.look()
    assert every.done == []
    every.ring.consumed = 700
    every.look()
    # What has come does not wait for the end of what has gone.
    assert every.done == ["forget veth", "attach veth", "give back veth"]
    every.look()
    assert len(every.done) == 3


def test_another_one_goes_meanwhile(every: Fake) -> None:
    every.loaded = {"veth": 1, "gre": 2}
    every.follow()
    del every.loaded["veth"]
    every.ring.produced = 10
    every.follow()
    del every.loaded["gre"]
    every.ring.produced, every.ring.consumed = 20, 10
    every.look()
    assert every.done == ["attach gre"]
    every.ring.consumed = 20
    every.look()
    assert every.done == ["attach gre", "forget veth", "forget gre", "give back veth", "give back gre"]


@pytest.mark.parametrize("how", ["never seen", "without BTF by now", "refused", "attached"])
def test_one_that_is_too_quick_is_mentioned_once(every: Fake, how: str) -> None:
    for inode in (5, 6):
        if how == "never seen":
            every.missed = ["gre"]
        else:
            every.loaded["gre"] = inode
            every.loaded["vxlan"] = inode
            every.vanish = ["gre", "vxlan"]
            every.without_btf = ["gre"] if how == "without BTF by now" else []
            every.refused = "No such file or directory" if how == "refused" else ""
        every.follow()
        every.vanish = []
        every.follow()
    names = "gre" if how == "never seen" else "gre, vxlan"
    assert every.said == [f"Not traced: functions of {names}: unloaded before they could be attached to."]


def test_why_one_is_not_traced(every: Fake) -> None:
    every.loaded.update(gre=5, vxlan=6)
    every.without_btf, every.refused = ["gre"], "not supported"
    every.follow()
    assert every.said == [
        "Not traced: functions of gre: built without BTF.",
        "Not traced: functions of vxlan: not supported.",
    ]


def test_named_ones_are_followed_too_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    named = Fake(monkeypatch, Request(modules=("veth",)))
    named.loaded = {"veth": 2, "gre": 3}
    named.missed = ["vxlan"]
    named.follow()
    assert named.said == ["Attached to 1 function of veth."]
