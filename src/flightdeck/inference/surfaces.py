"""What a probability means on each surface: labels with the probability from which they hold.

The thresholds are sealed into the bundle (`surfaces.json`), so a decision changes by a release and never by editing a
file under a running server.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from flightdeck.core.config import cast_config
from flightdeck.core.errors import ConfigError, nearest, some


class Surface(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Decision of one surface.

    Parameters
    ----------
    decisions
        Label -> smallest probability at which it holds, one of them 0; of those that hold the highest is the decision.
        Their order in the file does not matter.
    """

    decisions: dict[str, float]

    def __post_init__(self) -> None:
        """Refuse thresholds that leave a probability without a decision, or a label that can never hold."""
        bounds = sorted(self.decisions.values())
        distinct = all(low < high for low, high in pairwise(bounds))
        if not bounds or bounds[0] != 0.0 or not distinct or not bounds[-1] <= 1.0:
            raise ValueError(f"decisions {self.decisions}: thresholds are distinct, the lowest is 0, none is above 1")

    def ascending(self) -> list[tuple[str, float]]:
        """Return labels and thresholds, lowest first."""
        return sorted(self.decisions.items(), key=lambda item: item[1])


class Surfaces:
    """All surfaces of a bundle.

    Parameters
    ----------
    surfaces
        By name.
    """

    def __init__(self, surfaces: Mapping[str, Surface]) -> None:
        self.by_name = dict(surfaces)
        self._labels = {name: [label for label, _ in s.ascending()] for name, s in surfaces.items()}
        self._bounds = {name: np.array([bound for _, bound in s.ascending()]) for name, s in surfaces.items()}

    def decide(self, surface: str, probability: npt.NDArray[np.float64]) -> list[str | None]:
        """Return the decision for each probability, None where it is NaN (nothing was predicted).

        Parameters
        ----------
        surface
            Name of the surface.
        probability
            Shape `(n_rows,)`, in [0, 1] or NaN.

        Raises
        ------
        ConfigError
            If the surface is unknown.

        Examples
        --------
        >>> surfaces = read_surfaces({"alerts": {"decisions": {"none": 0.0, "alert": 0.6}}}, where="example")
        >>> surfaces.decide("alerts", np.array([0.59, 0.6, np.nan]))
        ['none', 'alert', None]
        """
        if surface not in self.by_name:
            raise ConfigError(
                f"deciding for surface {surface!r}{nearest(surface, self.by_name)}: unknown",
                next_step=f"use one of {sorted(self.by_name)}",
            )
        labels = self._labels[surface]
        places = np.searchsorted(self._bounds[surface], probability, side="right") - 1
        missing = np.isnan(probability)
        return [None if gone else labels[place] for place, gone in zip(places.tolist(), missing.tolist(), strict=True)]


def sealed_surfaces(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of parsed `surfaces.yml` that a bundle seals: the decisions, without how each is operated.

    Examples
    --------
    >>> sealed_surfaces({"alerts": {"criticality": "critical", "decisions": {"none": 0.0}}})
    {'alerts': {'decisions': {'none': 0.0}}}
    """
    return {name: {"decisions": entry["decisions"]} for name, entry in content.items()}


def read_surfaces(content: Any, *, where: str) -> Surfaces:
    """Cast a bundle's parsed `surfaces.json`.

    Raises
    ------
    ConfigError
        If it is not a mapping of surfaces, or one breaks its rule; all broken ones are named.
    """
    if not isinstance(content, dict) or not content:
        raise ConfigError(f"reading {where}: expected surfaces by name", next_step="see conf/base/surfaces.yml")
    surfaces: dict[str, Surface] = {}
    problems: list[str] = []
    for name, entry in content.items():
        try:
            surfaces[str(name)] = cast_config(entry, Surface, where=f"{where}, surface {name!r}")
        except ConfigError as error:
            problems.append(error.message)
    if problems:
        raise ConfigError(some(problems), next_step="correct the thresholds; conf/base/surfaces.yml is in git")
    return Surfaces(surfaces)
