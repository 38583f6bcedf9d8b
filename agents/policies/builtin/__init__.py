"""`builtin/tiny`: the small default policy, shipped with the package, and the recipe that rebuilds it."""

from pathlib import Path

TINY_PATH: Path = Path(__file__).parent / "tiny"
"""The folder of the shipped model; `AutoModelForCausalLM` and `AutoTokenizer` load it without a network."""
