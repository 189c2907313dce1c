"""What the four sources promise, row by row."""

import datetime as dt

import pandas as pd
from pandera.pandas import Check, Column, DataFrameSchema

from flightdeck.events.contracts import SourceContract

OWNER = "data-platform@flightdeck.example"
LATE_MIN = 15


def _is_hhmm(values: "pd.Series[float]") -> "pd.Series[bool]":
    """Hold for clock readings 0000 to 2400 with minutes below 60 (2400 is midnight)."""
    return (values % 100 < 60) & (values <= 2400) & (values >= 0) & (values % 1 == 0)


_HHMM = Check(_is_hhmm, name="hhmm", error="the rule hhmm (0000..2400, minutes below 60)")
_IATA = Check.str_matches(r"^[A-Z0-9]{3}$", error="the rule IATA code")
_CARRIER = Check.str_matches(r"^[A-Z0-9]{2}$", error="the rule carrier code")


def _whole(low: float, high: float, *, nullable: bool = False) -> Column:
    """Return a column of whole numbers in a closed range, held as float so that it can be missing."""
    whole = Check(lambda values: values % 1 == 0, error="the rule whole number")
    return Column("float64", [_between(low, high), whole], nullable=nullable)


def _measure(low: float, high: float) -> Column:
    """Return a column of measurements in a closed range, often missing."""
    return Column("float64", _between(low, high), nullable=True)


def _between(low: float, high: float) -> Check:
    return Check.in_range(low, high, error=f"the range {low:g}..{high:g}")


def flights_contract(first: dt.date, last: dt.date) -> SourceContract:
    """Return the contract of `flights` for a delivery of the local days `first` to `last`."""
    columns = {
        "year": _whole(first.year, last.year),
        "month": _whole(1, 12),
        "day": _whole(1, 31),
        "dep_time": Column("float64", _HHMM, nullable=True),
        "sched_dep_time": Column("float64", _HHMM),
        "dep_delay": _whole(-120, 1440, nullable=True),
        "arr_time": Column("float64", _HHMM, nullable=True),
        "sched_arr_time": Column("float64", _HHMM),
        "arr_delay": _whole(-180, 1440, nullable=True),
        "carrier": Column("str", _CARRIER),
        "flight": _whole(1, 9999),
        "tailnum": Column("str", Check.str_length(1, 8, error="the rule tail number"), nullable=True),
        "origin": Column("str", _IATA),
        "dest": Column("str", _IATA),
        "distance": _whole(10, 9000),
        "time_hour": Column("datetime64[ns, UTC]"),
    }
    return SourceContract("flights", OWNER, _schema(columns), ("year", "month", "day", "carrier", "flight", "origin"))


def weather_contract(first: dt.date, last: dt.date) -> SourceContract:
    """Return the contract of `weather`; the instant is the UTC hour that the row describes."""
    low = pd.Timestamp(first, tz="UTC") - pd.Timedelta(days=1)
    high = pd.Timestamp(last, tz="UTC") + pd.Timedelta(days=2)
    period = Check.in_range(low, high, error=f"the period {first}..{last}")
    columns = {
        "origin": Column("str", _IATA),
        "time_hour": Column("datetime64[ns, UTC]", period),
        "temp": _measure(-60, 130),
        "dewp": _measure(-80, 100),
        "humid": _measure(0, 100),
        "wind_dir": _measure(0, 360),
        "wind_speed": _measure(0, 150),
        "wind_gust": _measure(0, 200),
        "precip": _measure(0, 10),
        "pressure": _measure(900, 1085),
        "visib": _measure(0, 15),
    }
    return SourceContract("weather", OWNER, _schema(columns), ("origin", "time_hour"))


def planes_contract() -> SourceContract:
    """Return the contract of `planes`: reference data of aircraft."""
    columns = {
        "tailnum": Column("str"),
        "year": _whole(1950, 2014, nullable=True),
        "manufacturer": Column("str"),
        "model": Column("str"),
        "engines": _whole(1, 4),
        "seats": _whole(1, 600),
    }
    return SourceContract("planes", OWNER, _schema(columns), ("tailnum",))


def airports_contract() -> SourceContract:
    """Return the contract of `airports`: reference data with time zones."""
    columns = {
        "faa": Column("str", _IATA),
        "name": Column("str"),
        "lat": _measure(-90, 90),
        "lon": _measure(-180, 180),
        "tzone": Column("str", nullable=True),
    }
    return SourceContract("airports", OWNER, _schema(columns), ("faa",))


def _schema(columns: dict[str, Column]) -> DataFrameSchema:
    return DataFrameSchema(columns, strict=False, coerce=False)
