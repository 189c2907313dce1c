"""Events that break their contract: kept as they came, with the reason, until somebody mends or drops them.

One file of JSON lines a stream; a letter that comes again (a batch that was cut off by a crash) is kept once.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flightdeck.core.identifiers import digest_bytes


@dataclass(frozen=True)
class DeadLetter:
    """One event that was not accepted.

    Parameters
    ----------
    stream
        Name of the stream.
    offset
        Where it came from, as its source counts.
    event_id
        Its id, empty where it has none.
    reason
        Which rules it breaks.
    row
        The event as JSON text, or the text that could not be decoded.
    named
        The name under which it came, where `stream` is not that: nobody declared a stream of this name.
    """

    stream: str
    offset: str
    event_id: str
    reason: str
    row: str
    named: str = ""

    @property
    def key(self) -> str:
        """What makes two letters the same."""
        parts = [self.stream, self.offset, self.event_id, self.row] + [self.named] * bool(self.named)
        return digest_bytes("\x1f".join(parts).encode(errors="surrogatepass"))[:32]


class DeadLetters:
    """The dead letters of all streams below one folder.

    Parameters
    ----------
    folder
        Where the files lie; made at the first letter.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, letters: Sequence[DeadLetter]) -> int:
        """Write letters to the disk and return how many were new.

        Raises
        ------
        OSError
            If the disk refuses.
        """
        n_new = 0
        for stream in sorted({letter.stream for letter in letters}):
            with _Ledger(self.folder / f"{stream}.jsonl") as ledger:
                known = {line["key"] for line in ledger.lines()}
                fresh = {
                    letter.key: {"key": letter.key, **asdict(letter)}
                    for letter in letters
                    if letter.stream == stream and letter.key not in known
                }
                ledger.append(list(fresh.values()))
            n_new += len(fresh)
        return n_new

    def waiting(self, stream: str) -> list[DeadLetter]:
        """Return the letters that nobody has settled yet, in the order in which they came."""
        path = self.folder / f"{stream}.jsonl"
        letters: dict[str, DeadLetter] = {}
        for line in read_lines(path):
            if "settled" in line:
                letters.pop(line["key"], None)
            else:
                letters[line["key"]] = DeadLetter(
                    **{name: line[name] for name in DeadLetter.__dataclass_fields__ if name in line}
                )
        return list(letters.values())

    def streams(self) -> list[str]:
        """Return the streams that have or had letters."""
        return sorted(path.stem for path in self.folder.glob("*.jsonl"))

    def explain(self, letters: Iterable[DeadLetter]) -> None:
        """Give letters that wait another reason."""
        changed: dict[str, list[dict[str, Any]]] = {}
        for letter in letters:
            changed.setdefault(letter.stream, []).append({"key": letter.key, **asdict(letter)})
        for stream, lines in changed.items():
            with _Ledger(self.folder / f"{stream}.jsonl") as ledger:
                ledger.append(lines)

    @contextmanager
    def replaying(self, stream: str) -> Iterator[None]:
        """Let one process at a time send the letters of a stream in again; others wait."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{stream}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def settle(self, letters: Iterable[DeadLetter], how: str) -> None:
        """Note that letters need no more attention: `replayed`, or why they were dropped."""
        settled: dict[str, list[dict[str, Any]]] = {}
        for letter in letters:
            settled.setdefault(letter.stream, []).append({"key": letter.key, "settled": how})
        for stream, lines in settled.items():
            with _Ledger(self.folder / f"{stream}.jsonl") as ledger:
                ledger.append(lines)


class _Ledger:
    """One file of JSON lines, held by one process at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")

    def __enter__(self) -> "_Ledger":
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def lines(self) -> list[dict[str, Any]]:
        self._file.seek(0)
        return _lines(self._file.read())

    def append(self, lines: Sequence[dict[str, Any]]) -> None:
        if not lines:
            return
        self._file.seek(0, os.SEEK_END)
        if self._file.tell():
            self._file.seek(-1, os.SEEK_END)
            torn = self._file.read(1) != b"\n"  # a line that a crash cut off ends here
        else:
            torn = False
        text = "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in lines)
        self._file.write(b"\n" * torn + text.encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def append_once(path: Path, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Append JSON lines whose `key` the file does not hold yet, durably, and return those.

    Raises
    ------
    OSError
        If the disk refuses.
    """
    with _Ledger(path) as ledger:
        known = {line.get("key") for line in ledger.lines()}
        fresh = [line for line in {line["key"]: line for line in lines}.values() if line["key"] not in known]
        ledger.append(fresh)
    return fresh


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON lines of a file, none if it is not there."""
    return _lines(path.read_bytes() if path.exists() else b"")


def _lines(content: bytes) -> list[dict[str, Any]]:
    """Return the whole lines; one that a crash cut off is left out."""
    found = []
    for line in content.splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found
