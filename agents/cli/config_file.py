"""Options from a file: YAML or JSON of a person's own, or the `config.json` of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from agents.cli.common import UsageError
from agents.json_values import from_json

GROUPS = ("chat", "config", "objective", "algorithm")
"""Names under which a file may put the options of a group together, as a run's `config.json` does."""


def read_config(file: Path, *, is_own_run: bool = False) -> dict[str, Any]:
    """Read a file of options.

    Args:
        file: YAML or JSON.
        is_own_run: Whether it is the record of the run that is gone on with. The callbacks in another run's record are
            left out, with a message: a run folder may come from anybody, and a callback's name is code to import.

    Returns:
        The values by option, with underscores: those of groups beside the others, lists as tuples, and the arguments of
        the environment as `name=value` texts. What a run wrote down of its machine is left out.

    Raises:
        UsageError: It is not a file of options, or has one of them twice.
        OSError: It cannot be read.
    """
    record = read_record(file)
    if {"agent", "resume", "ran_on"} <= record.keys():  # of a run, and only version 0.1 wrote these names
        record = _from_version_0_1(record)
    values = {name: value for name, value in record.items() if name != "ran_on"}
    if isinstance(named := values.get("objective"), str):
        raise UsageError(f"{file}: the objective is part of the agent's name; write agent: {named}")
    if "ran_on" in record and values.get("callback") and not is_own_run:
        print(
            f"{file} names callbacks, which are code and not taken over; to use them: --callback "
            f"{' '.join(values['callback'])}",
            file=sys.stderr,
        )
        values["callback"] = []
    for group in GROUPS:
        if isinstance(values.get(group), Mapping):
            options = values.pop(group)
            if twice := sorted(values.keys() & options.keys()):
                raise UsageError(f"{file} has {twice[0]!r} twice: by itself and in {group!r}")
            values |= options
    for group in ("env_args", "engine_args"):
        if isinstance(arguments := values.get(group), Mapping):
            values[group] = [f"{name}={from_json(value)!r}" for name, value in arguments.items()]
    return {name.replace("-", "_"): _as_tuple(value) for name, value in values.items()}


def read_record(file: Path) -> dict[str, Any]:
    """The mapping that a YAML or JSON file holds.

    Raises:
        UsageError: It holds something else, or is neither.
        OSError: It cannot be read.
    """
    import yaml

    text = file.read_text(encoding="utf-8")
    try:
        record = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    if not isinstance(record, dict) or not all(isinstance(name, str) for name in record):
        raise UsageError(f"{file} must hold names of options and their values, such as seed: 1")
    return record


def refuse_unknown(file: Path, names: Collection[str], known: Collection[str], agent: str) -> None:
    """Refuse names in a file that are no options.

    Raises:
        UsageError: There is one; the message has names that look like it.
    """
    for name in sorted(set(names) - set(known)):
        alike = get_close_matches(name, sorted({*known, *GROUPS}), n=3)
        hint = f"; did you mean {' or '.join(alike)}?" if alike else ""
        raise UsageError(f"{file} has {name!r}, which is no option of llm-envs train {agent}{hint}")


def _from_version_0_1(record: dict[str, Any]) -> dict[str, Any]:
    """The `config.json` of a run of version 0.1, under today's names."""
    moved = ("resume", "run_dir", "objective", "objective_options", "sb3")
    rest = {name: value for name, value in record.items() if name not in moved}
    if record["agent"] == "grpo":
        return {**rest, "agent": record["objective"], "objective": record["objective_options"]}
    config = dict(record["sb3"])
    algorithm, view = config.pop("algorithm_kwargs"), config.pop("view")
    agent = record["agent"] if view == "completion" else f"{record['agent']}-{view}"
    return {**rest, "agent": agent, "config": config, "algorithm": algorithm}


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value
