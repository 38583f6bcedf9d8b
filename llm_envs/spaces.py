"""A Gymnasium space that really contains prompts and completions."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
from gymnasium import Space
from gymnasium.vector.utils import create_shared_memory, read_from_shared_memory, write_to_shared_memory

from llm_envs.problem import MAX_PROMPT_CHARS

MAX_COMPLETION_CHARS = 1_048_576
_SAMPLE_CHARS = 64
_PRINTABLE_ASCII = range(0x20, 0x7F)
_SURROGATES = range(0xD800, 0xE000)


class Unicode(Space[str]):
    """All strings of at most `max_length` code points, the empty one included.

    `gymnasium.spaces.Text` is a finite alphabet without, by default, spaces and the empty string; a tokenizer can emit
    any character. `sample` returns short strings (up to 64 code points), mostly printable ASCII, partly from all of
    Unicode.

    Args:
        max_length: The longest string that belongs to the space, in code points.
        seed: Seed of `sample`.

    Raises:
        ValueError: `max_length` is negative.
    """

    def __init__(self, max_length: int = MAX_PROMPT_CHARS, *, seed: int | np.random.Generator | None = None) -> None:
        if max_length < 0:
            raise ValueError(f"max_length must not be negative, got {max_length}")
        self.max_length = int(max_length)
        super().__init__(shape=None, dtype=str, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: text of varying length has no fixed-size array."""
        return False

    def contains(self, x: Any) -> bool:
        """Whether `x` is a string that is not too long."""
        return isinstance(x, str) and len(x) <= self.max_length

    def sample(self, mask: None = None, probability: None = None) -> str:
        """Draw a string.

        Raises:
            ValueError: `mask` or `probability` is given; this space has neither.
        """
        if mask is not None or probability is not None:
            raise ValueError("Unicode cannot be sampled with a mask or with probabilities")
        length = int(self.np_random.integers(0, min(self.max_length, _SAMPLE_CHARS) + 1))
        return "".join(self._sample_character() for _ in range(length))

    def _sample_character(self) -> str:
        if self.np_random.random() < 0.8:
            return chr(int(self.np_random.integers(_PRINTABLE_ASCII.start, _PRINTABLE_ASCII.stop)))
        code_point = int(self.np_random.integers(0, 0x110000 - len(_SURROGATES)))
        return chr(code_point if code_point < _SURROGATES.start else code_point + len(_SURROGATES))

    def to_jsonable(self, sample_n: Iterable[str]) -> list[Any]:
        """The strings unchanged: JSON can hold them."""
        return list(sample_n)

    def from_jsonable(self, sample_n: list[Any]) -> list[str]:
        """The inverse of `to_jsonable`."""
        return [str(sample) for sample in sample_n]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unicode) and self.max_length == other.max_length

    def __hash__(self) -> int:
        return hash((Unicode, self.max_length))

    def __repr__(self) -> str:
        return f"Unicode(max_length={self.max_length})"


# `gymnasium.make_vec(..., vectorization_mode="async")` passes observations through shared memory. A row is the length
# of the text followed by its code points, so that every string arrives intact, also one with a NUL or a lone surrogate.


@create_shared_memory.register(Unicode)
def _create_unicode_shared_memory(space: Unicode, n: int = 1, ctx: Any = None) -> Any:
    return ctx.Array(ctypes.c_int32, n * (1 + space.max_length))


def _rows(space: Unicode, shared_memory: Any) -> np.ndarray:
    return np.frombuffer(shared_memory.get_obj(), dtype=np.int32).reshape(-1, 1 + space.max_length)


@write_to_shared_memory.register(Unicode)
def _write_unicode_to_shared_memory(space: Unicode, index: int, value: str, shared_memory: Any) -> None:
    if not space.contains(value):
        raise ValueError(f"an observation of {len(value)} characters does not fit into {space}")
    code_points = np.frombuffer(value.encode("utf-32-le", "surrogatepass"), dtype=np.int32)
    row = _rows(space, shared_memory)[index]
    row[0] = len(code_points)
    row[1 : 1 + len(code_points)] = code_points


class _SharedTexts(Sequence[str]):
    """The texts that are in shared memory now; a (deep) copy is a plain tuple of them.

    `AsyncVectorEnv` calls `read_from_shared_memory` once and returns a deep copy of the result at every step: what it
    holds has to follow the memory, as an array would.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self)[index]
        row = self._rows[index]
        return row[1 : 1 + row[0]].tobytes().decode("utf-32-le", "surrogatepass")

    def __copy__(self) -> tuple[str, ...]:
        return tuple(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[str, ...]:
        return tuple(self)


@read_from_shared_memory.register(Unicode)
def _read_unicode_from_shared_memory(space: Unicode, shared_memory: Any, n: int = 1) -> _SharedTexts:
    return _SharedTexts(_rows(space, shared_memory)[:n])
