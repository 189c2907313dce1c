import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightdeck.inference.deadline import DeadlineRule, parse_timeout_ms
from flightdeck.inference.surface_policy import LatencyBudget

BUDGET = LatencyBudget(default=150, least=20, most=2000)
RULE = DeadlineRule(BUDGET)


@pytest.mark.parametrize(
    ("header", "allowed_ms"),
    [
        (None, 150),
        (b"500", 500),
        (b" 500\t", 500),
        (b"62.5", 62.5),
        (b"+30", 30),
        (b"0", 20),
        (b"-1", 20),
        (b"-1e999", 20),
        (b"1e18", 2000),
        (b"1e999", 2000),
        (b"9" * 32, 2000),
        (b"9" * 33, 150),
        (b"", 150),
        (b"soon", 150),
        (b"NaN", 150),
        (b"inf", 150),
        (b"1_000", 150),
        (b"0x10", 150),
        (b"1 0", 150),
        (b"5,0", 150),
        (b".5", 150),
        (b"500\n", 150),
        ("٥٠٠".encode(), 150),
        ("５００".encode(), 150),
        (b"\xff\xfe", 150),
        (b"500\x00", 150),
    ],
)
def test_a_header_is_clamped_or_ignored(header: bytes | None, allowed_ms: float) -> None:
    assert RULE.deadline_s(1000.0, header) == pytest.approx(1000.0 + allowed_ms / 1e3)


@given(st.binary(max_size=64), st.floats(0, 1e6))
def test_no_header_is_an_error_or_leaves_the_bounds(header: bytes, arrived_s: float) -> None:
    allowed_s = RULE.deadline_s(arrived_s, header) - arrived_s
    assert 0.0199 <= allowed_s <= 2.0001


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_is_read_as_written(number: float) -> None:
    assert parse_timeout_ms(repr(number).encode()) == number
