"""Routing tables for tests: one with every kind of rule, and strategies for any that is legal."""

from collections.abc import Iterable

from hypothesis import strategies as st

from flightdeck.inference.experiments import Arm, Experiment, split
from flightdeck.inference.routing import RoutingTable
from flightdeck.inference.routing_rules import NO_RULES, Canary, Rules, Segment, Shadow

VERSIONS = st.integers(1, 9)
SHARES = st.integers(1, 10_000).map(lambda slots: slots / 10_000)
COLUMNS = {"origin": ("EWR", "JFK", "LGA"), "carrier": ("UA", "DL", "B6"), "hour": ("6", "7", "8")}


def digest(version: int) -> str:
    """Return a digest for a version."""
    return f"{version:064d}"


def table(champion: int | None, canary: Canary | None = None, rules: Rules = NO_RULES) -> RoutingTable:
    """Return a table whose digests are those of `digest`."""
    named = rules.versions | {v for v in (champion, canary.version if canary else None) if v is not None}
    return RoutingTable(champion, canary, rules, {version: digest(version) for version in named})


FULL = table(
    1,
    Canary(2, 0.1),
    Rules(
        shadows=(Shadow(3, 1.0), Shadow(4, 0.25)),
        experiments=(
            Experiment("prices", "prices@7", split([("old", 1, 0.3), ("new", 5, 0.3)])),
            Experiment("local", "local@9", split([("a", 4, 0.2), ("b", 5, 0.1)]), segment="EWR"),
        ),
        segments=(
            Segment("EWR", {"origin": ("EWR",)}, 6, Canary(7, 0.2)),
            Segment("early-UA", {"carrier": ("UA",), "hour": ("6", "7")}, 8),
            Segment("held", {"origin": ("LGA",)}),
        ),
    ),
)


@st.composite
def arms(draw: st.DrawFn, names: Iterable[str] = ("a", "b", "c")) -> tuple[Arm, ...]:
    """Draw arms whose shares sum to at most 1."""
    left, wanted = 10_000, []
    for name in names:
        if left:
            slots = draw(st.integers(1, left))
            wanted.append((name, draw(VERSIONS), slots / 10_000))
            left -= slots
    return split(wanted)


@st.composite
def tables(draw: st.DrawFn) -> RoutingTable:
    """Draw a table with any legal combination of rules."""
    origins = draw(st.permutations(COLUMNS["origin"]))[: draw(st.integers(0, 2))]
    segments = [
        Segment(
            name,
            {"origin": (name,)} if draw(st.booleans()) else {"origin": (name,), "hour": ("6", "8")},
            draw(st.none() | st.integers(1, 4)),
            draw(st.none() | st.builds(Canary, st.integers(5, 9), SHARES)),
        )
        for name in origins
    ]
    experiments = [
        Experiment(name, f"{name}@{n}", draw(arms()), draw(st.sampled_from(["", *origins])))
        for n, name in enumerate(("x", "y")[: draw(st.integers(0, 2))])
    ]
    shadows = draw(st.lists(st.builds(Shadow, VERSIONS, SHARES), max_size=3, unique_by=lambda shadow: shadow.version))
    canary = draw(st.none() | st.builds(Canary, VERSIONS, SHARES))
    rules = Rules(tuple(shadows), tuple(experiments), tuple(segments))
    return table(draw(st.none() | VERSIONS), canary, rules)
