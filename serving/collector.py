"""When Python looks for garbage in cycles: seldom, and not among what the worker was built of.

A full collection walks every object of the process: 40 to 90 ms with the libraries of a worker and 2,000 connections,
in which nobody is answered, and by default one comes every few thousand requests. What is there at the start lives as
long as the worker and is left out for good. Of the rest, the young are looked at once there are 50,000 more of them,
some tens of megabytes at most.
"""

import gc

YOUNG, MIDDLE, OLD = 50_000, 20, 100


def settle() -> None:
    """Collect once, leave out what is there from now on, and collect seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
