"""Which columns a model sees, in which order: the one list that training, export and the server share."""

from flightdeck.core.columns import column_functions
from pipelines.features import nodes
from pipelines.features.views import VIEW_COLUMNS

COLUMN_FUNCTIONS = column_functions(nodes.__name__)
REQUEST_COLUMNS = {
    "carrier": "string",
    "origin": "string",
    "dest": "string",
    "flight_number": "int64",
    "tailnum": "string",
    "scheduled_departure_us": "int64",
    "scheduled_arrival_us": "int64",
    "request_us": "int64",
    "origin_utc_offset_min": "int64",
    "distance_miles": "int64",
}
CATEGORICAL = ("carrier", "origin", "dest")
COMPUTED = tuple(output.name for function in COLUMN_FUNCTIONS for output in function.outputs)
NUMERIC = ("distance_miles", *COMPUTED, *VIEW_COLUMNS)
FALLBACK_NUMERIC = (
    "distance_miles",
    "departure_minute_of_day",
    "departure_day_of_week",
    "block_min",
    "scheduled_speed_mph",
)
