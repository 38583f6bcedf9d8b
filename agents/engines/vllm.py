"""`VLLMEngine`: rollouts by vLLM inside the training process.

vLLM (arXiv:2309.06180) has kernels, a paged cache and a scheduler of its own. It is an optional package that is
installed beside this one (`pip install vllm` in an environment whose torch fits); docs/scaling.md says which versions
were run.
"""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.distributed import whole
from agents.engines.rollout_engine import check_request
from agents.forward.packed_model import without_adapters
from agents.rollout import Completion, SamplingParams

_FIRST_MINOR, _LAST_MINOR = 28, 33


class VLLMEngine:
    """Generates with a copy of the policy's weights, on the same device, in the same process.

    The copy is renewed by `sync_weights`. Its log-probabilities differ from the policy's by the rounding of other
    kernels, so an update computes those that it starts from anew.

    Args:
        policy: A `LanguageModelPolicy` whose architecture vLLM knows.
        max_length: The longest prompt and completion together, in tokens; None is what the model can attend to.
        memory_share: Share of a GPU's memory for weights and cache.
        sleeps: Whether vLLM gives its memory to the update between two rollouts; None: on a GPU.
        **options: Further arguments of `vllm.LLM`.

    Raises:
        ImportError: vLLM is not installed.
        ValueError: vLLM cannot be given the policy's weights, see `check_weights`.
    """

    exact_logprobs = False
    has_own_weights = True

    def __init__(
        self,
        policy: Any,
        *,
        max_length: int | None = None,
        memory_share: float = 0.4,
        sleeps: bool | None = None,
        **options: Any,
    ) -> None:
        check_weights(policy)
        # the engine's core in this process: its weights can be written to without a copy on the way
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        try:
            import vllm
        except ImportError as error:
            raise ImportError(
                "rollouts by vLLM need the package vllm, in the version that fits the installed torch: pip install vllm"
            ) from error
        warn_of_version(vllm.__version__)
        self._vllm = vllm
        self._policy = policy
        self._sleeps = policy.device.type == "cuda" if sleeps is None else sleeps
        self._sleeping = False
        options.setdefault("dtype", policy.precision)
        if torch.distributed.is_initialized() and "RANK" in os.environ:  # each rank has an engine of its own
            options.setdefault("distributed_executor_backend", "external_launcher")
        if policy.device.type == "cuda":
            options.setdefault("gpu_memory_utilization", memory_share)
        else:  # after a part of a prompt vLLM turns back the noise of its request, which it cannot do on a CPU
            options.setdefault("enable_chunked_prefill", False)
        with tempfile.TemporaryDirectory() as folder:
            without_adapters(policy.model).config.save_pretrained(folder)
            policy.tokenizer.save_pretrained(folder)
            self._llm = vllm.LLM(
                folder,
                load_format="dummy",  # the weights come by `sync_weights`
                max_model_len=max_length or policy.context_length,
                enable_sleep_mode=self._sleeps,
                generation_config="vllm",  # and not what the model's own file says of sampling
                # of the distribution that a token was drawn from: temperature, top-k and top-p applied
                logprobs_mode="processed_logprobs",
                **options,
            )
        self.sync_weights(policy)

    def generate(
        self, prompt_ids: list[list[int]], group_size: int, sampling: SamplingParams, seed: int
    ) -> list[list[Completion]]:
        """Draw `group_size` completions for each prompt; see `RolloutEngine.generate` for the arguments.

        Raises:
            ValueError: There are no prompts, an empty prompt, or `group_size` is not positive.
            RuntimeError: vLLM did not finish a completion.
        """
        check_request(prompt_ids, group_size)
        self._wake()
        greedy = sampling.temperature == 0
        # completion i of a prompt is drawn with the prompt's seed plus i: seeds of prompts must lie far apart
        seeds = np.random.SeedSequence(seed).generate_state(len(prompt_ids), np.uint64) >> np.uint64(2)
        outputs = self._llm.generate(
            [{"prompt_token_ids": ids} for ids in prompt_ids],
            [self._parameters(1 if greedy else group_size, sampling, int(of_prompt)) for of_prompt in seeds],
            use_tqdm=False,
        )
        groups = [[_completion(output) for output in request.outputs] for request in outputs]
        count = 1 if greedy else group_size
        if any(len(group) != count for group in groups):
            raise RuntimeError(
                f"vLLM gave {[len(group) for group in groups]} completions of prompts, not {count} of each"
            )
        return [group * group_size for group in groups] if greedy else groups

    def sync_weights(self, policy: Any) -> None:
        """Copy the policy's weights, with its adapters added, and forget keys and values of the old ones.

        Raises:
            ValueError: vLLM cannot be given these weights, see `check_weights`.
        """
        check_weights(policy)
        self._policy = policy
        self._wake()
        weights = named_weights(without_adapters(policy.model))
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        self._llm.apply_model(_refresh_tied_head)
        if not self._llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not empty its prefix cache, which has keys and values of the old weights")

    def sleep(self) -> None:
        """Give the memory of the cache back, and move the weights to the host, until the next call."""
        if self._sleeps and not self._sleeping:
            self._llm.sleep(level=1)
            self._sleeping = True

    def _wake(self) -> None:
        if self._sleeping:
            self._llm.wake_up()
            self._sleeping = False

    def _parameters(self, count: int, sampling: SamplingParams, seed: int) -> Any:
        return self._vllm.SamplingParams(
            n=count,
            seed=seed,
            temperature=sampling.temperature,
            top_k=sampling.top_k or 0,
            top_p=sampling.top_p,
            max_tokens=sampling.max_completion_tokens,
            stop=list(sampling.stop) or None,
            stop_token_ids=sorted(self._policy.end_token_ids),
            ignore_eos=True,  # the policy's end tokens are the ones above
            logprobs=0,
            detokenize=bool(sampling.stop),
            skip_special_tokens=False,
        )


