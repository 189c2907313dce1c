"""How many of a stream's first events have a key, for few keys: a bit for each event, a count for each word of bits.

This is the rank structure of succinct data structures (Jacobson 1989). It answers in any order of questions, from one
look-up and the number of bits of one word, where a binary search takes a dozen steps that a processor cannot foresee.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
SHIFT = 5
BITS = 1 << SHIFT  # events of a word; its upper half counts those before
LOWER = (np.uint64(1) << np.arange(BITS, dtype=np.uint64)) - np.uint64(1)  # for each bit, all below it
MAX_KEYS = 255  # above, making the bits takes longer than searching; also, a key and "none" have to fit in 8 bits
MAX_BITS = 2**28  # of all keys together: 64 MiB


class KeyRanks:
    """Places of questions among events ordered by (key, time).

    Parameters
    ----------
    key
        Key of each event in order of time, -1 where it has none, shape `(n_events,)`.
    n_keys
        Keys are 0 to `n_keys - 1`.

    Notes
    -----
    O(n_keys * n_events / 4) bytes and O(n_keys * n_events) fast steps to make, O(1) a question.

    Examples
    --------
    >>> ranks = KeyRanks(np.array([1, 0, 1, -1]), n_keys=2)
    >>> ranks.place(np.array([1, 1, 0, 1]), np.array([0, 1, 2, 2])).tolist()
    [1, 2, 1, 2]
    """

    def __init__(self, key: npt.NDArray[np.signedinteger], n_keys: int) -> None:
        self._n_words = len(key) // BITS + 1
        bits = np.zeros((n_keys, self._n_words), dtype="<u4")
        by_key, n_bytes = bits.view(np.uint8), -(-len(key) // 8)
        narrow = key.astype(np.uint8)  # -1 becomes 255, which is no key
        for number in range(n_keys):
            by_key[number, :n_bytes] = np.packbits(narrow == number, bitorder="little")
        halves = np.zeros((bits.size, 2), dtype="<u4")
        halves[:, 0] = bits.reshape(-1)
        np.cumsum(np.bitwise_count(bits.reshape(-1)[:-1]), out=halves[1:, 1])  # those of lower keys come first
        self._words: Words = halves.view("<u8").reshape(-1)

    @staticmethod
    def fits(n_keys: int, n_events: int) -> bool:
        """Tell whether keys are few enough."""
        return n_keys <= MAX_KEYS and n_keys * n_events <= MAX_BITS

    def place(self, key: Ints, until: Ints) -> Ints:
        """Return how many ordered events lie below each question: those of lower keys, and its own that it sees.

        Parameters
        ----------
        key
            Key of each question, shape `(n_questions,)`.
        until
            Number of the stream's first events that each question sees, shape `(n_questions,)`.

        Returns
        -------
        int64 array of shape `(n_questions,)`
        """
        at = key * self._n_words
        at += until >> SHIFT
        word = self._words.take(at)
        seen = LOWER.take(until & (BITS - 1))
        seen &= word
        word >>= np.uint64(BITS)
        word += np.bitwise_count(seen)
        return word.view(np.int64)
