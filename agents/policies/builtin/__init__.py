"""`builtin/tiny`: the small default policy that is shipped with the package; `tools/tiny_model` made it."""

from pathlib import Path

TINY_PATH: Path = Path(__file__).parent / "tiny"
"""The folder of the shipped model; `AutoModelForCausalLM` and `AutoTokenizer` load it without a network."""
