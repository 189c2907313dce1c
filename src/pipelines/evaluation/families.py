"""The families of checks that this use case brings to the gate: those that need more than the bundle.

A risk tier asks for them by name in `conf/base/policies.yml`, beside those of `flightdeck.gates`.
"""

from collections.abc import Mapping

from flightdeck.gates.assessment import Family

FAMILIES: Mapping[str, Family] = {}
