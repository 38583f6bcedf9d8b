"""What an agent writes to disk and reads back: safetensors and JSON, never a pickle.

checkpoint/
  agent.json              counters, seed, config, objective or algorithm, environment, states of random streams
  policy/                 the model and tokenizer in transformers' own layout (with adapters: peft's)
  reference/              the frozen reference, where the objective needs one and it is not the adapters' base
  optimizer.safetensors   the moments and step counts of AdamW, by parameter name
  value_head.safetensors  the critic, of an agent that has one
  checksums.json          the SHA-256 of each of these files
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from agents import objectives
from agents.distributed import is_sharded, sharded_like, whole_on_first, whole_state
from agents.envs import EnvLike, env_spec, recorded_spec, spec_record
from agents.grpo.config import GRPOConfig
from agents.objectives import Objective
from agents.policies import ChatFormat, LanguageModelPolicy, PolicyNotFound
from agents.policies.loading import load_model
from agents.policies.precision import Precision
from agents.tracking import files

FORMAT = 2
SUMS_FILE = "checksums.json"
_NEW, _OLD = ".new", ".old"
_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


class CheckpointError(ValueError):
    """A checkpoint folder is missing, incomplete, or from another version."""


@dataclass(frozen=True, kw_only=True)
class CommonState:
    """What every agent has that is not a tensor."""

    env_id: str
    env_kwargs: dict[str, Any]
    policy_name: str
    precision: str
    chat: ChatFormat
    seed: int
    num_episodes: int
    num_updates: int
    random_states: dict[str, Any]
    num_prompts: int = 0
    env_state: dict[str, Any] = field(default_factory=dict)
    env_wrappers: list[str] = field(default_factory=list)
    env_made_by: dict[str, Any] = field(default_factory=dict)
    frozen: list[str] = field(default_factory=list)
    """Parameters of the model that are not trained; empty with adapters, which are all that is."""
    base_dtype: str = ""
    """Of the model that adapters belong to, such as "bfloat16"; empty without adapters."""
    weights_dtype: str = "float32"
    """Of the parameters that are trained, or of those below adapters."""
    load_in: str | None = None
    """"4bit" where the model that adapters belong to is quantised."""
    gradient_checkpointing: bool = False
    """Whether layers are computed again in the backward pass."""
    plain: bool = False
    """Whether the policy computes in padded batches because it was asked to."""

    def record(self) -> dict[str, Any]:
        """The fields as JSON takes them."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"chat": asdict(self.chat)}


@dataclass(frozen=True, kw_only=True)
class AgentState(CommonState):
    """Everything of a `GRPOAgent` that is not a tensor."""

    objective: Objective
    config: GRPOConfig
    ahead: str | None = None
    """The batch that was generated while the last update was computed, see `GRPOConfig.max_staleness`."""
    halvings: int = 0
    """How often the micro-batch was halved for want of memory."""

    def record(self) -> dict[str, Any]:
        """The fields as JSON takes them."""
        objective = {"name": type(self.objective).__name__, **asdict(self.objective)}  # type: ignore[call-overload]
        return super().record() | {"objective": objective, "config": asdict(self.config)}


def policy_record(policy: LanguageModelPolicy) -> dict[str, Any]:
    """What `CommonState` has of a policy."""
    return {
        "policy_name": policy.name,
        "precision": policy.precision,
        "chat": policy.chat,
        "frozen": policy.frozen_parameters,
        "base_dtype": _base_dtype(policy.model) if policy.has_adapters else "",
        "weights_dtype": policy.weights_dtype,
        "load_in": policy.load_in,
        "gradient_checkpointing": policy.gradient_checkpointing,
        "plain": policy.plain,
    }


def _base_dtype(model: Any) -> str:
    found = {parameter.dtype for parameter in model.parameters() if not parameter.requires_grad}
    return next((name for name, dtype in _DTYPES.items() if dtype in found), "")


