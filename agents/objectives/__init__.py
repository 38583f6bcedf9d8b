"""What an update minimizes: frozen dataclasses that put pure tensor functions together, one preset per paper."""

from collections.abc import Callable
from functools import partial

from agents.objectives.clipped import (
    CISPO,
    DAPO,
    GRPO,
    GSPO,
    LUSPO,
    RLOO,
    SAPO,
    VESPO,
    DrGRPO,
    PolicyGradient,
    REINFORCEPlusPlus,
)
from agents.objectives.objective import Objective
from agents.objectives.weighted import WeightedLikelihood

PRESETS: dict[str, Callable[..., Objective]] = {
    "grpo": GRPO,
    "dr-grpo": DrGRPO,
    "dapo": DAPO,
    "rloo": RLOO,
    "reinforce++": REINFORCEPlusPlus,
    "gspo": GSPO,
    "cispo": CISPO,
    "sapo": SAPO,
    "luspo": LUSPO,
    "vespo": VESPO,
    "weighted-linear": partial(WeightedLikelihood, weights="linear"),
    "weighted-softmax": partial(WeightedLikelihood, weights="softmax"),
    "weighted-rank": partial(WeightedLikelihood, weights="rank"),
    "rejection": partial(WeightedLikelihood, weights="rejection"),
}
"""Objectives by the name they have on the command line; called with fields that replace their defaults."""


def objective_named(name: str) -> Objective:
    """The objective of a name with its defaults.

    Raises:
        ValueError: There is no such objective.
    """
    if name not in PRESETS:
        raise ValueError(f"there is no objective {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]()


def name_of(objective: Objective) -> str:
    """The name of the preset with an objective's class and weights; where there is none, the name of the class."""
    for name, preset in PRESETS.items():
        default = preset()
        if type(default) is type(objective) and getattr(default, "weights", 0) == getattr(objective, "weights", 0):
            return name
    return type(objective).__name__


CLASSES = {
    cls.__name__: cls
    for cls in (
        PolicyGradient,
        GRPO,
        DrGRPO,
        DAPO,
        RLOO,
        REINFORCEPlusPlus,
        GSPO,
        CISPO,
        SAPO,
        LUSPO,
        VESPO,
        WeightedLikelihood,
    )
}
"""Objectives by the name they have in a checkpoint."""

__all__ = [
    "CISPO",
    "CLASSES",
    "DAPO",
    "GRPO",
    "GSPO",
    "LUSPO",
    "PRESETS",
    "RLOO",
    "SAPO",
    "VESPO",
    "DrGRPO",
    "Objective",
    "PolicyGradient",
    "REINFORCEPlusPlus",
    "WeightedLikelihood",
    "name_of",
    "objective_named",
]
