"""The families of checks that this use case brings to the gate: those that need more than the bundle.

A risk tier asks for them by name in `conf/base/policies.yml`, beside those of `flightdeck.gates`.
"""

from collections.abc import Mapping

from flightdeck.gates.assessment import Family
from pipelines.evaluation.server import server_checks
from pipelines.evaluation.skew import skew_checks

FAMILIES: Mapping[str, Family] = {"server": server_checks, "skew": skew_checks}