def write(
    path: Path,
    state: CommonState,
    policy: LanguageModelPolicy,
    tensors: Mapping[str, Mapping[str, Tensor]],
    weights: WholeWeights | None = None,
) -> None:
    """Write a checkpoint beside the old one, then swap them; `recover` mends a swap that was cut short.

    Args:
        path: The checkpoint folder.
        state: What goes into `agent.json`.
        policy: The model.
        tensors: Each becomes `NAME.safetensors`.
        weights: What `whole_weights` gave, where parameters are sharded.

    Raises:
        CheckpointError: There is something else at the path, which the checkpoint would replace.
        FloatingPointError: A weight is not finite; the old one is as it was.
        OSError: It cannot be written, for want of space, say; the old one is as it was.
    """
    model = dict(policy.model.named_parameters()) if weights is None else weights.model
    _refuse_lost_weights({"policy": model, **tensors}, state.num_updates)
    path = path.resolve()  # a link stays one, and "." has a name
    recover(path)
    if path.exists() and not (path / "agent.json").is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise CheckpointError(f"{path} is no checkpoint, and saving there would delete it; choose another place")
    fresh = path.with_name(path.name + _NEW)
    old = path.with_name(path.name + _OLD)
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        policy.save(fresh / "policy", None if weights is None else weights.model)
        if policy.reference is not None:
            reference = {} if weights is None else {"state_dict": weights.reference}
            policy.reference.save_pretrained(fresh / "reference", **reference)
            policy.tokenizer.save_pretrained(fresh / "reference")
        for name, content in tensors.items():
            save_file(dict(content), fresh / f"{name}.safetensors")
    except SafetensorError as error:
        raise OSError(f"cannot write the checkpoint {fresh}: {error}") from error
    record = {"format": FORMAT} | state.record()
    (fresh / "agent.json").write_text(json.dumps(record, indent=2, default=_as_json) + "\n", encoding="utf-8")
    _write_sums(fresh)
    if path.exists():
        path.rename(old)
    try:
        fresh.rename(path)
    except FileNotFoundError:
        if not path.exists():
            raise
        # a process that reads the checkpoint has met the moment without one, and finished the swap: see `recover`
    files.sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class WholeWeights:
    """The weights of a sharded policy, and those of its reference where it has one."""

    model: dict[str, Tensor]
    reference: dict[str, Tensor]


def whole_weights(policy: LanguageModelPolicy) -> WholeWeights | None:
    """Put sharded weights together, which takes every rank; None where they are not sharded."""
    if not any(map(is_sharded, policy.model.parameters())):
        return None
    trained = {name for name, _ in policy.trainable_parameters()}
    return WholeWeights(
        whole_state(policy.model, trained if policy.has_adapters else None),
        {} if policy.reference is None else whole_state(policy.reference),
    )


def _refuse_lost_weights(parts: Mapping[str, Mapping[str, Tensor]], num_updates: int) -> None:
    """Refuse to put weights that are lost in the place of those that are not.

    Raises:
        FloatingPointError: One is not finite.
    """
    for part, content in parts.items():
        if (name := not_finite(content)) is not None:
            raise FloatingPointError(
                f"after update {num_updates}, {name} of the {part} is not finite: training has diverged. Nothing was "
                "saved; an earlier checkpoint is as it was. Lower the learning rate, or use precision='float32'"
            )


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with a number that is NaN or infinite; None where all are finite."""
    # a sum is finite where all numbers are, unless it overflows; most tensors are asked no more than that
    return next(
        (
            name
            for name, tensor in tensors.items()
            if tensor.is_floating_point() and not (tensor.detach().sum().isfinite() or tensor.isfinite().all())
        ),
        None,
    )


def _write_sums(folder: Path) -> None:
    """Write the checksums of all files of a folder, and let everything reach the disk."""
    sums = {}
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        sums[file.relative_to(folder).as_posix()] = _sum(file)
        files.sync(file)
    files.write_text(folder / SUMS_FILE, json.dumps(sums, indent=2) + "\n")


def _sum(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def verify(path: Path) -> None:
    """Compare the files of a checkpoint with the checksums that were written with it; one without them is not checked.

    Raises:
        CheckpointError: A file is missing, or has another content.
    """
    recover(path)
    sums = path / SUMS_FILE
    if not sums.is_file():
        return
    try:
        expected: dict[str, str] = dict(json.loads(sums.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{sums} is damaged: {error}") from error
    for name, digest in expected.items():
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"{file} is missing, which {sums.name} has: the checkpoint is incomplete")
        if _sum(file) != digest:
            raise CheckpointError(
                f"{file} is not what was written: its checksum differs from that in {sums.name}. A disk or a copy has "
                "damaged it; restore the folder from a copy, or go back to an earlier one. If you have changed the "
                f"file yourself, delete {sums.name}"
            )


def _as_json(value: Any) -> Any:
    """A number of numpy or a path, as JSON has it: what a seed and the arguments of an environment may be.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a checkpoint holds what JSON has, and not {value!r}; the policy alone can be saved: policy.save")


