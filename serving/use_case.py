"""Where the service meets its use case: the only module of `serving` that names `pipelines`."""

from flightdeck.inference.release_bundle import RunningCode
from pipelines.features.model_input import REQUEST_COLUMNS
from pipelines.inference.request import flight_ids, has_unknown_origin, request_columns
from serving.schemas import SURFACES

__all__ = ["flight_ids", "has_unknown_origin", "request_columns", "running_code"]


def running_code() -> RunningCode:
    """Return what this process brings to a bundle."""
    return RunningCode(request_columns=REQUEST_COLUMNS, surfaces=SURFACES)
