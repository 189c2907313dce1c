"""The windowed features: what has just happened at the origin, to the carrier, at the destination, to the aircraft.

Windows and groups follow the ablation of flights.md, section 3 (groups f2 and f3). The aircraft's previous leg is its
previous departure from New York: arrivals into New York are not in the data. `tailnum` is the aircraft that a request
names; where it is unknown the aircraft features are missing, which the models are trained with. 2,512
cancelled flights have no aircraft in the source; 1.6 % of the rows without aircraft features are theirs.
"""

from flightdeck.features.aggregates import count, mean
from flightdeck.features.view import FeatureView, Latest, OpenItems, Windowed

WEATHER_MEASURES = (
    "temp_f",
    "dewp_f",
    "humid_pct",
    "wind_dir_deg",
    "wind_speed_mph",
    "wind_gust_mph",
    "precip_in",
    "pressure_mbar",
    "visib_mi",
)
OWNER = "flight-risk@flightdeck.example"
MINUTE_S = 60
HOUR_S = 3600
DELAYS_OUT = ("dep_delay_min", "is_late")
DELAYS_IN = ("arr_delay_min", "is_late")


def _windows(name: str, entity: tuple[str, ...], source: str, means: tuple[str, ...], *minutes: int) -> FeatureView:
    compute = Windowed(tuple(m * MINUTE_S for m in minutes), (count(), *map(mean, means)))
    return FeatureView(name, entity, source, compute, OWNER)


def _overdue(name: str, *entity: str) -> FeatureView:
    """Departures that fell due and have neither left nor been cancelled."""
    return FeatureView(name, entity, "scheduled", OpenItems(("departed", "cancelled")), OWNER)


VIEWS: tuple[FeatureView, ...] = (
    _windows("origin_departures", ("origin",), "departed", DELAYS_OUT, 30, 60, 180),
    _windows("carrier_departures", ("carrier",), "departed", DELAYS_OUT, 60, 180),
    _windows("origin_carrier_departures", ("origin", "carrier"), "departed", DELAYS_OUT, 60, 180),
    _windows("route_departures", ("origin", "dest"), "departed", DELAYS_OUT, 360),
    _windows("dest_departures", ("dest",), "departed", DELAYS_OUT, 180),
    _windows("all_departures", (), "departed", DELAYS_OUT, 60),
    _windows("origin_arrivals", ("origin",), "arrived", DELAYS_IN, 60, 180),
    _windows("carrier_arrivals", ("carrier",), "arrived", DELAYS_IN, 60, 180),
    _windows("dest_arrivals", ("dest",), "arrived", DELAYS_IN, 180),
    _windows("all_arrivals", (), "arrived", DELAYS_IN, 60),
    _windows("origin_cancellations", ("origin",), "cancelled", (), 180),
    _windows("carrier_cancellations", ("carrier",), "cancelled", (), 180),
    _windows("all_cancellations", (), "cancelled", (), 180),
    _overdue("origin_overdue", "origin"),
    _overdue("carrier_overdue", "carrier"),
    _overdue("origin_carrier_overdue", "origin", "carrier"),
    _overdue("all_overdue"),
    FeatureView("aircraft_departed", ("tailnum",), "departed", Latest(("dep_delay_min",)), OWNER),
    FeatureView("aircraft_arrived", ("tailnum",), "arrived", Latest(("arr_delay_min",)), OWNER),
    FeatureView(
        "origin_weather", ("origin",), "weather_observed", Latest(WEATHER_MEASURES), ttl_s=7 * HOUR_S, owner=OWNER
    ),
)
VIEW_COLUMNS: tuple[str, ...] = tuple(column for view in VIEWS for column in view.columns)