def recover(path: Path) -> None:
    """Finish the swap of a `write` that was killed between its two renames, when nothing is left at `path` itself.

    The new checkpoint is complete then; the old one is moved only afterwards.
    """
    path = path.resolve()
    fresh, old = (path.with_name(path.name + suffix) for suffix in (_NEW, _OLD))
    if not path.exists() and old.exists():
        (fresh if fresh.exists() else old).rename(path)


def read_record(path: Path) -> dict[str, Any]:
    """Read `agent.json`, whichever agent wrote it; the chat format is an object again.

    Raises:
        CheckpointError: There is no such file, or it is not one that this version reads.
    """
    recover(path)
    file = path / "agent.json"
    if not file.is_file():
        raise CheckpointError(f"there is no agent in {str(path)!r}: {file.name} is missing")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise CheckpointError(f"{file} was not written by an agent of this package")
    if (written := record.pop("format")) != FORMAT:
        by = "version 0.1" if written < FORMAT else "a later version"
        raise CheckpointError(
            f"{file} was written by {by} of this package (format {written}, this version reads {FORMAT}), and cannot "
            f"be gone on with. Its model can: start a new run from it with --policy {path / 'policy'}, or "
            f"load_policy({str(path / 'policy')!r}); or install {by}"
        )
    with fields_of(path):
        examples = tuple((question, answer) for question, answer in record["chat"]["examples"])
        chat = ChatFormat(record["chat"]["system_prompt"], examples)
        return record | {"chat": chat}


@contextlib.contextmanager
def fields_of(path: Path) -> Iterator[None]:
    """Say of which file fields are missing, too many or out of range.

    Raises:
        CheckpointError: They are.
    """
    try:
        yield
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path / 'agent.json'} is damaged, or of another version ({reason})") from error


def read_state(path: Path, objective: Objective | None = None) -> AgentState:
    """Read the `agent.json` of a `GRPOAgent`.

    Args:
        path: The checkpoint folder.
        objective: Used instead of the one that was saved.

    Raises:
        CheckpointError: There is no such file, or it is not one of a `GRPOAgent` that this version reads.
    """
    record = read_record(path)
    if "objective" not in record:
        raise CheckpointError(f"{path} holds an agent of another kind, {record.get('agent')}; use agents.load_agent")
    with fields_of(path):
        saved = record.pop("objective")
        if objective is None:
            name = saved.pop("name")
            if name not in objectives.CLASSES:
                raise CheckpointError(f"the agent's objective {name!r} is not part of this package; pass objective=...")
            objective = objectives.CLASSES[name](**saved)
        config = record["config"]
        config = GRPOConfig(**config | {"stop": tuple(config.get("stop", ()))})  # JSON has lists alone
        return AgentState(**record | {"objective": objective, "config": config})


def read_env(path: Path, state: CommonState, env: EnvLike | None) -> tuple[EnvSpec, bool]:
    """The environment to go on with, and whether it is the one that was saved, so that its state is too.

    Args:
        path: The checkpoint folder.
        state: What was read of it.
        env: Replaces the environment that was saved.

    Raises:
        CheckpointError: What was saved had wrappers, which a checkpoint does not keep, and nothing replaces it.
    """
    if env is None:
        if state.env_wrappers:
            wrappers = ", ".join(state.env_wrappers)
            raise CheckpointError(
                f"the environment of {path} had wrappers ({wrappers}); make it again and pass env=..."
            )
        return recorded_spec(state.env_id, state.env_kwargs, state.env_made_by), True
    spec = env_spec(env)
    try:
        record = json.loads(json.dumps(spec_record(spec), default=_as_json))  # as it was read
    except TypeError:  # with such arguments nothing was ever saved
        return spec, False
    return spec, all(getattr(state, name) == value for name, value in record.items())


