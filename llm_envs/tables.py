"""Rows from files (JSON, JSON lines, CSV, Parquet), folders of them, data frames and other rows in memory."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from llm_envs.problem import SPLITS, BadRow

Rows = Iterable[Mapping[str, Any]]
Table = str | Path | Rows | Any
"""A file, or rows in memory: a list of mappings, a `datasets.Dataset`, a data frame of pandas or polars."""
Source = Table | Mapping[str, Table]
"""A table, a folder with one file for each split, or a table for each split (also a `datasets.DatasetDict`)."""
Located = tuple[str, Mapping[str, Any] | BadRow]
"""The place of a row, for messages (the file and the line), and the row, or what is wrong with it."""

_FIRST_KINDS = (".jsonl", ".jsonl.gz", ".json.gz", ".ndjson", ".parquet")
_FURTHER_KINDS = (".json", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".ndjson.gz")
"""Read in a folder only where it has none of the first: there they may be notes about the others."""
KINDS = (*_FIRST_KINDS, *_FURTHER_KINDS)
_NOT_UTF8 = re.compile("[\udc80-\udcff]")


def read_tables(source: Source) -> dict[str | None, Iterator[Located]]:
    """The rows of a source by the split it assigns; None where it assigns none.

    Raises:
        FileNotFoundError: There is no such file or folder, or no table in the folder.
        ModuleNotFoundError: The file is Parquet, and pyarrow is missing; raised while iterating.
        TypeError: The source is none.
        ValueError: It names a split that there is not, or a kind of file that is not read, or the file is not what its
            name says.
    """
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        if path.is_dir():
            return {split: _chained(files) for split, files in _files_of_folder(path).items()}
        return {None: read_table(path)}
    if isinstance(source, Mapping):
        unknown = sorted(set(source) - set(SPLITS))
        if unknown or not source:
            raise ValueError(f"a table for each split is given under {SPLITS}, got {sorted(source)}")
        return {split: read_table(table, f"{split}, ") for split, table in source.items()}
    return {None: read_table(source)}


def files_of(source: Source) -> tuple[Path, ...]:
    """The files that a source is read from; rows in memory have none."""
    if isinstance(source, str | Path):
        path = Path(source).expanduser()
        return tuple(file for files in _files_of_folder(path).values() for file in files) if path.is_dir() else (path,)
    tables = source.values() if isinstance(source, Mapping) else ()
    return tuple(Path(table).expanduser() for table in tables if isinstance(table, str | Path))


def read_table(table: Table, where: str = "") -> Iterator[Located]:
    """The rows of one table with their places. A line that cannot be read is a `BadRow`, and the others go on.

    Args:
        table: A file, or rows in memory.
        where: What to put before the place of a row in memory.
    """
    if not isinstance(table, str | Path):
        yield from _rows_in_memory(table, where)
        return
    path = Path(table).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.name.lower().endswith(KINDS):
        raise ValueError(f"{path.name} is none of the files that are read: {', '.join(KINDS)}")
    try:
        with _open(path) as file:
            if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise ValueError(f"{path} is in UTF-16: save it as UTF-8")
        yield from _reader(path)(path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error


def _uncompressed_name(path: Path) -> str:
    return path.name.lower().removesuffix(".gz")


def _reader(path: Path) -> Callable[[Path], Iterator[Located]]:
    name = _uncompressed_name(path)
    if name.endswith(".parquet"):
        return _parquet
    if name.endswith((".csv", ".tsv")):
        return _csv
    return _json if name.endswith(".json") else _json_lines


def _rows_in_memory(table: Any, where: str) -> Iterator[Located]:
    rows = _rows_of_frame(table)
    if isinstance(rows, bytes) or not isinstance(rows, Iterable):
        raise TypeError(
            f"expected a path, a list of mappings, a datasets.Dataset or a data frame, got {type(table).__name__}"
        )
    for number, row in enumerate(rows):
        place = f"{where}row {number}"
        if isinstance(row, Mapping):
            yield place, row
        else:
            yield place, BadRow(f"{place}: expected a mapping, got {type(row).__name__}")


def _rows_of_frame(table: Any) -> Any:
    """The rows of a data frame of pandas, polars or pyarrow, missing values as None; anything else as it is given."""
    if hasattr(table, "to_pylist"):  # pyarrow.Table
        return table.to_pylist()
    if hasattr(table, "to_dicts"):  # polars.DataFrame
        return table.to_dicts()
    if hasattr(table, "to_dict") and hasattr(table, "notna") and hasattr(table, "columns"):  # pandas.DataFrame
        whole = table.convert_dtypes()  # whole numbers beside missing ones are floats in a frame
        return whole.astype(object).where(table.notna(), None).to_dict("records")
    return table


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _json_lines(path: Path) -> Iterator[Located]:
    """The objects of a file, one a line; blank lines at its end are no rows."""
    blank: list[Located] = []
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            if not line.strip():
                blank.append((where, BadRow(f"{where}: expected an object, got an empty line")))
                continue
            yield from blank
            blank.clear()
            yield where, _json_object(where, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)


def _json_object(where: str, text: bytes) -> Mapping[str, Any] | BadRow:
    try:
        row = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return BadRow(f"{where}: not JSON in UTF-8 ({error})")
    return row if isinstance(row, dict) else BadRow(f"{where}: expected an object, got {type(row).__name__}")


def _json(path: Path) -> Iterator[Located]:
    """The objects of a list, also of one that is all that an object has; else the file is read as one object a line.

    Raises:
        ValueError: The file holds one thing, and that is no list.
    """
    with _open(path) as file:
        content = file.read()
    try:
        rows = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):  # several things, or a broken one: read by lines, each is judged by itself
        yield from _json_lines(path)
        return
    if isinstance(rows, dict) and len(rows) == 1:
        [rows] = rows.values()
    if not isinstance(rows, list):
        raise ValueError(
            f"{path} must hold a list of objects, or one object a line; it holds one {type(rows).__name__}"
        )
    for number, row in enumerate(rows):
        where = f"{path}, row {number}"
        yield (
            where,
            row if isinstance(row, dict) else BadRow(f"{where}: expected an object, got {type(row).__name__}"),
        )


def _csv(path: Path) -> Iterator[Located]:
    """The rows of a file whose first line names the columns. Every value is a text.

    Cells are separated by commas, in `.tsv` by tabs; by semicolons where the first line has those and no comma, as
    spreadsheets write in countries whose decimal mark is the comma.

    Raises:
        ValueError: The first line names a column twice.
    """
    # bytes that are not UTF-8 become lone surrogates, so that they spoil their own row alone
    with _open(path) as file, io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="") as text:
        first_line = text.readline()
        text.seek(0)
        reader = csv.reader(text, delimiter=_delimiter(path, first_line), strict=True)
        columns: list[str] | None = None
        while True:
            where = f"{path}, line {reader.line_num + 1}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield where, BadRow(f"{where}: not CSV ({error})")
                continue
            if columns is None:
                if len(set(cells)) < len(cells):
                    raise ValueError(f"{where}: a column is named twice: {cells}")
                columns = cells
            elif cells:  # else the line is blank
                yield where, _csv_row(where, columns, cells)


def _delimiter(path: Path, first_line: str) -> str:
    if _uncompressed_name(path).endswith(".tsv"):
        return "\t"
    return ";" if ";" in first_line and "," not in first_line else ","


def _csv_row(where: str, columns: list[str], cells: list[str]) -> Mapping[str, Any] | BadRow:
    if len(cells) != len(columns):
        return BadRow(f"{where}: has {len(cells)} cells for {len(columns)} columns")
    if any(map(_NOT_UTF8.search, cells)):
        return BadRow(f"{where}: not UTF-8")
    return dict(zip(columns, cells, strict=True))


def _parquet(path: Path) -> Iterator[Located]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"reading {path.name} needs the package pyarrow: pip install 'llm-envs[parquet]'"
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    yield f"{path}, row {number}", row
                    number += 1
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is not a Parquet file that can be read: {error}") from error


def _files_of_folder(path: Path) -> dict[str, list[Path]]:
    """The files of each split: `train.jsonl`, or `test-00000-of-00002.parquet` and its fellows."""
    found: dict[str, list[Path]] = {}
    for suffixes in (_FIRST_KINDS, _FURTHER_KINDS):
        for split in SPLITS:
            files = sorted(
                file for file in path.iterdir() if file.name.lower().endswith(suffixes) and _is_of(file.name, split)
            )
            kinds = {file.name.partition(".")[2] for file in files}
            if len(kinds) > 1:
                raise ValueError(
                    f"{path} has files of several kinds for the split {split!r}: {sorted(kinds)}; name one"
                )
            if files:
                found[split] = files
        if found:
            return found
    raise FileNotFoundError(f"{path} has no file named train or test and ending in {', '.join(KINDS)}")


def _is_of(name: str, split: str) -> bool:
    rest = name.removeprefix(split)
    return rest != name and rest[0] in ".-_"


def _chained(files: Iterable[Path]) -> Iterator[Located]:
    for file in files:
        yield from read_table(file)
