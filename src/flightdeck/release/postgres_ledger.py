"""The ledger in PostgreSQL, for more than one machine: the table `flightdeck.records` of the database in the address.

Appends are serialised by an advisory lock and durable whatever the role's defaults say; triggers refuse UPDATE, DELETE
and TRUNCATE. Every call is a connection of its own, bounded in time: nothing here may run in an event loop.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flightdeck.core.clock import Clock
from flightdeck.core.errors import ConfigError, FlightdeckError, LedgerCorrupt, LedgerUnusable
from flightdeck.release.checkpoints import CheckpointLog
from flightdeck.release.ledger import Ledger, LedgerMoved
from flightdeck.release.record import RESTORE, Row
from flightdeck.release.session import ROWS, Session

try:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
except ImportError as error:
    raise ConfigError(
        f"opening a ledger in PostgreSQL: its driver is not installed ({error})", next_step="make setup-scale"
    ) from error

WAIT_S = 10
LOCK_KEY = 0x666C6967  # any number that all writers agree on
N_FETCHED = 5_000
_BODY = "BEGIN RAISE EXCEPTION 'the ledger is append-only'; END"
_SCHEMA = f"""
CREATE SCHEMA IF NOT EXISTS flightdeck;
CREATE TABLE records (
    seq BIGINT PRIMARY KEY, recorded_at TEXT NOT NULL, action TEXT NOT NULL, actor TEXT NOT NULL,
    subject TEXT NOT NULL, detail TEXT NOT NULL, previous_digest TEXT NOT NULL, digest TEXT NOT NULL UNIQUE
);
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $guard${_BODY}$guard$;
CREATE TRIGGER records_no_change BEFORE UPDATE OR DELETE ON records FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER records_no_truncate BEFORE TRUNCATE ON records FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE records ENABLE ALWAYS TRIGGER records_no_change;
ALTER TABLE records ENABLE ALWAYS TRIGGER records_no_truncate;
"""
_GUARDS = {"records_no_change": "BEFORE DELETE OR UPDATE ON", "records_no_truncate": "BEFORE TRUNCATE ON"}
_TRIGGERS = """
SELECT t.tgname, pg_get_triggerdef(t.oid), t.tgenabled::text, p.prosrc
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgrelid = to_regclass('flightdeck.records') AND NOT t.tgisinternal
"""
_THERE = "SELECT to_regclass('flightdeck.records') IS NOT NULL"
_HERE = f"SET LOCAL search_path = flightdeck; SET LOCAL lock_timeout = '{WAIT_S}s'"
_READING = f"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; {_HERE}"
_WRITING = f"{_HERE}; SET LOCAL synchronous_commit = on"


class PostgresLedger(Ledger):
    """Records in a PostgreSQL database.

    Parameters
    ----------
    url
        Address as libpq reads it; what it leaves out comes from `PGUSER`, `PGPASSWORD`, `PGPASSFILE` and the like.
    clock, checkpoints
        As of every ledger.
    """

    def __init__(self, url: str, clock: Clock, checkpoints: CheckpointLog | None = None) -> None:
        super().__init__(_without_password(url), clock, checkpoints)
        self._url = url
        self._was_there = False

    def exists(self) -> bool:
        """Tell whether anything was ever appended here; once it was, a table that vanishes is an error, not an end."""
        if not self._was_there:
            with self._connect("looking for") as connection:
                self._was_there = bool(_execute(connection, _THERE).fetchone()[0])
        return self._was_there

    def _create(self) -> None:
        with self._connect("making") as connection:
            _execute(connection, _WRITING)
            _execute(connection, "SELECT pg_advisory_xact_lock(?)", LOCK_KEY)
            if not _execute(connection, _THERE).fetchone()[0]:
                _execute(connection, _SCHEMA)

    @contextmanager
    def _reading(self, doing: str) -> Iterator[Session]:
        with self._connect(doing) as connection:
            _execute(connection, _READING)
            yield _PostgresSession(connection)

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with self._connect("writing") as connection:
            _execute(connection, _WRITING)
            _execute(connection, "SELECT pg_advisory_xact_lock(?)", LOCK_KEY)
            yield _PostgresSession(connection)

    @contextmanager
    def _connect(self, doing: str) -> Iterator["psycopg.Connection[Row]"]:
        """Give a transaction, committed at the end; what goes wrong becomes an error of ours."""
        is_committing = False
        try:
            with psycopg.connect(
                self._url,
                connect_timeout=WAIT_S // 2,
                tcp_user_timeout=WAIT_S * 1000,
                application_name="flightdeck",
            ) as connection:
                yield connection
                is_committing = doing == "writing"
        except psycopg.Error as error:
            raise self._unusable(doing, error, is_committing=is_committing) from error

    def _unusable(self, doing: str, error: "psycopg.Error", *, is_committing: bool) -> FlightdeckError:
        text = " ".join(str(error).split())
        if isinstance(error, psycopg.errors.UndefinedTable):
            return LedgerCorrupt(f"{doing} the ledger {self.place}: its records are gone ({text})", next_step=RESTORE)
        if isinstance(error, psycopg.errors.UniqueViolation):
            return LedgerMoved(f"{doing} the ledger {self.place}: somebody appended without its lock ({text})")
        if is_committing and isinstance(error, psycopg.OperationalError):
            return LedgerUnusable(
                f"{doing} the ledger {self.place}: {text}; whether the record is on the disk is not known",
                next_step="look once the database answers: kedro release list; then decide again",
            )
        return LedgerUnusable(
            f"{doing} the ledger {self.place}: {text}; nothing was recorded",
            next_step="start or unlock the database, or correct FLIGHTDECK_LEDGER, then repeat the command",
        )


class _PostgresSession(Session):
    def __init__(self, connection: "psycopg.Connection[Row]") -> None:
        self._connection = connection

    def execute(self, statement: str, *values: object) -> Any:
        return _execute(self._connection, statement, *values)

    def rows(self, from_seq: int) -> Iterator[Row]:
        with self._connection.cursor(name="ledger") as cursor:
            cursor.itersize = N_FETCHED
            cursor.execute(_marked(ROWS), (from_seq,))
            yield from cursor

    def problems(self) -> list[str]:
        found = {name: (" ".join(text.split()), state, body) for name, text, state, body in self.execute(_TRIGGERS)}
        altered = [name for name, event in _GUARDS.items() if name not in found or not _guards(event, *found[name])]
        problems = [f"the guards {altered} are gone or altered"] if altered else []
        foreign = sorted(found.keys() - _GUARDS.keys())
        return [*problems, f"there are triggers of somebody else: {foreign}"] if foreign else problems


def _guards(event: str, definition: str, state: str, body: str) -> bool:
    """Tell whether a trigger refuses an event always, in every session."""
    return f" {event} " in definition and " WHEN " not in definition and state == "A" and body == _BODY


def _execute(connection: "psycopg.Connection[Row]", statement: str, *values: object) -> Any:
    return connection.execute(_marked(statement), values or None)


def _marked(statement: str) -> str:
    """Return a statement with the driver's marks."""
    return statement.replace("?", "%s")


def _without_password(url: str) -> str:
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error as error:
        raise ConfigError(
            "reading the address of the ledger: it is not one that PostgreSQL's driver understands",
            next_step="write postgresql://user@host:port/database into FLIGHTDECK_LEDGER or ledger.yml",
        ) from error
    user = f"{parts['user']}@" if parts.get("user") else ""
    port = f":{parts['port']}" if parts.get("port") else ""
    return f"postgresql://{user}{parts.get('host', '')}{port}/{parts.get('dbname', '')}"
