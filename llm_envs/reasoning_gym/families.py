"""reasoning-gym's families as tasks."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np

from llm_envs.problem import Problem
from llm_envs.reasoning_gym.reward import ReasoningGymReward
from llm_envs.registration import register_task

FAMILIES: tuple[str, ...] = (
    "ab", "acre", "advanced_geometry", "aiw", "arc_1d", "arc_agi", "base_conversion", "basic_arithmetic", "bf",
    "binary_alternation", "binary_matrix", "bitwise_arithmetic", "boxnet", "caesar_cipher",
    "calendar_arithmetic", "chain_sum", "circuit_logic", "codeio", "coin_flip", "color_cube_rotation",
    "complex_arithmetic", "count_bits", "count_primes", "countdown", "course_schedule", "cryptarithm",
    "decimal_arithmetic", "decimal_chain_sum", "dice", "emoji_mystery", "family_relationships", "figlet_font",
    "fraction_simplification", "futoshiki", "game_of_life", "game_of_life_halting", "gcd", "graph_color",
    "group_anagrams", "gsm_symbolic", "intermediate_integration", "isomorphic_strings", "jugs", "kakurasu",
    "knight_swap", "knights_knaves", "largest_island", "lcm", "leg_counting", "letter_counting",
    "letter_jumble", "list_functions", "mahjong_puzzle", "manipulate_matrix", "maze", "mini_sudoku",
    "modulo_grid", "n_queens", "needle_haystack", "number_filtering", "number_format", "number_sequence",
    "number_sorting", "palindrome_generation", "palindrome_partitioning", "path_star", "polynomial_equations",
    "polynomial_multiplication", "pool_matrix", "power_function", "prime_factorization", "products",
    "propositional_logic", "puzzle24", "quantum_lock", "ransom_note", "rearc", "rectangle_count",
    "rotate_matrix", "rotten_oranges", "rubiks_cube", "rush_hour", "self_reference", "sentence_reordering",
    "shortest_path", "simple_equations", "simple_geometry", "simple_integration", "sokoban", "spell_backward",
    "spiral_matrix", "string_insertion", "string_manipulation", "string_splitting", "string_synthesis",
    "sudoku", "survo", "syllogism", "time_intervals", "tower_of_hanoi", "tsumego", "word_ladder",
    "word_sequence_reversal", "word_sorting", "zebra_puzzles",
)  # fmt: skip
"""The families of reasoning-gym 0.1.25, but for `composite`, which mixes others."""
_REWARD = ReasoningGymReward()


def register_families() -> None:
    """Register each family under `reasoning_gym/NAME-v0`, where the package is installed; it is not imported."""
    if importlib.util.find_spec("reasoning_gym") is None:
        return
    for family in FAMILIES:
        register_task(f"reasoning_gym/{family}-v0", reward=_REWARD)(_Sampler(family))


class _Sampler:
    """Draws entries of one family."""

    def __init__(self, family: str) -> None:
        self.family = family
        self.__doc__ = f"The family {family} of reasoning-gym; config: a mapping with options of its configuration."

    def __call__(self, rng: np.random.Generator, config: Mapping[str, Any] | None = None) -> Problem:
        """Draw an entry.

        Raises:
            ModuleNotFoundError: reasoning-gym is not installed.
            ValueError: The family refuses the configuration.
        """
        try:
            from llm_envs.reasoning_gym.upstream_score import draw
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"reasoning_gym/{self.family}-v0 needs the package reasoning-gym: pip install 'llm-envs[reasoning-gym]'"
            ) from error
        options = tuple(sorted((config or {}).items()))
        entry = draw(self.family, options, rng)
        answer = entry["answer"]
        return Problem(
            prompt=f"{entry['question'].strip()}\n\n{_REWARD.instruction}",
            reference={"family": self.family, "config": options, "entry": entry},
            solution=None if answer is None else f"<answer>{answer}</answer>",
            metadata={"family": self.family},
            key=entry["question"],
        )
