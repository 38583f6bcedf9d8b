"""The entry point of the command `llm-envs`.

It is in this package because another one may have the import name of the package `agents`, which has the subcommands:
what would be imported by that name is looked at first.
"""

from __future__ import annotations

import importlib
import sys

from llm_envs.name_clash import hidden


def main() -> None:
    """Run `agents.cli.main`; where `agents` is another package, say so, and exit with code 2."""
    if problem := hidden():
        print(f"llm-envs: {problem}", file=sys.stderr)
        sys.exit(2)
    importlib.import_module("agents.cli").main()


if __name__ == "__main__":  # python -m llm_envs.command
    main()