def warn_of_version(version: str) -> None:
    """Warn of a vLLM whose interface this package was not written for."""
    numbers = re.match(r"0\.(\d+)", version)
    if numbers is None or not _FIRST_MINOR <= int(numbers[1]) <= _LAST_MINOR:
        warnings.warn(
            f"vLLM {version} is outside 0.{_FIRST_MINOR} to 0.{_LAST_MINOR}, which this package was written for: check "
            "the sampler's metrics (sampler_log_ratio_max) before relying on it",
            stacklevel=3,
        )


def _completion(output: Any) -> Completion:
    ids = list(output.token_ids)
    logprobs = [found[token].logprob for found, token in zip(output.logprobs, ids, strict=True)]
    check_finished(output.finish_reason)
    return Completion(ids, logprobs, truncated=output.finish_reason == "length")


def check_finished(reason: str | None) -> None:
    """Refuse a completion that was broken off: it would be learned from as if the policy had ended it there.

    Args:
        reason: vLLM's `finish_reason`: `stop`, `length`, `abort`, `error` or `repetition`.

    Raises:
        RuntimeError: It is neither `stop` nor `length`.
    """
    if reason not in ("stop", "length"):
        raise RuntimeError(f"vLLM broke a completion off: finish_reason={reason!r}, expected 'stop' or 'length'")


def check_weights(policy: Any) -> None:
    """Refuse a policy whose weights vLLM cannot be given.

    Raises:
        ValueError: They are quantised, or an adapter is on an embedding or a head that are tied to each other.
    """
    if policy.load_in is not None:
        raise ValueError(f"vLLM is not given weights of load_in={policy.load_in!r}: leave it out, or use engine auto")
    _check_tied(without_adapters(policy.model))


def _check_tied(model: Any) -> None:
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    if _is_tied(model) and any(hasattr(module, "get_delta_weight") for module in ends):
        raise ValueError(
            "an adapter is on the embedding or the head of a model that ties them, and vLLM has one tensor for both: "
            "leave lm_head and the embedding out of lora_targets (--lora-targets), or use engine auto"
        )


def _is_tied(model: Any) -> bool:
    return bool(getattr(model.config.get_text_config(), "tie_word_embeddings", False))


def named_weights(model: Any, *, with_tied_head: bool = False) -> Iterator[tuple[str, Tensor]]:
    """Weights under the names of a checkpoint, each with what its adapters add.

    The sums are new tensors: adding adapters to the weights and taking them away again would round these, which are
    frozen and in no checkpoint. Where weights are sharded over processes, each is gathered as it is asked for: every
    process has to walk all of them.

    Args:
        model: A transformers model, see `without_adapters`.
        with_tied_head: Whether the head is named too where it is the embedding.

    Raises:
        ValueError: An adapter is not of the plain low-rank kind, or is on an embedding or a head that are tied.
    """
    _check_tied(model)
    tied = _is_tied(model)
    adapted = {name: module for name, module in model.named_modules() if hasattr(module, "get_delta_weight")}
    for name, tensor in model.state_dict().items():
        if "lora_" in name or (tied and name == "lm_head.weight" and not with_tied_head):
            continue
        if "modules_to_save" in name:
            raise ValueError(f"{name} is a trained copy of a module beside adapters, which vLLM is not given")
        layer = adapted.get(name.removesuffix(".base_layer.weight"))
        yield name.replace(".base_layer.", "."), whole(tensor if layer is None else _with_adapters(tensor, layer))


@torch.no_grad()
def _with_adapters(weight: Tensor, layer: Any) -> Tensor:
    if any(getattr(layer, "use_dora", {}).values()):
        raise ValueError("adapters that change more than a sum (DoRA) cannot be given to vLLM")
    deltas = [layer.get_delta_weight(adapter) for adapter in layer.active_adapters]
    return (weight + sum(deltas)).to(weight.dtype)


def _refresh_tied_head(model: Any) -> None:
    """Let the head see its new weights: on a CPU vLLM keeps a packed copy of them, which loading leaves as it was."""
    head: Any = getattr(model, "lm_head", None)
    if getattr(model.config, "tie_word_embeddings", False) and hasattr(head, "quant_method"):
        head.quant_method.process_weights_after_loading(head)
