"""Scores as a Parquet file, for programs that read tables with types: pandas, polars, DuckDB, Spark."""

import io
from pathlib import Path

import pandas as pd

from vdm_bench.errors import InputError
from vdm_bench.leaderboards.ranking import group_scores
from vdm_bench.leaderboards.store import COLUMNS
from vdm_bench.runtime.files import sweep_beside, write_bytes


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write the scores of `load_runs`, ranked as in tables, with the columns `rank` and `mark` in front.

    Tuples of texts become lists of texts; all other columns come back from `pandas.read_parquet` as they were.

    Args:
        frame: what `load_runs` gave.
        path: of the file; written atomically.

    Raises:
        InputError: pyarrow is not installed, or the file cannot be written.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            "Parquet needs pyarrow; install it by pip install 'vdm-bench[parquet]', or choose another --format"
        ) from error
    empty = frame.iloc[:0].assign(rank=pd.array([], "Int64"), mark=pd.array([], "string"))
    columns = ["rank", "mark", *(column.name for column in COLUMNS)]
    rows = pd.concat([empty, *(group.rows for group in group_scores(frame))], ignore_index=True)[columns]
    schema = pa.Schema.from_pandas(rows, preserve_index=False)
    for column in COLUMNS:
        if column.dtype == "object":  # lists, even where all are empty
            place = schema.get_field_index(column.name)
            schema = schema.set(place, pa.field(column.name, pa.list_(pa.string())))
    target = io.BytesIO()
    parquet.write_table(pa.Table.from_pandas(rows, schema=schema, preserve_index=False), target)
    sweep_beside(path, shared=True)
    write_bytes(path, target.getvalue())
