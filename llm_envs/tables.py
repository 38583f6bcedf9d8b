"""Rows from JSONL and Parquet files, folders of them, `datasets.Dataset` objects and lists, each with its place."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llm_envs.problem import SPLITS, BadRow

Rows = Iterable[Mapping[str, Any]]
Table = str | Path | Rows
"""A file, or rows in memory: a `datasets.Dataset`, a list of mappings."""
Source = Table | Mapping[str, Table]
"""A table, a folder with one file for each split, or a table for each split (also a `datasets.DatasetDict`)."""
Located = tuple[str, Mapping[str, Any]]
"""A row and its place, for messages: the file and the line."""

_SUFFIXES = (".jsonl", ".jsonl.gz", ".json.gz", ".ndjson", ".parquet")


def read_tables(source: Source) -> dict[str | None, Iterator[Located]]:
    """The rows of a source by the split it assigns; None where it assigns none.

    Raises:
        FileNotFoundError: There is no such file or folder, or no table in the folder.
        BadRow: A row cannot be read; raised while iterating.
        ModuleNotFoundError: The file is Parquet, and pyarrow is missing; raised while iterating.
        TypeError: The source is none.
        ValueError: It names a split that there is not, or a kind of file that is not read.
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
    """The rows of one table with their places.

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
    if not path.name.endswith(_SUFFIXES):
        raise ValueError(f"{path.name} is none of the files that are read: {', '.join(_SUFFIXES)}")
    yield from _parquet(path) if path.suffix == ".parquet" else _jsonl(path)


def _rows_in_memory(rows: Any, where: str) -> Iterator[Located]:
    if isinstance(rows, bytes) or not isinstance(rows, Iterable):
        raise TypeError(f"expected a path, a datasets.Dataset or a list of mappings, got {type(rows).__name__}")
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise BadRow(f"{where}row {number}: expected a mapping, got {type(row).__name__}")
        yield f"{where}row {number}", row


def _jsonl(path: Path) -> Iterator[Located]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                where = f"{path}, line {number}"
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                    row = json.loads(text) if text.strip() else None
                except (ValueError, RecursionError) as error:
                    raise BadRow(f"{where}: not JSON in UTF-8 ({error})") from error
                if not isinstance(row, dict):
                    found = "an empty line" if row is None else type(row).__name__
                    raise BadRow(f"{where}: expected an object, got {found}")
                yield where, row
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error


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
    for split in SPLITS:
        files = sorted(file for file in path.iterdir() if file.name.endswith(_SUFFIXES) and _is_of(file.name, split))
        kinds = {file.name.partition(".")[2] for file in files}
        if len(kinds) > 1:
            raise ValueError(f"{path} has files of several kinds for the split {split!r}: {sorted(kinds)}; name one")
        if files:
            found[split] = files
    if not found:
        raise FileNotFoundError(f"{path} has no file named train or test and ending in {', '.join(_SUFFIXES)}")
    return found


def _is_of(name: str, split: str) -> bool:
    rest = name.removeprefix(split)
    return rest != name and rest[0] in ".-_"


def _chained(files: Iterable[Path]) -> Iterator[Located]:
    for file in files:
        yield from read_table(file)
