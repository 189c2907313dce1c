"""A typed event stream: its name, its payload columns and the columns that every stream carries."""

from dataclasses import dataclass

import pyarrow as pa

from flightdeck.core.errors import ContractViolation, some

INSTANT = pa.timestamp("us", tz="UTC")
COMMON = {
    "event_id": pa.string(),
    "event_timestamp": INSTANT,
    "created_timestamp": INSTANT,
    "source": pa.string(),
    "source_offset": pa.int64(),
}


@dataclass(frozen=True)
class Stream:
    """One kind of event.

    Parameters
    ----------
    name
        Field term, singular past participle where possible: `departed`.
    payload
        Arrow type of each column beside the common ones.
    slo_s
        Longest silence in seconds before the stream counts as late.
    """

    name: str
    payload: dict[str, pa.DataType]
    slo_s: int

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the stream: common columns, then the payload."""
        return pa.schema([*COMMON.items(), *self.payload.items()])

    def cast(self, table: pa.Table) -> pa.Table:
        """Return `table` with exactly the columns and types of the stream.

        Raises
        ------
        ContractViolation
            If a column is missing, unseen or cannot be cast, or a common column holds nulls.
        """
        missing = [name for name in self.schema.names if name not in table.column_names]
        unseen = [name for name in table.column_names if name not in self.schema.names]
        if missing or unseen:
            raise ContractViolation(
                f"stream {self.name!r}: missing columns: {some(missing) or 'none'}; unseen: {some(unseen) or 'none'}",
                next_step="give the events the columns of the stream's declaration",
            )
        try:
            cast = table.select(self.schema.names).cast(self.schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ContractViolation(f"stream {self.name!r}: {error}", next_step="correct the column's type") from error
        nulls = [name for name in COMMON if cast.column(name).null_count]
        if nulls:
            raise ContractViolation(f"stream {self.name!r}: {some(nulls)} must not be null", next_step="fill them")
        return cast
