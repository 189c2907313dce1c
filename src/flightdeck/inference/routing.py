"""Who decides for an item, who answers where that one fails, and who scores a copy: one table per model.

An item is looked at in this order; the first that applies decides:

1. **segment**: the first one whose conditions hold; it brings its own champion, canary and experiments, and those of
   the table do not apply in it (a segment without a champion of its own has the table's);
2. **experiment**: the first one, in the order of the table, that has an arm which holds the unit;
3. **canary**, if the unit's position is below its share;
4. **champion**.

A unit's position in a layer, in [0, 1), is a keyed hash of its identifier and the layer's salt and of nothing else: the
same in every process, restart and machine, and independent between layers. The salt of a canary is its own digest: each
canary meets other units first, and nobody is the guinea pig of every release. Raising a share moves nobody out.

An identifier counts as the UTF-8 bytes that were sent: two Unicode forms of one name are two units, and the empty
identifier is one unit. Nothing but the identifier and the request columns has a say: no header chooses an arm.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy.typing as npt

from flightdeck.core.errors import ConfigError
from flightdeck.inference.positions import MAX_SALT
from flightdeck.inference.routes import CANARY, CHAMPION, CompiledTable, Routes
from flightdeck.inference.routing_rules import NO_RULES, Canary, Rules, rule_problems, share_problems


@dataclass(frozen=True)
class RoutingTable:
    """Champion, canary and rules of one model: plain data, refused as a whole if anything in it is wrong.

    Parameters
    ----------
    champion
        Version that decides unless a rule says otherwise; None where there is none.
    canary
        Version that decides for a share of the units in no segment; None for none.
    rules
        Shadows, experiments and segments.
    digests
        Bundle digest of each version that the table names, and of no other.

    Raises
    ------
    ConfigError
        With everything that is wrong, a line each.
    """

    champion: int | None = None
    canary: Canary | None = None
    rules: Rules = NO_RULES
    digests: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse a table that no traffic should meet."""
        problems = rule_problems(self.rules, self.digests)
        own = ((CHAMPION, self.champion), (CANARY, self.canary.version if self.canary is not None else None))
        problems += [f"{arm}: version {v} is unknown" for arm, v in own if v is not None and v not in self.digests]
        if self.canary is not None:
            problems += share_problems(f"canary {self.canary.version}", self.canary.share)
        problems += [
            f"version {version}: a digest has 1 to {MAX_SALT} bytes, got {digest[:MAX_SALT]!r}"
            for version, digest in self.digests.items()
            if not 1 <= len(digest.encode()) <= MAX_SALT
        ]
        problems += [f"version {version} has no place" for version in sorted(set(self.digests) - self.versions)]
        if problems:
            raise ConfigError("\n  - ".join([f"loading a routing table, {len(problems)} problems:", *problems]))

    @property
    def versions(self) -> frozenset[int]:
        """Every version that the table names."""
        own = (self.champion, self.canary.version if self.canary is not None else None)
        return self.rules.versions | {version for version in own if version is not None}

    def roles(self) -> list[tuple[int, str]]:
        """Return (version, what it does here in words) for each place of the table that names a version."""
        own = [(self.champion, CHAMPION)] if self.champion is not None else []
        if self.canary is not None:
            own.append((self.canary.version, f"{CANARY} with a share of {self.canary.share:.4g}"))
        return [*own, *self.rules.roles()]

    def roles_of(self, version: int) -> list[str]:
        """Return what `version` does here, in words; empty for a version that has no place."""
        return [role for named, role in self.roles() if named == version]

    def without(self, versions: Collection[int]) -> "RoutingTable":
        """Return the table without some versions, such as those that could not be loaded."""
        if not self.versions & set(versions):
            return self
        kept = {version: digest for version, digest in self.digests.items() if version not in versions}
        return RoutingTable(
            self.champion if self.champion in kept else None,
            self.canary if self.canary is not None and self.canary.version in kept else None,
            self.rules.without(versions),
            kept,
        )

    @cached_property
    def compiled(self) -> CompiledTable:
        """The table as `route` evaluates it, made once."""
        return CompiledTable(self.champion, self.canary, self.rules, self.digests)


def route(table: RoutingTable, units: Sequence[str], columns: Mapping[str, npt.NDArray[Any]]) -> Routes:
    """Return who decides for each item, of one request or of many.

    Parameters
    ----------
    table
        Whose rules apply.
    units
        Identifier of the unit of each item, length `n`.
    columns
        Request columns of shape `(n,)`. Only those that segments name are read; a column that is not there makes their
        conditions false.

    Raises
    ------
    UnicodeEncodeError
        If an identifier has a lone surrogate; JSON that is valid has none.

    Notes
    -----
    A table with a champion alone costs the making of `choice`. Each layer costs one hash a distinct unit.

    Examples
    --------
    >>> table = RoutingTable(1, Canary(2, 0.5), digests={1: "a", 2: "b"})
    >>> [(route.arm, route.version, rows.tolist()) for route, rows in route(table, ["x", "y", "z", "x"], {}).groups()]
    [('champion', 1, [0, 1, 3]), ('canary', 2, [2])]
    """
    return table.compiled.route(units, columns)
