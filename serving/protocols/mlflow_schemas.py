"""What MLflow's scoring protocol takes and gives."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from serving.protocols.question import Parameters
from serving.schemas import Mode, Refusing

Row = dict[str, Any]


class Split(Refusing):
    """A table as pandas writes it with `orient="split"`."""

    columns: list[str]
    data: list[list[Any]]
    index: Annotated[list[Any] | None, Field(description="Ignored")] = None


class Invocation(Refusing):
    """A question about one to 500 flights in exactly one of four forms."""

    dataframe_split: Split | None = None
    dataframe_records: Annotated[list[Row] | None, Field(description="One object a flight")] = None
    instances: Annotated[list[Row] | None, Field(description="One object a flight")] = None
    inputs: Annotated[
        dict[str, list[Any]] | list[Row] | None,
        Field(description="One list a field, or one object a flight"),
    ] = None
    params: Parameters | None = None


class ScoredFlight(BaseModel):
    """The answer for one flight, in the order of the request; more about each field under Prediction."""

    flight_id: str
    probability: float | None
    decision: str | None
    mode: Mode
    reason: str | None
    arm: str
    model_version: int | None


class InvocationAnswer(BaseModel):
    """All answers of a request."""

    predictions: list[ScoredFlight]
