"""Names of drop reasons, and the words that stand for them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pwru.errors import PwruError
from pwru.kernel.btf import Btf
from pwru.kernel.drop_reasons import DropReasons
from tests.unit.kernel.btf_writer import Writer

ONE = 0xFFFFFFFF
QDISC, OVS, MAC80211 = 3 << 16, 2 << 16, 1 << 16


def add_core(writer: Writer, *, subsystems: bool) -> None:
    writer.enum(
        "skb_drop_reason",
        ("SKB_NOT_DROPPED_YET", 0),
        ("SKB_CONSUMED", 1),
        ("SKB_DROP_REASON_NOT_SPECIFIED", 2),
        ("SKB_DROP_REASON_NO_SOCKET", 3),
        ("SKB_DROP_REASON_QDISC_DROP", 4),
        ("SKB_DROP_REASON_MAX", 5),
        *[("SKB_DROP_REASON_SUBSYS_MASK", 0xFFFF0000)] * subsystems,
    )
    if subsystems:
        names = ("CORE", "MAC80211_UNUSABLE", "OPENVSWITCH", "QDISC", "NUM")
        numbered = ((f"SKB_DROP_REASON_SUBSYS_{name}", number) for number, name in enumerate(names))
        writer.enum("skb_drop_reason_subsys", *numbered)


class Machine:
    """A kernel with a subsystem of its own, and modules with others, which are loaded one by one."""

    def __init__(self) -> None:
        kernel = Writer()
        add_core(kernel, subsystems=True)
        qdisc = ("QDISC_DROP_UNSPEC", 0), ("__QDISC_DROP_REASON", QDISC), ("QDISC_DROP_OVERLIMIT", QDISC + 1)
        kernel.enum("qdisc_drop_reason", *qdisc, ("QDISC_DROP_MAX", QDISC + 2))
        kernel.enum("other_reason", ("OTHER", QDISC + 9))
        ovs, wifi = Writer(kernel), Writer(kernel)
        ovs.enum("ovs_drop_reason", ("__OVS_DROP_REASON", OVS), ("OVS_DROP_EXPLICIT", OVS + 1))
        both = ("RX_CONTINUE", 1), ("RX_DROP_UNUSABLE", MAC80211), ("RX_DROP_U_REPLAY", MAC80211 + 1)
        wifi.enum("___mac80211_drop_reason", *((f"___{name}", number) for name, number in both))
        wifi.enum("mac80211_drop_reason", *both)
        self.btf = Btf(kernel.data())
        self.later = {"openvswitch": Btf(ovs.data(), self.btf), "mac80211": Btf(wifi.data(), self.btf)}
        self.new: list[Btf] = []
        self.asked = 0
        self.reasons = DropReasons(self.btf, self._new)

    def load(self, module: str) -> None:
        self.new.append(self.later[module])

    def _new(self) -> Iterable[Btf]:
        self.asked += 1
        new, self.new = self.new, []
        return new


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_names(machine: Machine) -> None:
    machine.load("mac80211")
    names = {
        0: "SKB_NOT_DROPPED_YET",
        3: "SKB_DROP_REASON_NO_SOCKET",
        QDISC + 1: "QDISC_DROP_OVERLIMIT",
        MAC80211: "RX_DROP_UNUSABLE",
        MAC80211 + 1: "RX_DROP_U_REPLAY",
    }
    assert {number: machine.reasons.name(number) for number in names} == names


@pytest.mark.parametrize(
    ("number", "text"),
    [(QDISC, "QDISC/0"), (QDISC + 77, "QDISC/77"), (OVS + 1, "OPENVSWITCH/1"), (5, "5"), (9 << 16, f"{9 << 16}")],
)
def test_what_has_no_name(machine: Machine, number: int, text: str) -> None:
    """It is printed in a way that is taken back."""
    assert machine.reasons.name(number) is None
    assert machine.reasons.text(number) == text
    assert machine.reasons.wanted((text,)) == [(number, ONE)]


def test_a_module_that_is_loaded_later(machine: Machine) -> None:
    """It is looked for only when a number has no name yet."""
    reasons = machine.reasons
    assert reasons.text(3)
    assert not machine.asked
    assert reasons.text(OVS + 1) == "OPENVSWITCH/1"
    machine.load("openvswitch")
    assert reasons.text(OVS + 1) == "OVS_DROP_EXPLICIT"
    asked = machine.asked
    assert reasons.text(OVS + 1) == "OVS_DROP_EXPLICIT"
    assert machine.asked == asked


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("NO_SOCKET",), [(3, ONE)]),
        (("no_socket", "SKB_DROP_REASON_NOT_SPECIFIED"), [(3, ONE), (2, ONE)]),
        (("131075",), [(131075, ONE)]),
        (("any",), []),
        (("no_socket", "ANY"), []),
        (("QDISC_DROP", "qdisc_drop_overlimit"), [(4, ONE), (QDISC + 1, ONE)]),
        (("QDISC",), [(QDISC, 0xFFFF0000)]),
        (("SKB_DROP_REASON_SUBSYS_QDISC", "core", "qdisc"), [(QDISC, 0xFFFF0000), (0, 0xFFFF0000)]),
        (("qdisc/7", "CORE/3"), [(QDISC + 7, ONE), (3, ONE)]),
        (("OVS_DROP_EXPLICIT", "OPENVSWITCH"), [(OVS + 1, ONE), (OVS, 0xFFFF0000)]),
    ],
)
def test_wanted(machine: Machine, words: tuple[str, ...], wanted: list[tuple[int, int]]) -> None:
    machine.load("openvswitch")
    assert machine.reasons.wanted(words) == wanted


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("NO_SOKCET", "'NO_SOKCET'; did you mean NO_SOCKET.?"),
        ("socket", "'socket'; did you mean NO_SOCKET.?"),
        ("QDISC_OVERLIMIT", "did you mean QDISC_DROP_OVERLIMIT"),
        ("4294967296", "'4294967296' is not a number of 32 bits"),
        ("\u0663", "is not a number of 32 bits"),
        ("9" * 5000, "is not a number of 32 bits"),
        ("QDISC/4294967296", "no SUBSYSTEM/NUMBER"),
        ("QDISC/" + "9" * 5000, "no SUBSYSTEM/NUMBER"),
        ("QDISC/\u0663", "no SUBSYSTEM/NUMBER"),
        ("xyzzy", "subsystems are CORE, MAC80211_UNUSABLE, OPENVSWITCH, QDISC, and"),
        ("QDISC/65536", "no SUBSYSTEM/NUMBER"),
        ("WIFI/1", "no SUBSYSTEM/NUMBER; its subsystems are"),
        ("QDISC_DROP_UNSPEC", "this kernel has no 'QDISC_DROP_UNSPEC'"),
        ("MAX", "this kernel has no 'MAX'"),
    ],
)
def test_errors(machine: Machine, word: str, said: str) -> None:
    with pytest.raises(PwruError, match=said):
        machine.reasons.wanted((word,))


def test_every_word_is_taken(machine: Machine) -> None:
    machine.load("mac80211")
    words = machine.reasons.all()
    assert {"NO_SOCKET", "QDISC_DROP_OVERLIMIT", "RX_DROP_U_REPLAY", "QDISC", "any"} <= set(words)
    assert not {"SKB_CONSUMED", "MAX", "SUBSYS_MASK", "__QDISC_DROP_REASON", "NUM"} & set(words)
    assert len(set(words)) == len(words)
    assert all(len(machine.reasons.wanted((word,))) == (word != "any") for word in words)


def test_a_kernel_without_subsystems() -> None:
    """Between Linux 5.17 and 6.3."""
    writer = Writer()
    add_core(writer, subsystems=False)
    reasons = DropReasons(Btf(writer.data()))
    assert reasons.wanted(("no_socket",)) == [(3, ONE)]
    assert (reasons.name(3), reasons.text(QDISC + 1)) == ("SKB_DROP_REASON_NO_SOCKET", f"{QDISC + 1}")
    with pytest.raises(PwruError, match=r"dropreason-core.h lists them"):
        reasons.wanted(("xyzzy",))


def test_a_kernel_without_reasons() -> None:
    reasons = DropReasons(Btf(Writer().data()))
    assert not reasons
    assert reasons.wanted(("any",)) == []
    with pytest.raises(PwruError, match="does not report drop reasons"):
        reasons.wanted(("no_socket",))
