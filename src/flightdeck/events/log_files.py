"""The files of a stream's table as one Arrow data set; see `log.py`.

Delta keeps the least and the greatest time of each file as a text, by which a reader leaves out files. A time beyond
the years 0 to 9999 makes a text that comes back as null, and nothing compares with null: such a file would be left out
whatever is asked, with all its good events. It is therefore read without its bounds.
"""

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.dataset import FileSystemDataset

_BOUNDS = ("min.created_timestamp", "max.created_timestamp")


def with_known_bounds(files: FileSystemDataset, told: pa.Table) -> FileSystemDataset:
    """Return files with their bounds, where all of those are known.

    Parameters
    ----------
    files
        As Delta gives them.
    told
        What it says of each file (`get_add_actions`): its `path`, and the least and the greatest of its columns.
    """
    unbounded: set[str] = set()
    for name in _BOUNDS:
        if name in told.column_names:
            unbounded.update(told["path"].filter(pc.is_null(told[name])).to_pylist())
    if not unbounded:
        return files
    fragments = [
        files.format.make_fragment(one.path, filesystem=files.filesystem) if one.path in unbounded else one
        for one in files.get_fragments()
    ]
    return FileSystemDataset(fragments, files.schema, files.format, files.filesystem)
