"""A program: its text, its description, and where its arguments come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llm_envs.tasks.python_functions.argument_kinds import KINDS


@dataclass(frozen=True, slots=True)
class Program:
    """A function to be written.

    Attributes:
        name: Of the function.
        parameters: Name and kind of value (a key of `KINDS`) of each parameter.
        returns: Kind of its value.
        description: What it does, in English.
        source: The text of the right function, in the small language.
    """

    name: str
    parameters: tuple[tuple[str, str], ...]
    returns: str
    description: str
    source: str

    @property
    def signature(self) -> str:
        """Such as `def solve(numbers: list[int]) -> int:`."""
        parameters = ", ".join(f"{name}: {KINDS[kind].annotation}" for name, kind in self.parameters)
        return f"def {self.name}({parameters}) -> {KINDS[self.returns].annotation}:"


@dataclass(frozen=True, slots=True)
class Piece:
    """A step from one value to another, in words and in code.

    `{x}` in words and code is the value it works on; the other names in braces are drawn from `choices`.

    Attributes:
        takes: Kind of the value it works on.
        gives: Kind of its result.
        words: What it does, as an imperative.
        code: The result as an expression; lines before the last one are statements.
        choices: For each name in braces, the values to draw from.
    """

    takes: str
    gives: str
    words: str
    code: str
    choices: tuple[tuple[str, tuple[int | str, ...]], ...] = ()

    def fill(self, rng: np.random.Generator, x: str) -> tuple[str, list[str], str]:
        """Draw the parameters.

        Args:
            rng: Source of randomness.
            x: Name of the variable that the step works on.

        Returns:
            The words, the statements, and the expression.
        """
        drawn = {name: values[int(rng.integers(len(values)))] for name, values in self.choices}
        *statements, expression = self.code.strip("\n").split("\n")
        words = self.words
        for name, value in (drawn | {"x": x}).items():
            words = words.replace(f"{{{name}}}", str(value))
            statements = [statement.replace(f"{{{name}}}", str(value)) for statement in statements]
            expression = expression.replace(f"{{{name}}}", str(value))
        return words, statements, expression


def piece(takes: str, gives: str, words: str, code: str, **choices: tuple[int | str, ...] | range) -> Piece:
    """A `Piece` with its choices as keyword arguments."""
    return Piece(takes, gives, words, code, tuple((name, tuple(values)) for name, values in choices.items()))
