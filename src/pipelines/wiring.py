"""A step of a pipeline: a Kedro node that is called like its function, so that logs and graphs read well."""

from collections.abc import Callable
from typing import Any

from kedro.pipeline import node
from kedro.pipeline.node import Node


def step(function: Callable[..., Any], inputs: str | list[str], outputs: str | list[str]) -> Node:
    """Return a node named after `function`."""
    return node(function, inputs, outputs, name=function.__name__)
