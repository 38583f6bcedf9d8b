"""`llm-envs train`: the options, from the command line, a file, or the run that is gone on with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from agents.cli.agent_options import option_groups
from agents.cli.common import UsageError, parse_env_args
from agents.cli.config_file import read_config, read_record, refuse_unknown
from agents.cli.options import (
    Flag,
    from_values,
    leaves,
    parse,
    parse_known,
)
from agents.cli.train_options import PROG, CommonOptions, FurtherOptions, Train
from agents.factory import AGENT_NAMES
from agents.objectives import PRESETS

_OF_ONE_COMMAND = ("agent", "resume", "config")
"""Options that no file has."""
_FREE_IN_RESUME = (
    "total_episodes",
    "run_dir",
    "resume",
    "device",
    "threads",
    "engine",
    "engine_args",
    "server",
    "parallel",
    "cpu_offload",
    "callback",
    "reward_deadline",
)
"""What may differ from the run that is gone on with."""


@dataclass(frozen=True)
class _Early:
    """What decides which other options there are, and options that version 0.1 had in place of the agent's name."""

    run_dir: Path | None = None
    resume: Flag = False
    config: Path | None = None
    agent: str | None = None
    objective: str | None = None
    view: str | None = None
    weights: str | None = None


def run(arguments: Sequence[str]) -> None:
    """Evaluate, learn, evaluate again, and show the difference."""
    options = read_options(arguments)
    from agents.cli.training_run import TrainingRun  # loads torch, which `--help` does not need

    TrainingRun(options.train, {name: getattr(options, name) for name in option_groups(options.train.agent)}).run()


def read_options(arguments: Sequence[str]) -> Any:
    """Read the command line, and the file or the run that it names.

    Returns:
        `train`, a `Train`, and as further attributes the groups of `option_groups`.

    Raises:
        UsageError: What was asked for cannot be done.
        SystemExit: After `--help`, or a mistake that the parser has explained.
    """
    named = arguments[0] if arguments and not arguments[0].startswith("-") else None
    if named is not None:
        _check_agent(named)
    if {"-h", "--help"} & set(arguments):
        _show_help(named)
    early = parse_known(_Early, arguments, PROG)
    _refuse_old_options(early)
    if early.resume:
        return _resumed(early, named, arguments)
    values = {} if early.config is None else read_config(early.config)
    in_file = str(values.pop("agent", "grpo"))
    agent = named or in_file
    _check_agent(agent, early.config)
    if early.weights is not None:
        _refuse_weights(agent)
    options = _options(agent)
    default = options() if early.config is None else _of_file(early.config, values, options, agent)
    return _typed(options, arguments, default, named)


def _resumed(early: _Early, named: str | None, arguments: Sequence[str]) -> Any:
    """The settings of the run to go on with, but for what is typed and may differ."""
    file = (early.run_dir or Path()) / "config.json"
    if early.run_dir is None or not file.is_file():
        raise UsageError(
            "--resume needs --run-dir, the folder of the run to go on with, with a config.json"
            + ("" if early.run_dir is None else f"; {early.run_dir} has none")
        )
    if early.config is not None:
        raise UsageError(f"--resume reads {file}; leave --config out")
    values = read_config(file, is_own_run=True)
    agent = str(values.pop("agent", "grpo"))
    _check_agent(agent, file)
    if named not in (None, agent):
        raise UsageError(f"--resume goes on as the run was started, with the agent {agent}, and not {named}")
    # what was used: where nothing was asked for, another machine would choose another
    ran_on = read_record(file).get("ran_on", {})
    values |= {name: ran_on[name] for name in ("threads", "device") if name in ran_on}
    if early.weights is not None:
        _refuse_weights(agent)
    options = _options(agent)
    started = _of_file(file, values, options, agent)
    typed = _typed(options, arguments, started, named)
    of_the_run = _comparable(started)
    for name, value in _comparable(typed).items():
        if name not in _FREE_IN_RESUME and value != of_the_run[name]:
            raise UsageError(
                f"--resume goes on as the run was started, with --{name.replace('_', '-')} {of_the_run[name]}, and not "
                f"{value}; leave the option out, or start another run"
            )
    return typed


def _options(agent: str) -> type:
    """A dataclass of all options that an agent has: `train`, and its own groups."""
    groups = {"train": Train(agent=agent), **option_groups(agent)}
    return make_dataclass("Options", [(name, type(group), field(default=group)) for name, group in groups.items()])


def _of_file(file: Path, values: dict[str, Any], options: type, agent: str) -> Any:
    defaults = leaves(options())
    refuse_unknown(file, values, defaults.keys() - set(_OF_ONE_COMMAND), agent)
    if values.pop("weights", defaults.get("weights")) != defaults.get("weights"):
        _refuse_weights(agent)
    for name, value in values.items():
        if isinstance(value, str) and isinstance(defaults[name], tuple):
            values[name] = (value,)  # as on the command line, a single text is a list of one
    try:
        return from_values(options, values, _prog(agent))
    except SystemExit:
        print(f"llm-envs: this is in {file}", file=sys.stderr)
        raise


def _typed(options: type, arguments: Sequence[str], default: Any, named: str | None) -> Any:
    agent = default.train.agent
    try:
        parsed = parse(options, arguments, _prog(named), default=default)
    except SystemExit:
        if named is None:
            print(f"The options of the agent {agent}: {PROG} {agent} --help", file=sys.stderr)
        raise
    if parsed.train.agent != agent:
        raise UsageError(f"the agent comes before its options: {PROG} {parsed.train.agent} ...")
    return parsed


def _comparable(options: Any) -> dict[str, Any]:
    values = leaves(options)
    return values | {name: parse_env_args(values[name]) for name in ("env_args", "engine_args")}


def _check_agent(name: str, file: Path | None = None) -> None:
    if name not in AGENT_NAMES:
        alike = get_close_matches(name, AGENT_NAMES, n=3)
        hint = f"did you mean {' or '.join(alike)}?" if alike else f"there are {', '.join(AGENT_NAMES)}"
        where = "" if file is None else f"{file}: "
        raise UsageError(f"{where}there is no agent {name!r}; {hint}")


def _refuse_weights(agent: str) -> None:
    """Refuse to be told the weights of an agent whose name says them."""
    if agent in PRESETS and hasattr(PRESETS[agent](), "weights"):
        raise UsageError(f"the weights are part of the agent's name, {agent}: another agent has others, not --weights")


def _refuse_old_options(early: _Early) -> None:
    """Say how an agent is named, where a script has the options that named it in version 0.1."""
    if early.agent is None and early.objective is None and early.view is None:
        return
    agent = early.objective or early.agent or ("ppo" if early.view else "grpo")
    agent += "-token" if early.view == "token" else ""
    raise UsageError(f"the agent is now the first word, without --agent, --objective or --view: {PROG} {agent} ...")


def _show_help(agent: str | None) -> None:
    if agent is None:
        parse(CommonOptions, ["--help"], PROG)
    groups = option_groups(agent or "")
    groups["further"] = FurtherOptions()
    own = make_dataclass("Own", [(name, type(group), field(default=group)) for name, group in groups.items()])
    text = f"Options of the agent {agent}, and further ones of every agent. The most common ones: {PROG} --help"
    parse(own, ["--help"], _prog(agent), description=text)


def _prog(agent: str | None) -> str:
    return PROG if agent is None else f"{PROG} {agent}"
