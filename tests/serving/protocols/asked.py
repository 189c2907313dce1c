"""The same flights in each protocol."""

from typing import Any

from tests.serving.world import AT, FLIGHT

ROWS: list[dict[str, Any]] = [
    FLIGHT,
    {**FLIGHT, "tailnum": None, "flight_number": 2},
    {**FLIGHT, "carrier": "DL", "origin": "LGA", "dest": "BOS", "distance_miles": 184},
]
PARAMETERS = {"surface": "alerts", "unit_id": "unit-7", "request_timestamp": AT}
V1 = {**PARAMETERS, "flights": ROWS}


def tensors(rows: list[dict[str, Any]] = ROWS, **change: Any) -> dict[str, Any]:
    """Return a request for inference; `change` replaces a tensor's entries, None removes it."""
    found = []
    for name, value in FLIGHT.items():
        kind = "INT64" if isinstance(value, int) else "BYTES"
        tensor = {"name": name, "shape": [len(rows)], "datatype": kind, "data": [row[name] for row in rows]}
        if change.get(name, {}) is not None:
            found.append({**tensor, **change.get(name, {})})
    return {"id": "a-17", "parameters": PARAMETERS, "inputs": found}
