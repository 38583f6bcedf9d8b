"""What several subcommands share."""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import EnvSpec

from agents.envs import env_spec, make_envs

if TYPE_CHECKING:  # loading torch is left to the functions, for the help of all commands is quick
    from agents.policies import LanguageModelPolicy


class UsageError(ValueError):
    """What was asked for on the command line cannot be done."""


class CheckFailed(Exception):
    """What a command checked does not hold; it has printed why. The exit code is 1."""


def refuse_several_processes(command: str) -> None:
    """Refuse to do in each of several processes what one of them does.

    Raises:
        UsageError: They were started by `torchrun` or the like.
    """
    from agents.distributed import Ranks

    if (size := Ranks.current().size) > 1:
        raise UsageError(f"llm-envs {command} runs in one process, and {size} were started: leave torchrun out")


def parse_env_args(pairs: Sequence[str]) -> dict[str, Any]:
    """Turn `name=value` pairs into keyword arguments; a value is a Python literal, or else text.

    >>> parse_env_args(["operands=2", "operators=+-"])
    {'operands': 2, 'operators': '+-'}

    Raises:
        UsageError: A pair has no `=` or no name, a name is there twice, or one is `render_mode`, which no command uses.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"an argument is written name=value, got {pair!r}")
        if name == "render_mode":
            raise UsageError("no command renders; leave render_mode= out")
        if name in arguments:
            raise UsageError(f"{name}= is given twice")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments


def refuse_split(pairs: Sequence[str]) -> None:
    """Refuse `split` where the command chooses it: held-out problems would be trained on, or an option be ignored.

    Raises:
        UsageError: It is among the pairs.
    """
    if "split" in parse_env_args(pairs):
        raise UsageError("training takes the split 'train' and evaluation 'test' (evaluate: --split); leave split= out")


def spec_with(env: str | EnvSpec, pairs: Sequence[str]) -> EnvSpec:
    """The spec of an id, or a spec, with the arguments given on the command line, tried out once.

    Raises:
        UsageError: The environment refuses an argument.
        gymnasium.error.Error: There is no such environment.
    """
    spec = env_spec(env, **parse_env_args(pairs))
    try:
        make_envs(spec, 1).close()
    except (TypeError, ValueError) as error:
        given = f"{spec.id} with {' '.join(pairs)}: " if pairs else ""
        raise UsageError(f"{given}{error}") from error
    return spec


def use_threads(threads: int | None, policy: LanguageModelPolicy) -> int:
    """Set how many CPU threads torch uses for a policy, and return the number; see `agents.hardware.use_threads`."""
    from agents import hardware

    return hardware.use_threads(threads, sum(parameter.numel() for parameter in policy.model.parameters()))


def check_writable(file: Path) -> None:
    """Find out before long work whether its result can be written; a file that is there stays as it is.

    Raises:
        OSError: It cannot.
    """
    is_new = not file.exists()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.open("a").close()
    if is_new:
        file.unlink()


def quiet_loading() -> None:
    """Keep the bars of the model loader out of our own display."""
    import transformers

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # peft reads an attribute that transformers is about to rename; nothing a user of ours can do about it
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
