import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.inference.ladder import REFUSED, Floats, Rows, Rung, descend

BAD_VALUES = [float("nan"), float("inf"), float("-inf"), -0.1, 1.0000001, 1e300]
good = st.floats(0, 1)
answers = st.one_of(good, st.sampled_from(BAD_VALUES))


class Scripted:
    """A rung that gives what it is told to, and remembers whom it was asked for."""

    def __init__(self, values: list[float], fault: str = "") -> None:
        self.values = np.array(values)
        self.fault = fault
        self.asked: list[int] = []

    def __call__(self, rows: Rows) -> Floats:
        self.asked += rows.tolist()
        if self.fault == "raises":
            raise RuntimeError("model exploded")
        if self.fault == "shape":
            return np.zeros((len(rows), 2))
        return self.values[rows]


@st.composite
def ladders(draw: st.DrawFn) -> tuple[int, list[Scripted], list[str]]:
    n_rows = draw(st.integers(1, 8))
    n_rungs = draw(st.integers(1, 4))
    faults = st.sampled_from(["", "", "", "raises", "shape"])
    scripted = [
        Scripted(draw(st.lists(answers, min_size=n_rows, max_size=n_rows)), draw(faults)) for _ in range(n_rungs)
    ]
    return n_rows, scripted, [draw(st.sampled_from(["", "", "closed"])) for _ in range(n_rungs)]


def is_usable(value: float) -> bool:
    return bool(np.isfinite(value)) and 0 <= value <= 1


@settings(deadline=None)
@given(ladders())
def test_each_item_is_answered_by_the_first_rung_that_can(drawn: tuple[int, list[Scripted], list[str]]) -> None:
    n_rows, scripted, closed = drawn
    rungs = [Rung(f"r{i}", each, why) for i, (each, why) in enumerate(zip(scripted, closed, strict=True))]
    found = descend(rungs, n_rows)
    for row in range(n_rows):
        able = [
            place
            for place, each in enumerate(scripted)
            if not closed[place] and not each.fault and is_usable(float(each.values[row]))
        ]
        expected = able[0] if able else REFUSED
        assert found.rung[row] == expected
        if able:
            assert found.probability[row] == scripted[expected].values[row]
            assert len(found.failures[row]) == expected
        else:
            assert np.isnan(found.probability[row])
            assert len(found.failures[row]) == len(rungs)
        assert [failure.partition(":")[0] for failure in found.failures[row]] == [
            f"r{place}" for place in range(len(found.failures[row]))
        ]


@settings(deadline=None)
@given(ladders())
def test_no_rung_is_asked_for_an_item_that_is_answered_or_while_it_is_closed(
    drawn: tuple[int, list[Scripted], list[str]],
) -> None:
    n_rows, scripted, closed = drawn
    rungs = [Rung(f"r{i}", each, why) for i, (each, why) in enumerate(zip(scripted, closed, strict=True))]
    found = descend(rungs, n_rows)
    for place, each in enumerate(scripted):
        expected = [row for row in range(n_rows) if not (REFUSED < found.rung[row] < place)]
        assert each.asked == ([] if closed[place] else expected)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("raises", "raised"),
        ("shape", "wrong_shape"),
        ("nan", "not_finite"),
        ("inf", "not_finite"),
        ("2", "out_of_range"),
    ],
)
def test_a_fault_on_any_rung_costs_one_step(place: int, fault: str, why: str) -> None:
    def rung(number: int) -> Rung:
        is_faulty = number <= place
        values = [float(fault) if is_faulty and fault not in ("raises", "shape") else 0.25]
        return Rung(f"r{number}", Scripted(values, fault if is_faulty and fault in ("raises", "shape") else ""))

    found = descend([rung(number) for number in range(4)], 1)
    assert found.rung.tolist() == [place + 1]
    assert found.probability.tolist() == [0.25]
    assert found.failures == [tuple(f"r{number}:{why}" for number in range(place + 1))]


def test_without_rungs_or_items_nothing_is_made_up() -> None:
    assert descend([], 2).rung.tolist() == [REFUSED, REFUSED]
    assert descend([Rung("r", Scripted([]))], 0).probability.shape == (0,)
