"""Settings of monitoring, read once and frozen."""

import msgspec

from flightdeck.core.clock import MINUTE_US
from flightdeck.core.errors import ConfigError

HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US


class MonitoringSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is compared with what, and how often a healthy day may alarm.

    Parameters
    ----------
    history_days
        Days before `as_of` whose predictions are judged.
    window_min
        Length of a quality window of request time in minutes.
    current_h
        Hours up to the newest request that drift, skew and serving look at.
    scored_leads_min
        Minutes before departure at which training asks the model: only these are compared with the reference.
    lead_tolerance_min
        How much earlier than a lead a request may be and still stand for it, minutes.
    day_offset_h
        UTC hour at which a day begins: when nothing is going on.
    minimum_rows
        Fewer rows than this are never judged.
    minimum_mature_share
        Share of a day's flights that must have a label before the day is judged.
    false_alarm_rate
        Share of healthy days that may break a bound.
    minimum_psi
        Population stability index below which nothing counts as drift.
    drift_ignores
        Columns whose distribution is the askers' choice.
    drift_rows
        Most rows of the current window that drift compares.
    report_columns
        Number of columns in the drift report, the most drifted first.
    audit_rows
        Most predictions whose features are recomputed.
    degraded_share
        Share of answers that may come from below the model.
    n_resamples
        Draws of day blocks.
    seed
        Seed of every draw.
    """

    history_days: int
    window_min: int
    current_h: int
    scored_leads_min: tuple[int, ...]
    lead_tolerance_min: int
    day_offset_h: int
    minimum_rows: int
    minimum_mature_share: float
    false_alarm_rate: float
    minimum_psi: float
    drift_ignores: tuple[str, ...]
    drift_rows: int
    report_columns: int
    audit_rows: int
    degraded_share: float
    n_resamples: int
    seed: int

    def __post_init__(self) -> None:
        counts = ("history_days", "window_min", "current_h", "minimum_rows", "drift_rows", "audit_rows", "n_resamples")
        wrong = [f"{name} is {getattr(self, name)}, at least 1" for name in counts if getattr(self, name) < 1]
        if not 0 < self.false_alarm_rate < 1:
            wrong.append(f"false_alarm_rate is {self.false_alarm_rate}, between 0 and 1")
        if not 0 <= self.day_offset_h < 24:
            wrong.append(f"day_offset_h is {self.day_offset_h}, from 0 to 23")
        if wrong:
            raise ConfigError(
                f"settings of monitoring: {'; '.join(wrong)}", next_step="correct conf/base/parameters_monitoring.yml"
            )
