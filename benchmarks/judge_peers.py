"""Two judges that others use, on the windows of one canary.

A fixed threshold (a success rate of 99.5 % in each window, three failed windows allowed, as in the examples of
progressive delivery tools), and a Mann-Whitney judge on latency in the manner of Kayenta: per window, the canary is
slower if the 98 % confidence interval of the shift lies above a quarter of the estimated shift.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LIMIT, N_ALLOWED = 0.995, 3
Z_98, TOLERANCE = 2.3263, 0.25


def fixed_threshold_fails(is_error: npt.NDArray[np.bool_]) -> int | None:
    """Return the window that ends the canary, counted from 0; None if none does. Shape `(n_windows, n_requests)`."""
    failed = 1 - is_error.mean(axis=1) < LIMIT
    reached = np.flatnonzero(np.cumsum(failed) > N_ALLOWED)
    return int(reached[0]) if len(reached) else None


def mann_whitney_fails(canary_s: Floats, champion_s: Floats) -> int | None:
    """Return the first window in which the canary is called slower, or None; shapes `(n_windows, n_requests)`."""
    n = canary_s.shape[1]
    low = int(n * n / 2 - Z_98 * np.sqrt(n * n * (2 * n + 1) / 12))
    middle = n * n // 2
    for window, (canary, champion) in enumerate(zip(canary_s, champion_s, strict=True)):
        shifts = np.partition((canary[:, None] - champion[None, :]).ravel(), (low, middle))
        if shifts[low] > TOLERANCE * abs(shifts[middle]):
            return window
    return None
