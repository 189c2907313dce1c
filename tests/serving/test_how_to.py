"""The examples of docs/how-to/call-the-service.md, run as they stand against a service that asks for keys."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from flightdeck.core.layout import PROJECT
from tests.serving.process import Service, serving
from tests.serving.test_guard import make_key
from tests.serving.world import World

TEXT = (PROJECT / "docs/how-to/call-the-service.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def asked(live_world: World) -> Iterator[tuple[Service, dict[str, str]]]:
    key = make_key(live_world.layout, "reader")
    with serving(live_world.layout.root, clock="system", options=["--require-keys"]) as service:
        yield service, {**os.environ, "KEY": key}


@pytest.mark.parametrize("place", range(len(BLOCKS)))
def test_an_example_of_the_page_is_answered(asked: tuple[Service, dict[str, str]], place: int) -> None:
    service, environment = asked
    language, code = BLOCKS[place]
    program = ["bash", "-ec"] if language == "bash" else [sys.executable, "-c"]
    code = code.replace("localhost:8000", f"localhost:{service.port}")
    done = subprocess.run([*program, code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.search(r'"?probability"?|^0\.\d+$', done.stdout, re.MULTILINE), done.stdout
    assert "error" not in done.stdout


def test_the_page_has_examples_of_each_protocol() -> None:
    text = " ".join(code for _, code in BLOCKS)
    assert len(BLOCKS) == 4
    assert all(path in text for path in ("/v1/predictions", "/v2/models/flight-delay/infer", "/invocations"))
