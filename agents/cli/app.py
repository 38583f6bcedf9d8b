"""The subcommands of `llm-envs`: which there are, and what a mistake looks like. One file each, loaded when chosen."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from agents.interrupts import Terminated

COMMANDS = {
    "train": ("agents.cli.train", "train a language model on a task, and measure what it learned"),
    "evaluate": ("agents.cli.evaluate", "held-out accuracy of a run, or of any policy on any task"),
    "compare": ("agents.cli.compare", "several agents on one task: same start, same budget"),
    "list": ("agents.cli.list_tasks", "the registered tasks and their arguments"),
    "play": ("agents.cli.play", "answer a task's prompts yourself and see the verdict"),
    "memory": ("agents.cli.memory", "how much memory training a model would take"),
    "audit": ("agents.cli.audit", "attack a task's reward before anybody trains on it"),
    "sandbox": ("agents.cli.sandbox", "try each layer of the sandbox for code on this machine"),
}
"""Name on the command line to the module, whose `run` takes the words that follow, and what it is for."""


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand that a command line names.

    Returns:
        The exit code: 0, or 1 where a check or the work failed, or 2 for a mistake on the command line; as shells have
        it, 130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP.
    """
    name, *rest = arguments or [""]
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name not in COMMANDS:
        alike = get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {alike[0]}?" if alike else ""
        problem = f"there is no command {name!r}{hint}" if name else "which command?"
        print(f"llm-envs: {problem}\nFor all commands, run llm-envs --help", file=sys.stderr)
        return 2
    try:
        import_module(COMMANDS[name][0]).run(rest)
    except BrokenPipeError:
        raise
    except Terminated as stop:
        return 128 + stop.signal
    except KeyboardInterrupt:
        return 130
    except SystemExit as exit_:  # of the parser, which has printed the help or what is wrong
        return int(exit_.code or 0)
    except Exception as error:
        code = _report(error, name)
        if code is None:
            raise
        return code
    return 0


def _help() -> str:
    commands = "\n".join(f"  {name:10}{purpose}" for name, (_, purpose) in COMMANDS.items())
    return f"""usage: llm-envs COMMAND [OPTIONS]

Reinforcement learning of language models on verifiable tasks.

commands:
{commands}

llm-envs COMMAND --help shows the options of a command."""


def _report(error: Exception, command: str) -> int | None:
    """Print an error in one line, and return the exit code; None for a fault of ours, of which nothing is printed."""
    from agents.cli.failures import exit_code, one_line, save_traceback
    from rewards import InvalidReference
    from rewards.code.sandbox import WeakSandbox

    # these two say what to do, also where a reward has raised them
    is_explained = isinstance(error, InvalidReference | WeakSandbox)
    code = 2 if is_explained else exit_code(error)
    if code is None:
        return None
    save_traceback(error)
    text = str(error) if is_explained else one_line(error)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        from agents.distributed import is_first_to_say

        if not is_first_to_say(text):  # all processes of a run may have made the same mistake
            return code
    print(f"llm-envs: {text}{_hint(error)}", file=sys.stderr)
    if code == 2:
        print(f"For all options, run llm-envs {command} --help", file=sys.stderr)
    return code


def _hint(error: Exception) -> str:
    """What to do about a message of others that does not say it."""
    import gymnasium

    if isinstance(error, gymnasium.error.UnregisteredEnv):
        return "\n`llm-envs list` shows the tasks; one of your own is named with its module: my_tasks:demo/Doubling-v0"
    return ""
