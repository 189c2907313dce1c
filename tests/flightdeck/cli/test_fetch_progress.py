import io

from rich.console import Console

from flightdeck.cli.fetch_progress import FetchProgress


def shown(*, is_terminal: bool) -> str:
    """Return what is shown last of a copy of 3 MB of which 2 come."""
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=is_terminal, color_system=None, width=120)
    with FetchProgress(console, "it") as progress:
        progress.begin(3_000_000)
        for _ in range(4):
            progress.advance(500_000)
    return screen.getvalue().rpartition("it ")[2]


def test_a_terminal_sees_bytes_and_rate() -> None:
    last = shown(is_terminal=True)
    assert "2.0/3.0 MB" in last
    assert "B/s" in last


def test_nobody_else_sees_anything() -> None:
    assert shown(is_terminal=False).strip() == ""
