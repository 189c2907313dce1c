"""Where a unit lies never changes: not with the process, the hash seed, the machine or the version of this code."""

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.inference.positions import position

GOLDEN = {
    ("traveller-1", "layer"): 0.9803386216016878,
    ("", "layer"): 0.07627804152875606,
    ("Zoë", "layer"): 0.4158824895922456,
    ("Zoe\u0308", "layer"): 0.471853673744111,
    ("traveller-1", "other"): 0.3102731167050723,
    ("\U0001f6eb" * 32, "d" * 64): 0.45346329035323774,
}


@pytest.mark.parametrize(("given_", "expected"), GOLDEN.items())
def test_positions_never_change(given_: tuple[str, str], expected: float) -> None:
    assert position(*given_) == expected


def test_another_process_with_another_hash_seed_agrees() -> None:
    code = "from flightdeck.inference.positions import position; print(position('traveller-1', 'layer'))"
    for seed in ("0", "4711"):
        found = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert float(found.stdout) == position("traveller-1", "layer")


@settings(deadline=None)
@given(st.text(), st.text(min_size=1, max_size=16))
def test_a_position_lies_in_the_half_open_interval(unit: str, salt: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in unit + salt):
        return
    assert 0 <= position(unit, salt) < 1


def test_positions_spread_evenly_and_layers_do_not_know_each_other() -> None:
    units = [f"unit-{n}" for n in range(20_000)]
    first = {unit for unit in units if position(unit, "first") < 0.25}
    second = {unit for unit in units if position(unit, "second") < 0.25}
    assert abs(len(first) / len(units) - 0.25) < 0.015
    assert abs(len(first & second) / len(first) - 0.25) < 0.03


@pytest.mark.parametrize("salt", ["", "x" * 65])
def test_an_impossible_salt_is_refused(salt: str) -> None:
    with pytest.raises(ValueError, match="salt"):
        position("unit", salt)
