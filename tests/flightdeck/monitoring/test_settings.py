"""Settings refuse what makes no sense, all at once."""

import pytest

from flightdeck.core.errors import ConfigError
from tests.flightdeck.monitoring.samples import monitoring_settings


def test_all_violations_at_once() -> None:
    with pytest.raises(ConfigError, match=r"window_min is 0.*false_alarm_rate is 1.5.*day_offset_h is 24"):
        monitoring_settings(window_min=0, false_alarm_rate=1.5, day_offset_h=24)
