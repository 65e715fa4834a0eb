"""The base of tests of filters in this machine's kernel, which tests/kernel runs in guests, too."""

from __future__ import annotations

import pytest

from pwru.filter.load import RdonlyCast

from . import harness


class InKernel:
    @pytest.fixture(scope="class")
    @classmethod
    def image(cls) -> bytes:
        if reason := harness.permitted():
            pytest.skip(reason)
        return harness.harness_image()

    # A kernel that can cast needs no helper: in guests, each is tested on the kernel that needs it.
    @pytest.fixture(
        params=[
            pytest.param("helper", marks=pytest.mark.oldest_kernel),
            pytest.param("cast", marks=pytest.mark.one_kernel),
        ],
        scope="class",
    )
    @classmethod
    def cast(cls, request: pytest.FixtureRequest, image: bytes) -> RdonlyCast | None:
        if request.param == "helper":
            return None
        cast = harness.cast_of_this_kernel()
        if not cast:
            pytest.skip("this kernel has no bpf_rdonly_cast()")
        return cast
