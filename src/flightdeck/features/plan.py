"""What a changed declaration will do: the views that code declares beside those that a store feeds. Nothing is changed.

A store keeps every version that was ever applied until it is retired, so a plan never takes anything away: it names
what would be filled, and what is fed although no code declares it any more.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from flightdeck.core.errors import StoreUnavailable
from flightdeck.features.aggregates import Aggregate
from flightdeck.features.stores import FeatureStore, Mark
from flightdeck.features.view import FeatureView, Latest, OpenItems, Windowed

Kind = Literal["unchanged", "described anew", "new", "new version"]


@dataclass(frozen=True)
class FedView:
    """A version that a store declares, and what its states reflect; no mark where it was never filled."""

    view: FeatureView
    mark: Mark | None


@dataclass(frozen=True)
class PlannedView:
    """What applying would do for one declared view.

    Parameters
    ----------
    view
        The declaration.
    kind
        `unchanged`: its version is fed. `described anew`: it is, and its owner or promises change. `new version`: other
        versions of its name are fed. `new`: none is.
    changes
        What is different, in words.
    """

    view: FeatureView
    kind: Kind
    changes: tuple[str, ...] = ()

    @property
    def is_filled(self) -> bool:
        """Whether applying fills it from the log."""
        return self.kind in ("new", "new version")


@dataclass(frozen=True)
class FeaturePlan:
    """All declared views, and the versions that are fed although no view declares them.

    Parameters
    ----------
    views
        One for each declared view, in their order.
    others
        Versions that stay fed until they are retired.
    outdated
        Versions whose declaration means something else to this code: not fed, kept until they are retired.
    """

    views: tuple[PlannedView, ...]
    others: tuple[FeatureView, ...]
    outdated: tuple[FeatureView, ...] = ()

    @property
    def to_fill(self) -> tuple[FeatureView, ...]:
        """Views that applying fills from the log, each meaning once."""
        return tuple({planned.view.digest: planned.view for planned in self.views if planned.is_filled}.values())

    @property
    def to_describe(self) -> tuple[FeatureView, ...]:
        """Views whose owner or promises change in the store."""
        return tuple(planned.view for planned in self.views if planned.kind == "described anew")


def read_fed(store: FeatureStore) -> dict[str, FedView]:
    """Return every version that a store declares, by digest.

    Raises
    ------
    StoreUnavailable
        If it cannot be read.
    """
    with store.reading() as moment:
        declared = moment.declared()
        fed = {}
        for digest, view in declared.items():
            try:
                fed[digest] = FedView(view, moment.mark(view))
            except StoreUnavailable:
                fed[digest] = FedView(view, None)
    return fed


def read_outdated(store: FeatureStore) -> tuple[FeatureView, ...]:
    """Return what code of another meaning declared in a store; this code neither feeds nor reads it.

    Raises
    ------
    StoreUnavailable
        If it cannot be read.
    """
    with store.reading() as moment:
        return moment.outdated()


def plan_features(
    declared: Sequence[FeatureView], fed: Mapping[str, FedView], outdated: Sequence[FeatureView] = ()
) -> FeaturePlan:
    """Compare declarations with what a store feeds, and with what code of another meaning left there."""
    versions: dict[str, list[FeatureView]] = {}
    for view in (*(found.view for found in fed.values()), *outdated):
        versions.setdefault(view.name, []).append(view)
    planned = tuple(_planned(view, fed.get(view.digest), versions.get(view.name, [])) for view in declared)
    digests = {view.digest for view in declared}
    others = tuple(found.view for digest, found in fed.items() if digest not in digests)
    return FeaturePlan(planned, others, tuple(outdated))


def _planned(view: FeatureView, fed: FedView | None, versions: Sequence[FeatureView]) -> PlannedView:
    if fed is not None and fed.mark is not None:
        if fed.view.name != view.name:
            return PlannedView(view, "unchanged", (f"shares the states of {fed.view.name}",))
        changes = describe_change(fed.view, view)
        return PlannedView(view, "described anew" if changes else "unchanged", changes)
    others = [version for version in versions if version.digest != view.digest]
    if not others:
        return PlannedView(view, "new", ("declared, never filled",) if fed is not None else ())
    nearest = min((describe_change(version, view) for version in others), key=len)
    return PlannedView(view, "new version", nearest or ("the same declaration means something else now",))


def describe_change(before: FeatureView, after: FeatureView) -> tuple[str, ...]:
    """Return what is different between two declarations, in words.

    Examples
    --------
    >>> from dataclasses import replace
    >>> view = FeatureView("open", ("origin",), "scheduled", OpenItems(("departed",)), owner="me")
    >>> describe_change(view, replace(view, owner="you", compute=OpenItems(("departed", "cancelled"))))
    ('closed_by: + cancelled', 'owner: me -> you')
    """
    changes = []
    for name in ("entity", "source"):
        if getattr(before, name) != getattr(after, name):
            changes.append(f"{name}: {_words(getattr(before, name))} -> {_words(getattr(after, name))}")
    one, other = before.compute, after.compute
    if type(one) is not type(other):
        changes.append(f"kind: {type(one).__name__} -> {type(other).__name__}")
    elif isinstance(one, Windowed) and isinstance(other, Windowed):
        changes += _difference("windows", [_time(s) for s in one.windows_s], [_time(s) for s in other.windows_s])
        changes += _difference("aggregates", list(map(_call, one.aggregates)), list(map(_call, other.aggregates)))
    elif isinstance(one, Latest) and isinstance(other, Latest):
        changes += _difference("columns", one.columns, other.columns)
    elif isinstance(one, OpenItems) and isinstance(other, OpenItems):
        changes += _difference("closed_by", one.closed_by, other.closed_by)
    for name in ("ttl_s", "owner", "freshness_slo_s", "hard_limit_s"):
        if getattr(before, name) != getattr(after, name):
            changes.append(f"{name}: {getattr(before, name)} -> {getattr(after, name)}")
    return tuple(changes)


def _difference(what: str, before: Collection[str], after: Collection[str]) -> list[str]:
    added = [f"+ {name}" for name in after if name not in before]
    removed = [f"- {name}" for name in before if name not in after]
    if added or removed:
        return [f"{what}: {', '.join([*added, *removed])}"]
    return [f"{what}: another order"] if list(before) != list(after) else []


def _words(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else ", ".join(value) or "everything"


def _time(seconds: int) -> str:
    return next(f"{seconds // size}{unit}" for unit, size in _UNITS if seconds % size == 0)


def _call(aggregate: Aggregate) -> str:
    given = {name: value for name, value in aggregate.as_json().items() if name not in ("kind", "column")}
    arguments = [aggregate.column] if aggregate.column else []
    return f"{aggregate.kind}({', '.join([*arguments, *(f'{name}={value}' for name, value in given.items())])})"


_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))
