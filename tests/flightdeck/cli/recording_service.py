"""A tiny prediction service that answers every request and appends it to a file: `recording_service.py PORT FILE`."""

import json
import sys
from pathlib import Path

from aiohttp import web

READY = {"ready": True}


def make_app(record: Path) -> web.Application:
    async def predict(request: web.Request) -> web.Response:
        body = await request.json()
        if "request_timestamp" not in body:
            return web.json_response({"error": {"message": "event time"}}, status=422)
        line = json.dumps({"request_id": request.headers["X-Request-ID"], **body}) + "\n"
        with record.open("a", encoding="utf-8") as stream:
            stream.write(line)
        answers = [{"mode": "model", "probability": 0.25} for _ in body["flights"]]
        return web.json_response({"request_id": request.headers["X-Request-ID"], "predictions": answers})

    async def ready(_: web.Request) -> web.Response:
        return web.json_response(READY)

    app = web.Application()
    app.router.add_post("/v1/predictions", predict)
    app.router.add_get("/readyz", ready)
    return app


if __name__ == "__main__":
    web.run_app(make_app(Path(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]), print=None)
