"""From the rows of another protocol to the question that `/v1/predictions` asks, by the same rules.

What such a request cannot say in rows is in its parameters. A surface that is left out is the one that
`conf/*/protocols.yml` names; without a unit the request is a unit of its own: its arm is chosen anew each time.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flightdeck.core.config import read_settings
from flightdeck.core.errors import ConfigError, nearest
from flightdeck.core.layout import PROJECT
from serving.errors import RequestRefused, refuse_invalid
from serving.schemas import MAX_UNIT, SURFACES, UNIT, Flight, PredictionRequest
from serving.wire import Ask, from_model

INTEGERS = tuple(name for name, field in Flight.model_fields.items() if field.annotation is int)
OPTIONAL = tuple(name for name, field in Flight.model_fields.items() if not field.is_required())
FIELDS = tuple(Flight.model_fields)
INVALID = 400
_ROW = re.compile(r"flights(?:\.(\d+)(?:\.(.+))?)?")


class ProtocolSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What conf/base/protocols.yml says."""

    surface: str | None = None


class Parameters(BaseModel):
    """What a request says beside its rows."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    surface: Annotated[
        Literal["search", "itinerary", "alerts"] | None,
        Field(description="As in PredictionRequest; left out: the surface that the service is configured with"),
    ] = None
    unit_id: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_UNIT,
            pattern=f"^{UNIT}$",
            description="As in PredictionRequest; left out: a unit of its own, whose arm is chosen anew each time",
        ),
    ] = None
    request_timestamp: Annotated[str | None, Field(description="As in PredictionRequest")] = None
    content_type: Annotated[Any, Field(description="Ignored: some clients send it")] = None


def read_protocols(env: str | None = None, *, conf: Path = PROJECT / "conf") -> ProtocolSettings:
    """Return the settings of an environment (default: what `KEDRO_ENV` says).

    Raises
    ------
    ConfigError
        If there is no such environment, or the settings break their rule.
    """
    settings = read_settings("protocols.yml", ProtocolSettings, env, conf=conf)
    if settings.surface is not None and settings.surface not in SURFACES:
        raise ConfigError(
            f"reading protocols.yml: no surface {settings.surface!r}{nearest(settings.surface, SURFACES)}",
            next_step=f"use one of {sorted(SURFACES)}, or null",
        )
    return settings


def parse(kind: type[BaseModel], body: bytes) -> Any:
    """Return a body as an instance of `kind`.

    Raises
    ------
    RequestRefused
        400, with all broken rules.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise refuse(refuse_invalid(error).violations) from None


def make_ask(
    rows: Sequence[Mapping[str, Any]],
    given: Parameters | None,
    settings: ProtocolSettings,
    request_id: str,
    where: Callable[[str, str], str],
    parameters: str,
) -> Ask:
    """Return the question about some rows.

    Parameters
    ----------
    rows
        Values of each flight by field.
    given
        The request's parameters.
    settings
        What is meant where they say nothing.
    request_id
        Unit of a request that names none.
    where
        Gives the place of a row and a field (empty: the whole row) in the protocol's terms, for what it breaks.
    parameters
        What the parameters are called.

    Raises
    ------
    RequestRefused
        400, with all broken rules.
    """
    given = given or Parameters()
    question = {
        "surface": given.surface or settings.surface,
        "unit_id": given.unit_id or request_id,
        "flights": list(rows),
        "request_timestamp": given.request_timestamp,
    }
    try:
        return from_model(PredictionRequest.model_validate(question))
    except ValidationError as error:
        found = refuse_invalid(error).violations
    raise refuse([(_place(at, where, parameters), rule) for at, rule in found])


def refuse(violations: Sequence[tuple[str, str]]) -> RequestRefused:
    """Return the refusal of a body that breaks rules."""
    return RequestRefused(INVALID, "invalid_request", "the body breaks a rule of the request", violations=violations)


def _place(at: str, where: Callable[[str, str], str], parameters: str) -> str:
    found = _ROW.fullmatch(at)
    if found is None:
        return f"{parameters}.{at}"
    return where(found[1] or "", found[2] or "")
