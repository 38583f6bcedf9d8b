"""The subcommands of `llm-envs`, one file each; command line and help come from their dataclasses."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import gymnasium
import tyro

from agents.checkpoint import CheckpointError
from agents.cli.audit import Audit
from agents.cli.common import CheckFailed, UsageError
from agents.cli.compare import Compare
from agents.cli.evaluate import Evaluate
from agents.cli.list_tasks import ListTasks
from agents.cli.play import Play
from agents.cli.sandbox import SandboxCommand
from agents.cli.train import Train
from agents.hardware import DeviceNotFound
from agents.policies import PolicyNotFound, PromptTooLong
from rewards import InvalidReference
from rewards.code.sandbox import WeakSandbox

Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[ListTasks, tyro.conf.subcommand("list")]
    | Annotated[Play, tyro.conf.subcommand("play")]
    | Annotated[Audit, tyro.conf.subcommand("audit")]
    | Annotated[SandboxCommand, tyro.conf.subcommand("sandbox")]
)
# mistakes of the person at the keyboard, each with a message that says what to do; anything else is ours: a traceback
_MISTAKES = (
    UsageError,
    CheckpointError,
    DeviceNotFound,
    PolicyNotFound,
    PromptTooLong,
    InvalidReference,
    gymnasium.error.Error,
    ImportError,
    WeakSandbox,
    OSError,  # a folder that cannot be written, a disk that is full
)


def run(arguments: Sequence[str]) -> int:
    """Parse the command line and run it.

    Returns:
        The exit code: 0, or 1 where a check failed, or 2 for a mistake on the command line, or 130 after Ctrl-C.
    """
    command = tyro.cli(
        Command,
        prog="llm-envs",
        description="Reinforcement learning of language models on verifiable tasks.",
        args=list(arguments),
        config=(tyro.conf.OmitArgPrefixes,),
    )
    try:
        command.run()
    except CheckFailed as error:
        print(f"llm-envs: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        raise
    except _MISTAKES as error:
        print(f"llm-envs: {error}{_hint(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _hint(error: Exception) -> str:
    """What to do about a message of others that does not say it."""
    if isinstance(error, gymnasium.error.UnregisteredEnv):
        return "\n`llm-envs list` shows the tasks; one of your own is named with its module: my_tasks:demo/Doubling-v0"
    return ""
