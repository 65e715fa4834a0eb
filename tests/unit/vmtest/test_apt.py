"""Which package is chosen from an archive's index."""

import random

import pytest

from vmtest import apt

# deb-version(7), and each pair beside it as `dpkg --compare-versions` has it
IN_ORDER = [
    "1.0~~",
    "1.0~~a",
    "1.0~",
    "1.0~rc1-1",
    "1.0",
    "1.0-1~bpo12+1",
    "1.0-1",
    "1.0-1+b1",
    "1.0-1.1",
    "1.0-10",
    "1.0a-1",
    "1.0+git-1",
    "1.0.1-1",
    "1.9-1",
    "1.10-1",
    "6.12.9-1",
    "6.12.48-1",
    "6.12.107-1~deb13u1",
    "6.12.107-1",
    "1:0.5-1",
    "2:0.1",
]


def test_versions_sort_as_dpkg_has_them() -> None:
    shuffled = random.Random(1).sample(IN_ORDER, len(IN_ORDER))
    assert sorted(shuffled, key=apt.version_key) == IN_ORDER


def test_a_revision_is_after_the_last_hyphen() -> None:
    assert apt.version_key("1-2-3") == apt.version_key("1-2-03")
    assert apt.version_key("1.0-0") == apt.version_key("1.0")


INDEX = """\
Package: linux-image-6.12.9-cloud-amd64
Version: 6.12.9-1
Size: 7
Description: the first line
 Package: not-a-field
 .
 more

Package: linux-image-6.12.48-cloud-amd64
Version: 6.12.48-1

Package: linux-image-6.12.48-cloud-amd64-dbg
Version: 6.12.48-1

Package: linux-image-6.12.48-rt-amd64
Version: 6.12.48-2

Package: linux-modules-6.12.48-cloud-amd64
Version: 6.12.48-1
"""


def test_fields_of_an_index() -> None:
    first, *rest = apt.stanzas(INDEX)
    assert first["Size"] == "7"
    assert first["Package"] == "linux-image-6.12.9-cloud-amd64"
    assert len(rest) == 4


@pytest.mark.parametrize("turn", [1, -1])
def test_the_newest_whole_name_is_taken(turn: int) -> None:
    index = list(apt.stanzas(INDEX))[::turn]
    found = apt.newest(index, [r"linux-image-6\.12\.\d+-cloud-amd64", r"linux-modules-.*"])
    assert found
    assert [(p["Package"], p["Version"]) for p in found] == [
        ("linux-image-6.12.48-cloud-amd64", "6.12.48-1"),
        ("linux-modules-6.12.48-cloud-amd64", "6.12.48-1"),
    ]


def test_a_pattern_without_a_package_finds_nothing() -> None:
    assert apt.newest(apt.stanzas(INDEX), [r"linux-image-6\.12\.\d+-cloud-amd64", "linux-binary.*"]) is None
