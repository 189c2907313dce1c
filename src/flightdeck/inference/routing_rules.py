"""The rules that a routing table adds to champion and canary: shadows, experiments, segments. Plain data.

`rule_problems` says everything that is wrong with them at once; nothing that it objects to is ever compiled. Names come
from a small alphabet and all numbers are bounded, so that no rule can make the cost of routing an item or the labels of
a metric large.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

import msgspec

from flightdeck.core.errors import nearest, some
from flightdeck.inference.experiments import Experiment, slot_problems

MAX_SHADOWS, MAX_EXPERIMENTS, MAX_ARMS, MAX_SEGMENTS, MAX_VALUES, MAX_TEXT = 8, 16, 16, 64, 1000, 64
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
NAME_RULE = "1 to 32 letters, digits, - or _, a letter or digit first"


class Canary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version that decides for the units whose position is below `share`, in (0, 1]; its digest is the salt."""

    version: int
    share: float


class Shadow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version that scores a copy of a `share` of the units, in (0, 1], and never decides."""

    version: int
    share: float


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Items with releases of their own.

    Parameters
    ----------
    name
        Its name.
    where
        Request column to values: an item belongs here if each column has one of its values. A whole number is written
        as text.
    champion
        Version that decides here; None for the champion of the table.
    canary
        Version that decides for a share of the units here; None for no canary, whatever the table has.
    """

    name: str
    where: Mapping[str, tuple[str, ...]]
    champion: int | None = None
    canary: Canary | None = None


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shadows, experiments (first one that holds the unit decides) and segments (first one that matches counts)."""

    shadows: tuple[Shadow, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    segments: tuple[Segment, ...] = ()

    @property
    def versions(self) -> frozenset[int]:
        """Every version that a rule names."""
        return frozenset(version for version, _ in self.roles())

    def roles(self) -> Iterator[tuple[int, str]]:
        """Yield (version, what it does here in words) for each place of a rule that names a version."""
        for shadow in self.shadows:
            yield shadow.version, f"shadow of {shadow.share:.4g} of the units"
        for experiment in self.experiments:
            at = f" in segment {experiment.segment}" if experiment.segment else ""
            for arm in experiment.arms:
                yield arm.version, f"arm {experiment.name}:{arm.name}{at} with a share of {arm.share:.4g}"
        for segment in self.segments:
            if segment.champion is not None:
                yield segment.champion, f"champion of segment {segment.name}"
            if segment.canary is not None:
                yield (
                    segment.canary.version,
                    f"canary of segment {segment.name} with a share of {segment.canary.share:.4g}",
                )

    def deciders(self) -> frozenset[int]:
        """Every version that may decide for a unit, shadows left aside."""
        return msgspec.structs.replace(self, shadows=()).versions

    def without(self, versions: Collection[int]) -> "Rules":
        """Return the rules without some versions; the units of a version that left are answered by the next best.

        An experiment without an arm left goes too. A segment stays: its items would else meet the table's canary.
        """
        if not self.versions & set(versions):
            return self
        change = msgspec.structs.replace
        experiments = [
            change(experiment, arms=tuple(arm for arm in experiment.arms if arm.version not in versions))
            for experiment in self.experiments
        ]
        segments = [
            change(
                segment,
                champion=None if segment.champion in versions else segment.champion,
                canary=None if segment.canary is not None and segment.canary.version in versions else segment.canary,
            )
            for segment in self.segments
        ]
        return Rules(
            tuple(shadow for shadow in self.shadows if shadow.version not in versions),
            tuple(experiment for experiment in experiments if experiment.arms),
            tuple(segments),
        )


NO_RULES = Rules()


def share_problems(what: str, share: float) -> list[str]:
    """Return what is wrong with the share of a canary or a shadow."""
    return [] if 0 < share <= 1 else [f"{what}: a share lies in (0, 1], got {share:g}"]


def rule_problems(rules: Rules, known: Collection[int]) -> list[str]:
    """Return everything that is wrong with `rules`, in words; `known` are the versions that they may name."""
    return [
        *_number_problems(rules),
        *_name_problems(rules),
        *(
            f"version {version} ({role}) is unknown; versions there: {some(sorted(known)) or 'none'}"
            for version, role in rules.roles()
            if version not in known
        ),
        *(problem for shadow in rules.shadows for problem in share_problems(f"shadow {shadow.version}", shadow.share)),
        *(problem for experiment in rules.experiments for problem in _experiment_problems(experiment, rules)),
        *(problem for segment in rules.segments for problem in _segment_problems(segment)),
        *_unreachable(rules.segments),
    ]


def _number_problems(rules: Rules) -> Iterator[str]:
    counted = (
        ("shadows", len(rules.shadows), MAX_SHADOWS),
        ("experiments", len(rules.experiments), MAX_EXPERIMENTS),
        ("segments", len(rules.segments), MAX_SEGMENTS),
    )
    yield from (f"{n} {what}, at most {limit} are allowed" for what, n, limit in counted if n > limit)


def _name_problems(rules: Rules) -> Iterator[str]:
    yield from _names("experiment", [experiment.name for experiment in rules.experiments])
    yield from _names("segment", [segment.name for segment in rules.segments])
    yield from _repeated("shadow", [shadow.version for shadow in rules.shadows])
    yield from _repeated("salt", [experiment.salt for experiment in rules.experiments])
    for experiment in rules.experiments:
        yield from _names(f"experiment {experiment.name[:MAX_TEXT]!r}: arm", [arm.name for arm in experiment.arms])


def _experiment_problems(experiment: Experiment, rules: Rules) -> Iterator[str]:
    where = f"experiment {experiment.name[:MAX_TEXT]!r}"
    if not 1 <= len(experiment.arms) <= MAX_ARMS:
        yield f"{where}: 1 to {MAX_ARMS} arms, got {len(experiment.arms)}"
    if not 1 <= len(experiment.salt.encode(errors="replace")) <= MAX_TEXT or not experiment.salt.isprintable():
        yield f"{where}: a salt has 1 to {MAX_TEXT} printable bytes"
    names = [segment.name for segment in rules.segments]
    if experiment.segment and experiment.segment not in names:
        yield (
            f"{where}: there is no segment {experiment.segment[:MAX_TEXT]!r}{nearest(experiment.segment, names)}; "
            f"segments there: {some(names) or 'none'}"
        )
    yield from (f"{where}: {problem}" for problem in slot_problems(experiment))


def _segment_problems(segment: Segment) -> Iterator[str]:
    where = f"segment {segment.name[:MAX_TEXT]!r}"
    if not segment.where:
        yield f"{where}: it has no condition, so it is the whole table; name a column and its values"
    for column, values in segment.where.items():
        if not NAME.fullmatch(column):
            yield f"{where}: column {column[:MAX_TEXT]!r} is no name: {NAME_RULE}"
        if not 1 <= len(values) <= MAX_VALUES:
            yield f"{where}: column {column[:MAX_TEXT]} has {len(values)} values, 1 to {MAX_VALUES} are needed"
        bad = [value[:MAX_TEXT] for value in values if not 1 <= len(value) <= MAX_TEXT or not value.isprintable()]
        if bad:
            yield f"{where}: values have 1 to {MAX_TEXT} printable characters, got {some(map(repr, bad))}"
        yield from _repeated(f"{where}: value", values)
    if segment.canary is not None:
        yield from share_problems(f"{where}: canary {segment.canary.version}", segment.canary.share)
        if segment.canary.version == segment.champion:
            yield f"{where}: version {segment.champion} is its champion and its canary"


def _unreachable(segments: tuple[Segment, ...]) -> Iterator[str]:
    """Yield each segment that an earlier one takes all items of: two sets of releases for one segment."""
    for place, later in enumerate(segments):
        for earlier in segments[:place]:
            is_covered = all(
                column in later.where and set(later.where[column]) <= set(values)
                for column, values in earlier.where.items()
            )
            if earlier.where and is_covered:
                names = later.name[:MAX_TEXT], earlier.name[:MAX_TEXT]
                yield "segment {!r} never gets an item: segment {!r} before it takes all of them".format(*names)


def _names(what: str, names: list[str]) -> Iterator[str]:
    yield from (f"{what} {name[:MAX_TEXT]!r} is no name: {NAME_RULE}" for name in names if not NAME.fullmatch(name))
    yield from _repeated(what, names)


def _repeated(what: str, names: Iterable[object]) -> Iterator[str]:
    seen, told = set[object](), set[object]()
    for name in names:
        if name in seen and name not in told:
            told.add(name)
            yield f"{what} {str(name)[:MAX_TEXT]!r} is there twice"
        seen.add(name)
