"""How the interpreter of a worker is set: garbage is looked for seldom, and a thread gives way soon.

A full collection walks every object of the process: 40 to 90 ms with the libraries of a worker and 2,000 connections,
in which nobody is answered, and by default one comes every few thousand requests. What is there at the start lives as
long as the worker and is left out for good. Of the rest, the young are looked at once there are 50,000 more of them,
some tens of megabytes at most.

The event loop gives the interpreter away with each call of the system and must ask for it back. A thread that computes
in Python, opening a bundle for example, keeps it for 5 ms by default each time, so that a request waits for several
such turns. Half a millisecond is enough for it to make headway.
"""

import gc
import sys

YOUNG, MIDDLE, OLD = 50_000, 20, 100
TURN_S = 0.0005


def settle() -> None:
    """Collect once, leave out what is there from now on, collect seldom; let threads take short turns."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
    sys.setswitchinterval(TURN_S)
