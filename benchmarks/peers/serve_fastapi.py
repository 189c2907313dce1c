"""FastAPI and scikit-learn as tutorials show it: a pydantic body, a `def` route, a data frame, `predict_proba`."""

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, create_model
from serving_model import CATEGORICAL, NUMERIC, frame, load_pipeline

fields: dict[str, Any] = dict.fromkeys(CATEGORICAL, (str, ...)) | dict.fromkeys(NUMERIC, (float | None, None))
Flight = create_model("Flight", **fields)


class Flights(BaseModel):
    rows: list[Flight]  # type: ignore[valid-type]


class Answer(BaseModel):
    probabilities: list[float]


app = FastAPI()
pipeline = load_pipeline()


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}


@app.post("/predict")
def predict(flights: Flights) -> Answer:
    rows = [flight.model_dump() for flight in flights.rows]  # type: ignore[attr-defined]
    return Answer(probabilities=pipeline.predict_proba(frame(rows))[:, 1].tolist())


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")
