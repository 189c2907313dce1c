"""The families of checks that this use case brings to the gate: those that need more than the bundle.

A risk tier asks for them by name in `conf/base/policies.yml`, beside those of `flightdeck.gates`.
"""

from collections.abc import Mapping

from flightdeck.gates.assessment import Family
from pipelines.evaluation.freshness import freshness
from pipelines.evaluation.point_in_time import point_in_time
from pipelines.evaluation.stability import stability
from pipelines.evaluation.training_drift import training_drift

FAMILIES: Mapping[str, Family] = {
    "freshness": freshness,
    "point_in_time": point_in_time,
    "training_drift": training_drift,
    "stability": stability,
}
