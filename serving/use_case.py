"""Where the service meets its use case: the only module of `serving` that names `pipelines`."""

from flightdeck.core.identifiers import fingerprint
from flightdeck.inference.release_bundle import RunningCode
from pipelines.features.model_input import COLUMN_FUNCTIONS, REQUEST_COLUMNS
from pipelines.features.views import VIEWS
from pipelines.inference.pipeline import create_pipeline
from pipelines.inference.request import flight_ids, has_unknown_origin, request_columns
from pipelines.inference.rules import score_rules
from serving.schemas import SURFACES

__all__ = ["flight_ids", "has_unknown_origin", "request_columns", "running_code"]


def running_code() -> RunningCode:
    """Return the code that this process computes features with, fingerprinted."""
    return RunningCode(
        nodes=tuple(create_pipeline().nodes),
        fingerprints={declared.name: fingerprint(declared.function) for declared in COLUMN_FUNCTIONS},
        views=VIEWS,
        request_columns=REQUEST_COLUMNS,
        score_rules=score_rules,
        surfaces=SURFACES,
    )
