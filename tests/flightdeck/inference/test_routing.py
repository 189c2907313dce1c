"""Who decides: the order of the rules, stickiness, growth, independence, and that a batch is its items."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.inference.experiments import Experiment, resize, split
from flightdeck.inference.positions import position
from flightdeck.inference.routes import CANARY, CHAMPION, Routes
from flightdeck.inference.routing import RoutingTable, route
from flightdeck.inference.routing_rules import Canary, Rules, Segment, Shadow
from tests.flightdeck.inference.routing_tables import COLUMNS, FULL, SHARES, arms, digest, table, tables

GOLDEN = Path(__file__).with_name("routing_golden.json")
UNITS = [f"traveller-{n}" for n in range(3000)]
Columns = dict[str, npt.NDArray[Any]]
units_of_a_batch = st.lists(st.sampled_from(["", "a", "b", "Zoë", "Zoe\u0308", *UNITS[:20]]), max_size=12)


def columns(n: int, **given_: Sequence[Any]) -> Columns:
    values = {"origin": ["JFK"] * n, "carrier": ["DL"] * n, **given_}
    found: Columns = {name: np.array(list(value), dtype=object) for name, value in values.items()}
    found.setdefault("hour", np.full(n, 12, dtype=np.int64))
    return found


def spelled(found: Routes) -> list[tuple[str, str, int | None, int | None]]:
    return [tuple(found.routes[at]) for at in found.choice]


def shadowed(found: Routes) -> dict[int, list[int]]:
    return {version: rows.tolist() for version, rows in found.shadows}


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_golden_vectors_hold_in_another_process(hash_seed: str) -> None:
    cases = json.loads(GOLDEN.read_text("utf-8"))
    code = (
        "import json, sys\n"
        "from tests.flightdeck.inference.test_routing import golden\n"
        "print(json.dumps(golden([case['unit'] for case in json.load(sys.stdin)])))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(said.stdout) == cases


def golden(units: Sequence[str]) -> list[dict[str, Any]]:
    """Return what the golden file says about each unit: plain canary, and the full table in three places."""
    n = len(units)
    plain = spelled(route(table(1, Canary(2, 0.1)), units, {}))
    inside = {place: spelled(route(FULL, units, columns(n, origin=[place] * n))) for place in ("JFK", "EWR", "LGA")}
    shadows = shadowed(route(FULL, units, columns(n)))
    return [
        {
            "unit": unit,
            "plain": plain[row][0],
            **{place: f"{found[row][1]}/{found[row][0]}" for place, found in inside.items()},
            "shadows": [version for version, rows in shadows.items() if row in rows],
        }
        for row, unit in enumerate(units)
    ]


def test_the_golden_file_meets_every_route_that_its_places_have() -> None:
    cases = json.loads(GOLDEN.read_text("utf-8"))
    assert {case["plain"] for case in cases} == {"champion", "canary"}
    assert {case["JFK"] for case in cases} == {"/champion", "/canary", "/prices:old", "/prices:new"}
    assert {case["EWR"] for case in cases} == {"EWR/champion", "EWR/canary", "EWR/local:a", "EWR/local:b"}
    assert {case["LGA"] for case in cases} == {"held/champion"}


def test_a_champion_alone_decides_everything_and_nothing_does_without_one() -> None:
    assert spelled(route(table(1), ["a", "b"], {})) == [("champion", "", 1, None)] * 2
    assert spelled(route(RoutingTable(), ["a"], {})) == [("champion", "", None, None)]
    assert route(table(1), [], {}).groups() == []


@given(units_of_a_batch, st.floats(0, 1, exclude_min=True))
def test_champion_and_canary_are_dealt_as_they_always_were(units: list[str], share: float) -> None:
    found = spelled(route(table(1, Canary(2, share)), units, {}))
    assert [arm for arm, *_ in found] == [assign(unit, salt=digest(2), canary_share=share) for unit in units]
    assert {of for arm, _, _, of in found if arm == CANARY} <= {1}


def test_segment_then_experiment_then_canary_then_champion() -> None:
    n = len(UNITS)
    at = {unit: row for row, unit in enumerate(UNITS)}
    jfk = spelled(route(FULL, UNITS, columns(n)))
    ewr = spelled(route(FULL, UNITS, columns(n, origin=["EWR"] * n)))
    for unit in UNITS:
        slot = int(position(unit, "prices@7") * 10_000)
        is_canary = position(unit, digest(2)) < 0.1
        other = ("canary", "", 2, 1) if is_canary else ("champion", "", 1, None)
        arm = ("prices:old", "", 1, None) if slot < 3000 else ("prices:new", "", 5, 1) if slot < 6000 else other
        assert jfk[at[unit]] == arm
        slot = int(position(unit, "local@9") * 10_000)
        other = ("canary", "EWR", 7, 6) if position(unit, digest(7)) < 0.2 else ("champion", "EWR", 6, None)
        arm = ("local:a", "EWR", 4, 6) if slot < 2000 else ("local:b", "EWR", 5, 6) if slot < 3000 else other
        assert ewr[at[unit]] == arm


def test_the_first_segment_that_matches_counts_and_all_of_its_conditions_must_hold() -> None:
    rows = [
        ("EWR", "UA", 6, "EWR"),
        ("JFK", "UA", 7, "early-UA"),
        ("JFK", "UA", 8, ""),
        ("JFK", "DL", 6, ""),
        ("LGA", "UA", 6, "early-UA"),
        ("LGA", "DL", 6, "held"),
        (None, None, 6, ""),
    ]
    asked: Columns = {
        "origin": np.array([row[0] for row in rows], dtype=object),
        "carrier": np.array([row[1] for row in rows], dtype=object),
        "hour": np.array([row[2] for row in rows], dtype=np.int64),
    }
    assert [segment for _, segment, _, _ in spelled(route(FULL, ["u"] * len(rows), asked))] == [row[3] for row in rows]
    del asked["hour"]
    assert [s for _, s, _, _ in spelled(route(FULL, ["u"] * len(rows), asked))] == [
        "EWR",
        "",
        "",
        "",
        "held",
        "held",
        "",
    ]


def test_a_segment_without_releases_of_its_own_keeps_its_items_with_the_champion() -> None:
    n = len(UNITS)
    assert set(spelled(route(FULL, UNITS, columns(n, origin=["LGA"] * n)))) == {("champion", "held", 1, None)}


def test_shadows_score_their_share_and_never_what_they_decide_themselves() -> None:
    rules = Rules(shadows=(Shadow(2, 1.0), Shadow(3, 0.25)))
    found = route(table(1, Canary(2, 0.5), rules), UNITS, {})
    decided_by_2 = {row for row, at in enumerate(found.choice) if found.routes[at].version == 2}
    copies = shadowed(found)
    assert set(copies[2]) == set(range(len(UNITS))) - decided_by_2
    assert abs(len(copies[3]) / len(UNITS) - 0.25) < 0.03
    assert abs(len(decided_by_2 & set(copies[3])) / len(copies[3]) - 0.5) < 0.06, "sampled whatever the arm is"


@settings(deadline=None)
@given(tables(), units_of_a_batch, st.data())
def test_a_batch_is_its_items_one_by_one(routing: RoutingTable, units: list[str], data: st.DataObject) -> None:
    rows = [{name: data.draw(st.sampled_from(values)) for name, values in COLUMNS.items()} for _ in units]
    asked: Columns = {name: np.array([row[name] for row in rows], dtype=object) for name in COLUMNS}
    asked["hour"] = np.array([int(row["hour"]) for row in rows], dtype=np.int64)
    batch = route(routing, units, asked)
    alone = [
        route(routing, [unit], {name: v[row : row + 1] for name, v in asked.items()}) for row, unit in enumerate(units)
    ]
    assert spelled(batch) == [spelled(one)[0] for one in alone]
    copies = shadowed(batch)
    for shadow in routing.rules.shadows:
        assert copies.get(shadow.version, []) == [n for n, one in enumerate(alone) if shadow.version in shadowed(one)]
    grouped = {row: found for found, rows in batch.groups() for row in rows.tolist()}
    assert [tuple(grouped[row]) for row in range(len(units))] == spelled(batch)


@settings(deadline=None)
@given(tables(), st.sampled_from(UNITS))
def test_a_unit_meets_the_same_route_again_whoever_is_in_the_batch(routing: RoutingTable, unit: str) -> None:
    here = columns(1, origin=["EWR"])
    first = spelled(route(routing, [unit], here))[0]
    others = spelled(route(routing, [*UNITS[:5], unit], columns(6, origin=["EWR"] * 6)))
    assert others[-1] == first
    again = RoutingTable(routing.champion, routing.canary, routing.rules, dict(routing.digests))
    assert spelled(route(again, [unit], here))[0] == first


@settings(deadline=None)
@given(SHARES, SHARES)
def test_raising_a_share_moves_nobody_out(one: float, other: float) -> None:
    low, high = sorted((one, other))
    units = UNITS[:300]

    def on_canary(share: float, where: str) -> set[int]:
        rules = Rules(
            segments=(Segment("EWR", {"origin": ("EWR",)}, canary=Canary(3, share)),), shadows=(Shadow(4, share),)
        )
        found = route(table(1, Canary(2, share), rules), units, columns(len(units), origin=[where] * len(units)))
        rows = {row for row, (arm, *_) in enumerate(spelled(found)) if arm == CANARY}
        return rows | {-1 - row for row in shadowed(found).get(4, [])}

    for where in ("EWR", "JFK"):
        assert on_canary(low, where) <= on_canary(high, where)


@settings(deadline=None)
@given(arms(), st.sampled_from("abc"), st.data())
def test_growing_an_arm_moves_nobody_out_of_any_arm(before: tuple[Any, ...], name: str, data: st.DataObject) -> None:
    grown = next((arm for arm in before if arm.name == name), before[0])
    free = 1 - sum(arm.share for arm in before)
    share = data.draw(st.integers(round(grown.share * 10_000), round((grown.share + free) * 10_000))) / 10_000
    after = resize(before, grown.name, share)

    def dealt(those: tuple[Any, ...]) -> dict[str, str]:
        rules = Rules(experiments=(Experiment("x", "x@1", those),))
        return {unit: r[0] for unit, r in zip(UNITS, spelled(route(table(1, None, rules), UNITS, {})), strict=True)}

    old, new = dealt(before), dealt(after)
    assert all(new[unit] == arm for unit, arm in old.items() if arm != "champion")
    assert {new[unit] for unit, arm in old.items() if arm == "champion"} <= {"champion", f"x:{grown.name}"}


def test_layers_are_independent_of_each_other_and_of_the_canary() -> None:
    """Chi-square of the two by two tables of all six pairs of layers: one degree of freedom each."""
    units = [f"traveller-{n}" for n in range(30_000)]

    def dealt(rules: Rules, canary: Canary | None) -> list[str]:
        return [found[0] for found in spelled(route(table(1, canary, rules), units, {}))]

    halves = split([("a", 3, 0.5), ("b", 4, 0.5)])
    layers = [dealt(Rules(experiments=(Experiment("x", salt, halves),)), None) for salt in ("x@1", "y@2", "z@3")]
    layers.append(dealt(Rules(), Canary(2, 0.5)))
    statistic, n_pairs = 0.0, 0
    for one, other in ((a, b) for i, a in enumerate(layers) for b in layers[i + 1 :]):
        pairs, ones, others = Counter(zip(one, other, strict=True)), Counter(one), Counter(other)
        n_pairs += 1
        for a, b in product(ones, others):
            expected = ones[a] * others[b] / len(units)
            statistic += (pairs[a, b] - expected) ** 2 / expected
    assert n_pairs == 6
    assert statistic < 22.46, "0.999 quantile of chi-square with 6 degrees of freedom"


def test_unicode_forms_are_different_units_and_the_empty_one_is_a_unit() -> None:
    units = ["Zoë", "Zoe\u0308", "", "\U0001f6eb" * 100_000]
    assert len({position(unit, "layer") for unit in units}) == 4
    assert len(route(FULL, units, columns(4)).choice) == 4
    with pytest.raises(UnicodeEncodeError):
        route(FULL, ["\ud800"], columns(1))


def test_columns_of_another_length_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        route(FULL, ["a", "b"], columns(1))


def test_a_table_without_versions_answers_with_what_is_left() -> None:
    left = FULL.without({2, 5, 6, 3})
    assert left.versions == {1, 4, 7, 8}
    found = set(spelled(route(left, UNITS, columns(len(UNITS), origin=["EWR"] * len(UNITS)))))
    assert found == {("local:a", "EWR", 4, 1), ("canary", "EWR", 7, 1), ("champion", "EWR", 1, None)}
    assert FULL.without({4, 5}).rules.experiments[0].arms[0].slots == ((0, 3000),), "the others keep their slots"
    assert [e.name for e in FULL.without({4, 5}).rules.experiments] == ["prices"]
    assert FULL.without(()) == FULL
    assert FULL.without(FULL.versions).versions == frozenset()


def test_roles_say_what_each_version_does() -> None:
    said = FULL.roles()
    assert (1, "champion") in said
    assert (2, "canary with a share of 0.1") in said
    assert (7, "canary of segment EWR with a share of 0.2") in said
    assert (4, "arm local:a in segment EWR with a share of 0.2") in said
    assert {version for version, _ in said} == FULL.versions


def assign(unit_id: str, *, salt: str, canary_share: float) -> str:
    """Return the arm of a unit as it was before there was a table: the plain case must stay what it was."""
    return CANARY if canary_share > 0.0 and position(unit_id, salt) < canary_share else CHAMPION
