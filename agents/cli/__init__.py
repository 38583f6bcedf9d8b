"""The command `llm-envs`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point: run the subcommand; a mistake in what was asked ends with one line and exit code 2."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # the bars of model loaders would break into our own
    sys.path.insert(0, os.getcwd())  # as `python -m` does: --env my_tasks:demo/Doubling-v0 finds my_tasks.py here
    try:
        from agents.cli.app import run
        from agents.interrupts import terminated_by_signals

        try:
            with terminated_by_signals():
                code = run(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:  # while the packages load
        code = 130
    except BrokenPipeError:  # what reads our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit would flush, and complain
        code = 1
    sys.exit(code)
