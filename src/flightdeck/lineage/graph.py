"""The lineage graph: an append-only SQLite table of edges between versioned things.

A node is a kind, a name and a version, so two deliveries of one file are two nodes. An edge says that its child came
from its parent in one run. Nothing is ever changed or deleted: triggers refuse it. Recording an edge again changes
nothing.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

_SCHEMA = """
create table if not exists nodes (
    id integer primary key, kind text not null, name text not null, version text not null,
    unique (kind, name, version)
);
create table if not exists edges (
    id integer primary key, parent integer not null references nodes, child integer not null references nodes,
    run_id text not null, relation text not null, recorded_at text not null,
    unique (child, parent, run_id, relation)
);
create index if not exists edges_by_parent on edges (parent);
create trigger if not exists nodes_keep before update on nodes begin select raise(abort, 'lineage is append-only'); end;
create trigger if not exists edges_keep before update on edges begin select raise(abort, 'lineage is append-only'); end;
create trigger if not exists nodes_stay before delete on nodes begin select raise(abort, 'lineage is append-only'); end;
create trigger if not exists edges_stay before delete on edges begin select raise(abort, 'lineage is append-only'); end;
"""
_WALK = """
with recursive reached(id) as (
    select id from nodes where kind = ? and name = ? and version = ?
    union
    select edges.{to} from edges join reached on edges.{start} = reached.id
)
select kind, name, version from nodes join reached using (id)
where not (kind = ? and name = ? and version = ?) order by nodes.id
"""
_ORIGINS = """
with recursive reached(place, id) as (
    select asked.key, nodes.id from json_each(?) as asked join nodes
    on kind = asked.value ->> 0 and name = asked.value ->> 1 and version = asked.value ->> 2
    union
    select place, edges.parent from edges join reached on edges.child = reached.id
)
select place, kind, name, version from reached join nodes using (id) where kind = ? order by place, nodes.id
"""
_WAIT_S = 5.0


@dataclass(frozen=True)
class Node:
    """One version of one thing.

    Parameters
    ----------
    kind
        source, stream, dataset, parameters, code, task, pipeline, run.
    name
        Name among its kind.
    version
        Digest or number that tells versions apart; the run's id for what only that run knows.
    """

    kind: str
    name: str
    version: str = ""


@dataclass(frozen=True)
class Edge:
    """A child that came from a parent.

    Parameters
    ----------
    parent, child
        The two ends.
    run_id
        Run that made the child.
    relation
        What the parent was to the child: `read`, `wrote`, `defined`, ...
    recorded_at
        When this became known; timezone-aware.
    """

    parent: Node
    child: Node
    run_id: str
    relation: str
    recorded_at: datetime


class LineageGraph:
    """All edges that were ever recorded at `path`; a missing file reads as an empty graph.

    Parameters
    ----------
    path
        SQLite file, made at the first `record`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def record(self, edges: Iterable[Edge]) -> None:
        """Append edges and their nodes in one transaction; those that are there stay as they are.

        Raises
        ------
        sqlite3.Error, OSError
            If the file cannot be written or is no database.
        """
        rows = list(edges)
        if not rows:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._connected() as connection, connection:
            connection.executescript(_SCHEMA)
            connection.execute("begin immediate")
            nodes = {node for edge in rows for node in (edge.parent, edge.child)}
            connection.executemany(
                "insert or ignore into nodes (kind, name, version) values (?, ?, ?)", sorted(map(astuple, nodes))
            )
            ids = {node: _id_of(connection, node) for node in nodes}
            connection.executemany(
                "insert or ignore into edges (parent, child, run_id, relation, recorded_at) values (?, ?, ?, ?, ?)",
                [(ids[e.parent], ids[e.child], e.run_id, e.relation, _text(e.recorded_at)) for e in rows],
            )

    def ancestors(self, node: Node) -> list[Node]:
        """Return everything that `node` came from, near and far, in order of first recording."""
        return self._nodes(_WALK.format(start="child", to="parent"), (*astuple(node), *astuple(node)))

    def origins(self, nodes: Sequence[Node], kind: str) -> dict[Node, list[Node]]:
        """Return what of a kind each of `nodes` came from, near and far, in one query however many are asked about."""
        found: dict[Node, list[Node]] = {node: [] for node in nodes}
        if not self.path.is_file() or not nodes:
            return found
        with self._connected() as connection:
            asked = json.dumps([astuple(node) for node in nodes])
            for place, *origin in connection.execute(_ORIGINS, (asked, kind)):
                found[nodes[place]].append(Node(*origin))
        return found

    def descendants(self, node: Node) -> list[Node]:
        """Return everything that came from `node`, near and far, in order of first recording."""
        return self._nodes(_WALK.format(start="parent", to="child"), (*astuple(node), *astuple(node)))

    def nodes(self, kind: str, name: str | None = None) -> list[Node]:
        """Return the nodes of a kind, or all versions of one thing, in order of first recording."""
        where = "where kind = ?" + ("" if name is None else " and name = ?")
        return self._nodes(
            f"select kind, name, version from nodes {where} order by id",  # noqa: S608 - no value is in the text
            (kind,) if name is None else (kind, name),
        )

    def edges(self, run_id: str | None = None) -> list[Edge]:
        """Return the edges of one run, or all, in order of recording."""
        if not self.path.is_file():
            return []
        query = """select p.kind, p.name, p.version, c.kind, c.name, c.version, run_id, relation, recorded_at
                   from edges join nodes p on p.id = parent join nodes c on c.id = child
                   where ?1 is null or run_id = ?1 order by edges.id"""
        with self._connected() as connection:
            rows = connection.execute(query, (run_id,)).fetchall()
        return [Edge(Node(*row[:3]), Node(*row[3:6]), row[6], row[7], datetime.fromisoformat(row[8])) for row in rows]

    def _nodes(self, query: str, values: tuple[str, ...]) -> list[Node]:
        if not self.path.is_file():
            return []
        with self._connected() as connection:
            return [Node(*row) for row in connection.execute(query, values)]

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)) as connection:
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            yield connection


def _id_of(connection: sqlite3.Connection, node: Node) -> int:
    query = "select id from nodes where kind = ? and name = ? and version = ?"
    return int(connection.execute(query, astuple(node)).fetchone()[0])


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")
