"""Public data sets by name, through the package `datasets`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from llm_envs.problem import SPLITS
from llm_envs.tables import Rows


@functools.lru_cache(maxsize=4)
def load_from_hub(name: str, config: str | None = None) -> Mapping[str, Rows]:
    """The training and test tables of a data set that `datasets` finds on its hub or in its cache.

    Where it has no test table, the one for validation is taken in its place.

    Raises:
        ModuleNotFoundError: The package `datasets` is missing.
        FileNotFoundError: It could not load the data set.
        ValueError: The data set has none of these tables.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"without a local copy, {name} is loaded by the package datasets, which is not installed: "
            "pip install datasets, or pass path= a local copy"
        ) from error
    try:
        loaded: Any = datasets.load_dataset(name, config)
    except Exception as error:
        raise FileNotFoundError(
            f"datasets could not load {name} ({type(error).__name__}: {str(error)[:200]}); pass path= a local copy"
        ) from error
    tables = {split: loaded[split] for split in SPLITS if split in loaded}
    if "test" not in tables and "validation" in loaded:
        tables["test"] = loaded["validation"]
    if not tables:
        raise ValueError(f"{name} has no table for training or test, but {sorted(loaded)}; load one, and pass that")
    return tables
