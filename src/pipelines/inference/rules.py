"""What the rule baseline is looked up by: carrier and local hour of the scheduled departure."""

from flightdeck.core.clock import MINUTE_US
from flightdeck.inference.rules import ColumnKey, IntegerKey, Key

RULE_KEYS: tuple[Key, ...] = (
    ColumnKey("carrier"),
    IntegerKey(
        {"scheduled_departure_us": 1, "origin_utc_offset_min": MINUTE_US},
        modulus=24 * 60 * MINUTE_US,
        divisor=60 * MINUTE_US,
    ),
)
