"""The package's own score of one answer, as a worker process gives it; importing this loads reasoning_gym."""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import reasoning_gym
from reasoning_gym.dataset import ProceduralDataset

# these draw all their entries when they are made, or refuse an index beyond their size
_OF_ONE_ENTRY = frozenset(["acre", "gsm_symbolic", "list_functions", "word_ladder"])
# these run programs of the package that leave files in the current folder
_WRITING_FILES = frozenset(["codeio"])
_SIZE = 2**31


def score(family: str, config: tuple[tuple[str, Any], ...], entry: Mapping[str, Any], text: str) -> float:
    """What the family's `score_answer` says of a text."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return float(_dataset(family, config, 0, _SIZE).score_answer(text, dict(entry)))


def draw(family: str, config: tuple[tuple[str, Any], ...], rng: np.random.Generator) -> dict[str, Any]:
    """An entry of a family: a function of the generator alone, even where the family draws global random numbers.

    Raises:
        ValueError: The family refuses the configuration.
        TypeError: It has no such option.
    """
    number = int(rng.integers(_SIZE))
    place = _elsewhere() if family in _WRITING_FILES else contextlib.nullcontext()
    with _global_random_numbers(number), contextlib.redirect_stdout(io.StringIO()), place:
        try:
            if family in _OF_ONE_ENTRY:
                return dict(reasoning_gym.create_dataset(family, seed=number, size=1, **dict(config))[0])
            return dict(_dataset(family, config, 0, _SIZE)[number])
        except AssertionError as error:  # how the package's configurations refuse a value
            raise ValueError(f"reasoning_gym/{family}-v0 refuses {dict(config)}: {error}") from error


@lru_cache(maxsize=128)
def _dataset(family: str, config: tuple[tuple[str, Any], ...], seed: int, size: int) -> ProceduralDataset:
    size = 1 if family in _OF_ONE_ENTRY else size
    return reasoning_gym.create_dataset(family, seed=seed, size=size, **dict(config))


@contextlib.contextmanager
def _global_random_numbers(seed: int) -> Iterator[None]:
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 (some families use them)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield
