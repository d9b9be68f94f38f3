"""Write Arrow record batches to Parquet, Arrow and CSV files. Needs the extra `data`."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow import csv, parquet

from producer.export import open_target, parse_format

#: Parquet's row groups have at least this size in memory, so that filters can skip them and none fills it.
_ROW_GROUP = 16_000_000

Write = Callable[[pa.RecordBatch], None]


def write_table(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    target: Path,
    on_rows: Callable[[int], None] = lambda _: None,
) -> int:
    """Write the rows in the format of the target's suffix; returns how many.

    The file appears complete or not at all. Raises UsageError when it cannot be written.
    """
    form, written = parse_format(target), 0
    with open_target(target, form.compression) as file, _WRITERS[form.name](file, schema) as write:
        for batch in batches:
            write(batch)
            written += batch.num_rows
            on_rows(batch.num_rows)
    return written


@contextmanager
def _parquet(file: IO[Any], schema: pa.Schema) -> Iterator[Write]:
    pending: list[pa.RecordBatch] = []
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:

        def write(batch: pa.RecordBatch) -> None:
            pending.append(batch)
            if sum(one.nbytes for one in pending) >= _ROW_GROUP:
                flush()

        def flush() -> None:
            table = pa.Table.from_batches(pending, schema)
            pending.clear()
            writer.write_table(table, row_group_size=max(1, table.num_rows))

        yield write
        if pending:
            flush()


@contextmanager
def _arrow(file: IO[Any], schema: pa.Schema) -> Iterator[Write]:
    with pa.ipc.new_file(file, schema) as writer:
        yield writer.write_batch


@contextmanager
def _csv(file: IO[Any], schema: pa.Schema) -> Iterator[Write]:
    """Lists and structs as JSON text; null as nothing, empty text as ""."""
    flat = pa.schema([(f.name, pa.string() if pa.types.is_nested(f.type) else f.type) for f in schema])
    with csv.CSVWriter(file, flat) as writer:

        def write(batch: pa.RecordBatch) -> None:
            columns = [
                _as_json(column) if pa.types.is_nested(column.type) else column for column in batch.columns
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=flat))

        yield write


def _as_json(column: pa.Array) -> pa.Array:
    texts = (
        None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        for value in column.to_pylist()
    )
    return pa.array(texts, pa.string())


_WRITERS = {".parquet": _parquet, ".arrow": _arrow, ".csv": _csv}
