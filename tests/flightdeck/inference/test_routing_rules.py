"""What is refused when a table is loaded: everything that is wrong, at once."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from flightdeck.core.errors import ConfigError
from flightdeck.inference.experiments import Arm, Experiment, resize, split
from flightdeck.inference.routing import RoutingTable
from flightdeck.inference.routing_rules import Canary, Rules, Segment, Shadow
from tests.flightdeck.inference.routing_tables import FULL, digest, table, tables

BAD_SHARES = [-1.0, 0.0, 1.01, 101.0, float("nan"), float("inf"), -float("inf")]


def experiment(*arms: Arm, name: str = "x", salt: str = "x@1", segment: str = "") -> Experiment:
    return Experiment(name, salt, arms, segment)


def segment(name: str = "s", champion: int | None = None, canary: Canary | None = None, **where: Any) -> Segment:
    return Segment(name, where or {"origin": ("EWR",)}, champion, canary)


@pytest.mark.parametrize("share", BAD_SHARES)
def test_an_impossible_share_is_refused_wherever_it_is(share: float) -> None:
    for made in (
        lambda: table(1, Canary(2, share)),
        lambda: table(1, None, Rules(shadows=(Shadow(2, share),))),
        lambda: table(1, None, Rules(segments=(segment(canary=Canary(2, share)),))),
        lambda: split([("a", 1, share)]),
        lambda: resize(split([("a", 1, 0.5)]), "a", share),
    ):
        with pytest.raises(ConfigError, match=r"a share lies in \(0, 1\]"):
            made()


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (Rules(experiments=(experiment(),)), "1 to 16 arms, got 0"),
        (Rules(experiments=(experiment(Arm("a", 1, ())),)), "slots are ranges"),
        (Rules(experiments=(experiment(Arm("a", 1, ((5, 5),))),)), "slots are ranges"),
        (Rules(experiments=(experiment(Arm("a", 1, ((-1, 5),))),)), "slots are ranges"),
        (Rules(experiments=(experiment(Arm("a", 1, ((0, 10**12),))),)), "slots are ranges"),
        (Rules(experiments=(experiment(Arm("a", 1, ((0, 6000),)), Arm("b", 1, ((5999, 9000),))),)), "sum to at most 1"),
        (Rules(experiments=(experiment(Arm("a", 1, ((0, 600), (500, 700)))),)), "sum to at most 1"),
        (Rules(experiments=(experiment(*split([("a", 1, 0.1), ("a", 1, 0.1)])),)), "arm 'a' is there twice"),
        (Rules(experiments=(experiment(*split([("a", 9, 0.1)])),)), "version 9 .* is unknown; versions there: 1"),
        (Rules(experiments=(experiment(*split([("a", 1, 1.0)]), segment="EWF"),)), "no segment 'EWF'"),
        (Rules(experiments=(experiment(*split([("a", 1, 1.0)]), salt="x" * 65),)), "64 printable bytes"),
        (Rules(experiments=(experiment(*split([("a", 1, 1.0)]), salt=""),)), "64 printable bytes"),
        (Rules(experiments=(experiment(*split([("a", 1, 1.0)])),) * 2), "salt 'x@1' is there twice"),
        (Rules(experiments=(experiment(*split([("a", 1, 0.01 * n) for n in range(1, 2)]), name="../x"),)), "no name"),
        (Rules(shadows=(Shadow(1, 0.5), Shadow(1, 0.1))), "shadow '1' is there twice"),
        (Rules(shadows=tuple(Shadow(1, 1.0) for _ in range(9))), "9 shadows, at most 8"),
        (Rules(segments=(Segment("s", {}),)), "it has no condition"),
        (Rules(segments=(segment(origin=()),)), "0 values, 1 to 1000"),
        (Rules(segments=(segment(origin=("EWR", "EWR")),)), "value 'EWR' is there twice"),
        (Rules(segments=(segment(origin=("a\x1b[31m",)),)), "printable"),
        (Rules(segments=(segment(origin=("",)),)), "printable"),
        (Rules(segments=(segment("s s"),)), "'s s' is no name"),
        (Rules(segments=(segment("\U0001f6eb"),)), "is no name"),
        (Rules(segments=(segment("s" * 33),)), "is no name"),
        (Rules(segments=(segment("s"), segment("s", origin=("JFK",)))), "segment 's' is there twice"),
        (Rules(segments=(segment(champion=1, canary=Canary(1, 0.5)),)), "its champion and its canary"),
        (Rules(segments=(segment("a", canary=Canary(1, 0.1)), segment("b", canary=Canary(1, 0.2)))), "never gets"),
        (
            Rules(segments=(segment("a", origin=("EWR", "JFK")), segment("b", origin=("JFK",), carrier=("UA",)))),
            "'b' never gets an item: segment 'a' before it",
        ),
    ],
)  # fmt: skip
def test_a_bad_rule_is_refused_when_the_table_is_loaded(rules: Rules, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RoutingTable(1, None, rules, {1: digest(1)})


def test_a_narrow_segment_before_a_wide_one_is_fine() -> None:
    narrow, wide = segment("b", origin=("JFK",), carrier=("UA",)), segment("a", origin=("EWR", "JFK"))
    assert table(1, None, Rules(segments=(narrow, wide))).rules.segments == (narrow, wide)


def test_all_problems_are_said_at_once() -> None:
    rules = Rules(
        shadows=(Shadow(7, 2.0),),
        experiments=(experiment(name="no name", salt="", segment="nowhere"),),
        segments=(Segment("s", {}), Segment("s", {"origin": ()}, canary=Canary(8, -1.0))),
    )
    with pytest.raises(ConfigError) as error:
        RoutingTable(9, Canary(10, float("nan")), rules, {})
    for expected in (
        "champion: version 9 is unknown",
        "canary: version 10 is unknown",
        "canary 10: a share",
        "version 7 (shadow of 2 of the units) is unknown",
        "shadow 7: a share",
        "'no name' is no name",
        "1 to 16 arms",
        "64 printable bytes",
        "no segment 'nowhere'",
        "it has no condition",
        "0 values",
        "segment 's' is there twice",
        "canary 8: a share",
    ):
        assert expected in error.value.message
    assert error.value.message.count("\n  - ") >= 13


@pytest.mark.parametrize(
    ("digests", "said"),
    [({1: ""}, "a digest has"), ({1: "x" * 65}, "a digest has"), ({1: "a", 2: "b"}, "version 2 has no place")],
)
def test_digests_are_those_of_the_versions_in_the_table(digests: dict[int, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        RoutingTable(1, digests=digests)


def test_shares_that_do_not_fit_are_refused_with_what_is_free() -> None:
    with pytest.raises(ConfigError, match=r"the shares sum to 1.1"):
        split([("a", 1, 0.6), ("b", 2, 0.5)])
    with pytest.raises(ConfigError, match=r"needs 0.4 more, 0.3 is free"):
        resize(split([("a", 1, 0.5), ("b", 2, 0.2)]), "a", 0.9)
    with pytest.raises(ConfigError, match=r"arms there: a"):
        resize(split([("a", 1, 0.5)]), "c", 0.9)
    with pytest.raises(ConfigError, match=r"arm a.*arm b"):
        split([("a", 1, 0.00005), ("b", 2, float("nan"))])


def test_an_arm_that_shrinks_and_grows_again_takes_back_what_it_had() -> None:
    arms = split([("a", 1, 0.2), ("b", 2, 0.3)])
    assert resize(resize(arms, "a", 0.1), "a", 0.2) == arms
    grown = resize(arms, "a", 0.5)
    assert grown[0].slots == ((0, 2000), (5000, 8000))
    assert resize(grown, "a", 0.2) == arms


@settings(deadline=None)
@given(tables())
def test_rules_survive_json(routing: RoutingTable) -> None:
    plain = json.loads(json.dumps(msgspec.to_builtins(routing.rules)))
    assert msgspec.convert(plain, Rules) == routing.rules


def test_an_unknown_key_is_refused() -> None:
    plain = msgspec.to_builtins(FULL.rules)
    plain["segments"][0]["weight"] = 1
    with pytest.raises(msgspec.ValidationError, match="weight"):
        msgspec.convert(plain, Rules)