def read_policy(
    path: Path, state: CommonState, device: torch.device, precision: Precision | None = None
) -> LanguageModelPolicy:
    """Load the policy with its trained weights.

    Args:
        path: The checkpoint folder.
        state: What was read of it.
        device: Where to put the policy.
        precision: Replaces the one that was saved.

    Raises:
        CheckpointError: They are missing or broken.
        PolicyNotFound: They are adapters, and there is no model that they belong to.
    """
    folder = path / "policy"
    if (folder / "adapter_config.json").is_file():
        from peft import PeftModel

        if not state.policy_name:
            raise CheckpointError(
                f"the adapters in {folder} belong to a model that the policy had no name for; "
                "give one to LanguageModelPolicy, from which it can be loaded again"
            )
        # checkpoints that do not say it are of `load_policy`
        dtype = _DTYPES[state.base_dtype or state.precision]
        base, tokenizer = load_model(state.policy_name, dtype, state.load_in)  # type: ignore[arg-type]
        try:
            # peft would read them to a GPU, also where the policy is on another device
            model = PeftModel.from_pretrained(base, folder, is_trainable=True, torch_device="cpu")
        except (OSError, ValueError, SafetensorError) as error:
            raise CheckpointError(f"the adapters in {folder} are missing or broken: {error}") from error
    else:
        model, tokenizer = _read_model(folder, _DTYPES[state.weights_dtype])
        frozen = set(state.frozen)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen)
    if (lost := not_finite(dict(model.named_parameters()))) is not None:
        raise CheckpointError(f"{lost} in {folder} is not finite: training had diverged; go back to an earlier one")
    policy = LanguageModelPolicy(
        model,
        tokenizer,
        name=state.policy_name,
        device=device,
        precision=precision or state.precision,  # type: ignore[arg-type]
        chat=state.chat,
        weights_dtype=state.weights_dtype,  # type: ignore[arg-type]
        plain=state.plain,
    )
    if state.gradient_checkpointing:
        policy.checkpoint_gradients()
    return policy


def _read_model(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    try:
        return load_model(folder, dtype)
    except (PolicyNotFound, SafetensorError) as error:
        raise CheckpointError(f"the model in {folder} is missing or broken: {error}") from error


def read_reference(path: Path, policy: LanguageModelPolicy) -> None:
    """Put the saved reference in place of the one that was made from the trained weights.

    Raises:
        CheckpointError: It is missing or broken.
    """
    if policy.reference is not None:
        model, _ = _read_model(path / "reference", _DTYPES[policy.weights_dtype])
        read = model.state_dict()
        with torch.no_grad():
            for name, tensor in policy.reference.state_dict().items():
                tensor.copy_(sharded_like(read[name], tensor))


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The optimizer's state as tensors named `parameter|entry`; empty before the first step."""
    return {
        f"{name}|{entry}": whole_on_first(torch.as_tensor(value)).contiguous()
        for name, parameter in parameters.items()
        for entry, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(path: Path, optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`.

    Raises:
        CheckpointError: The file is missing or belongs to a model with other parameters.
    """
    for key, value in read_tensors(path, "optimizer").items():
        name, _, entry = key.rpartition("|")
        if name not in parameters:
            raise CheckpointError(f"optimizer.safetensors has a state for {name!r}, which the policy does not have")
        parameter = parameters[name]
        optimizer.state[parameter][entry] = sharded_like(value, parameter)


def read_tensors(path: Path, name: str) -> dict[str, Tensor]:
    """The content of `NAME.safetensors`.

    Raises:
        CheckpointError: The file is missing or broken.
    """
    file = path / f"{name}.safetensors"
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot read {file}: {error}") from error
    if (lost := not_finite(tensors)) is not None:
        raise CheckpointError(f"{lost} in {file} is not finite: training had diverged; go back to an earlier one")
    return tensors
