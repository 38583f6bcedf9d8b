"""`VLLMServerEngine`: rollouts by a vLLM server, on other devices or another host.

The server is vLLM's own and runs none of our code. Completions come over its HTTP API, with token ids in and out. New
weights reach it by a folder that both sides see, or by NCCL. docs/scaling.md says how it is started.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file

from agents.distributed import Ranks, is_sharded
from agents.engines.rollout_engine import check_request
from agents.engines.vllm import check_finished, check_weights, named_weights, warn_of_version
from agents.engines.vllm_transfer import NCCLTransfer
from agents.forward.packed_model import without_adapters
from agents.rollout import Completion, GroupBatch, Rollout, SamplingParams
from agents.validation import checked

_CONNECTIONS = 64
"""Requests under way at a time; vLLM batches what it has."""
_ATTEMPTS = 3
"""How often a batch is asked for of a server that fails in the middle."""
_PAUSE = 1.0
"""Seconds between two attempts to reach a server that is gone."""
_PROBE_TOKENS = 8
_LARGEST_DIFFERENCE = {"float32": 1e-2, "bfloat16": 0.5}
"""Mean difference of a token's log-probability, in nats, beyond which the server has other weights than the policy."""


class ServerError(ConnectionError):
    """The vLLM server is not there, is not the right one, or refuses what is asked of it."""


class _Refused(ServerError):
    """The server says that the request is wrong."""


class _Gone(Exception):
    """No answer came: the server is not there, was lost in the middle, or has failed."""


class VLLMServerEngine:
    """Generates by a vLLM server that was given the policy's model, and hands the policy's weights over to it.

    One request per prompt draws its G completions. A server that is lost is waited for: one that comes back within
    `patience` gets the last weights again, and the batch is drawn anew, with the same seeds. That another process
    answers is known by the `instance_id` of its configuration, which is read before and after each batch. Its
    log-probabilities differ from the policy's by the rounding of other kernels, so an update computes those that it
    starts from anew.

    Where several processes train together, each asks for its own episodes, and the first hands the weights over. They
    cannot agree in the middle of a batch to hand them over again: a server that was started anew then ends the run.

    Args:
        policy: A `LanguageModelPolicy` whose model the server has.
        url: Of the server, such as `http://localhost:8000`.
        weights_dir: A folder that this process can write to and the server can read, at the same path; None is a new
            one for temporary files, for a server on the same host.
        weight_transfer: `"disk"`, by that folder; `"nccl"`, between CUDA devices (`NCCLTransfer`).
        timeout: Seconds that one request may take.
        patience: Seconds that a server which does not answer is waited for.

    Raises:
        ImportError: NCCL was asked for, and vLLM is not installed here.
        ServerError: No server answers, it has another model, or it was not started as it has to be.
        ValueError: The address is none, or the server cannot be given the policy's weights, see `check_weights`.
    """

    exact_logprobs = False
    has_own_weights = True
    generates_elsewhere = True

    def __init__(
        self,
        policy: Any,
        url: str,
        *,
        weights_dir: str | Path | None = None,
        weight_transfer: Literal["disk", "nccl"] = "disk",
        timeout: float = 1800.0,
        patience: float = 60.0,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"the server's address must begin with http:// or https://, got {url!r}")
        checked("weight_transfer", weight_transfer, Literal["disk", "nccl"])
        check_weights(policy)
        self.url = url.rstrip("/")
        # a proxy of the environment (http_proxy) cannot reach a server of this host by a loopback address
        self._open = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if _is_loopback(url) else [])).open
        self._policy = policy
        self._timeout = timeout
        self._patience = patience
        self._ranks = Ranks.current()
        if self._ranks.is_first:  # the others write nothing
            self._temporary = tempfile.TemporaryDirectory(prefix="llm-envs-weights-") if weights_dir is None else None
            self._folder = Path(self._temporary.name if self._temporary else weights_dir).resolve()  # type: ignore[arg-type]
            self._folder.mkdir(parents=True, exist_ok=True)
        self._has_begun = False
        self._instance: str | None = None
        """Of the server process that has the last weights; None where it is not known."""
        self._transfer: NCCLTransfer | None = None
        self._wait_until_ready()
        warn_of_version(str(self._ask("/version").get("version")))
        try:
            self._instance = self._check_start()
        except _Gone as error:
            raise self._lost(error) from error
        self._check_vocabulary()
        if weight_transfer == "nccl":
            workers = self._ask("/get_world_size")["world_size"]
            self._transfer = NCCLTransfer(self.url, workers, self._ranks, policy)
        self.sync_weights(policy)
        self._has_begun = True

    def generate(
        self, prompt_ids: list[list[int]], group_size: int, sampling: SamplingParams, seed: int
    ) -> list[list[Completion]]:
        """Draw `group_size` completions for each prompt; see `RolloutEngine.generate` for the arguments.

        Raises:
            ValueError: There are no prompts, an empty prompt, or `group_size` is not positive.
            ServerError: The server refuses a request, or is gone for longer than `patience`, or fails three times.
        """
        check_request(prompt_ids, group_size)
        greedy = sampling.temperature == 0
        # completion i of a prompt is drawn with the prompt's seed plus i: seeds of prompts must lie far apart
        seeds = np.random.SeedSequence(seed).generate_state(len(prompt_ids), np.uint64) >> np.uint64(2)
        count = 1 if greedy else group_size
        requests = [self._request(ids, count, sampling, int(own)) for ids, own in zip(prompt_ids, seeds, strict=True)]
        groups = self._complete_all(requests)
        return [group * group_size for group in groups] if greedy else groups

    def sync_weights(self, policy: Any) -> None:
        """Hand the policy's weights over, with its adapters added; keys and values of the old ones are forgotten.

        Afterwards the server completes a prompt, and its log-probabilities are compared with the policy's own.

        A server that is gone is waited for, as in `generate`, where weights go by the folder.

        Raises:
            ServerError: The server is gone, or what it computes is not what the policy does.
            ValueError: The server cannot be given these weights, see `check_weights`.
        """
        check_weights(policy)
        self._policy = policy
        if self._transfer is None:
            self._write(policy)
        else:
            self._send(self._transfer, policy)
        self._instance = self._ranks.of_first(self._instance)
        self._ranks.wait()
        self._compare()

    def _send(self, transfer: NCCLTransfer, policy: Any) -> None:
        """Hand the weights over by NCCL."""
        try:
            if self._check_start() != self._instance:
                raise self._cannot_go_on("weights cannot be sent to it: it has left the group of NCCL")
            transfer.send(policy)
            if self._ranks.is_first:
                self._forget()
        except ServerError:
            raise
        except (_Gone, OSError) as error:  # vLLM's client raises requests' errors, which are OSErrors
            raise self._lost(error) from error

    def _write(self, policy: Any) -> None:
        """Hand the weights over by the folder."""
        narrow = policy.precision == "bfloat16"
        weights = {}
        for name, tensor in named_weights(without_adapters(policy.model), with_tied_head=True):
            if self._ranks.is_first:  # the others take part in gathering
                tensor = tensor.bfloat16() if narrow and tensor.dtype == torch.float32 else tensor
                weights[name] = tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        if self._ranks.is_first:
            # under another name first: the server may have the old file open, and it must never see half of one
            save_file(weights, self._folder / "new.tmp", metadata={"format": "pt"})
            (self._folder / "new.tmp").replace(self._folder / "model.safetensors")
            self._load()

    # -- the server --------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Let the server read the folder, and wait for one that is gone.

        Raises:
            ServerError: It stays away, or fails again and again.
        """
        reason: Exception = _Gone("it was started anew in the middle")
        for _ in range(_ATTEMPTS):
            try:
                instance = self._check_start()
                self._post(
                    "/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(self._folder)}}
                )
                self._forget()
                if self._check_start() == instance:
                    self._instance = instance
                    return
            except _Gone as error:
                reason = error
                self._wait_until_ready()
        raise self._lost(reason)

    def _load_again(self) -> None:
        """Give a server that was started anew the last weights."""
        if self._transfer is not None:
            raise self._cannot_go_on("it has left the group of NCCL, by which it would get the weights")
        if self._ranks.size > 1:
            raise self._cannot_go_on("of several training processes none can hand it the weights in the middle")
        self._load()

    def _forget(self) -> None:
        """Let the server forget keys and values of other weights."""
        deadline = time.monotonic() + self._patience
        while not self._post("/reset_prefix_cache", {}).get("success", True):  # requests are under way
            if time.monotonic() > deadline:
                raise ServerError(
                    f"the server at {self.url} did not empty its prefix cache, which has keys and values of other "
                    "weights; is something else asking it for completions?"
                )
            time.sleep(_PAUSE)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self._post("/health", None)
            except _Gone as error:
                if time.monotonic() > deadline:
                    raise self._lost(error) from error
                time.sleep(min(_PAUSE, self._patience))
            else:
                return

    def _lost(self, reason: Exception) -> ServerError:
        advice = "start it anew, see docs/scaling.md, and go on from the last checkpoint"
        return ServerError(
            f"the vLLM server at {self.url} does not answer, or fails again and again ({reason}; it was waited for up "
            f"to {self._patience:g} seconds); {advice if self._has_begun else 'start it, see docs/scaling.md'}"
        )

    def _cannot_go_on(self, reason: str) -> ServerError:
        return ServerError(
            f"the vLLM server at {self.url} was lost or started anew during the run, and {reason}; go on from the last "
            "checkpoint"
        )

    def _check_start(self) -> str | None:
        """Look at how the server was started; gives the identity of its process.

        It is None where the server has several API processes, each with an identity of its own.

        Raises:
            ServerError: Its log-probabilities would be of another distribution, or its sampling another.
            _Gone: No answer came.
        """
        found = self._post("/server_info?config_format=json", None)["vllm_config"]
        config = found["model_config"]
        for option, wanted in (("logprobs_mode", "processed_logprobs"), ("generation_config", "vllm")):
            if config.get(option) != wanted:
                raise ServerError(
                    f"the server at {self.url} has {option}={config.get(option)!r}; start it with "
                    f"--{option.replace('_', '-')} {wanted}"
                )
        several = found.get("parallel_config", {}).get("_api_process_count", 1) > 1
        return None if several else found.get("instance_id")

    def _check_vocabulary(self) -> None:
        """Ask for a completion of the last token of the policy's vocabulary, and of one more, which must be refused."""
        policy = self._policy
        size = max(policy.model.config.get_text_config().vocab_size, len(policy.tokenizer))
        sampling = SamplingParams(1)
        try:
            self._ask("/v1/completions", self._request([size - 1], 1, sampling, 0))
        except _Refused as error:
            raise ServerError(f"{error}. The policy has {size} tokens: has the server another model?") from error
        try:
            self._ask("/v1/completions", self._request([size], 1, sampling, 0))
        except _Refused:
            return
        raise ServerError(f"the server at {self.url} knows more tokens than the policy's {size}: it has another model")

    def _compare(self) -> None:
        """Compare log-probabilities of a greedy completion.

        Raises:
            ServerError: They differ by more than other kernels make of the same weights.
        """
        policy = self._policy
        if any(map(is_sharded, policy.model.parameters())):
            return  # a forward pass would need the other processes
        [ids] = policy.encode_prompts(["What is 3 + 4?"])
        [[completion]] = self.generate([ids], 1, SamplingParams(_PROBE_TOKENS, 0.0), 0)
        rollout = Rollout(0, "", ids, completion, "", 0.0, "", None, None)
        batch = GroupBatch.from_rollouts([rollout], 1, policy.pad_token_id, policy.device)
        with torch.no_grad():
            own = policy.logprobs(batch, 1.0)
        difference = (own - batch.sampler_logprobs).abs().mean().item()
        if not difference <= _LARGEST_DIFFERENCE[policy.precision]:
            raise ServerError(
                f"after its weights were handed over, the server at {self.url} gives log-probabilities that differ "
                f"from the policy's by {difference:.3g} nats a token: has it another model? On a CPU vLLM keeps an old "
                "copy of a head that is tied to the embedding: see docs/scaling.md"
            )

    # -- requests ----------------------------------------------------------------------------------------------------

    def _request(self, prompt_ids: list[int], count: int, sampling: SamplingParams, seed: int) -> dict[str, Any]:
        return {
            "prompt": prompt_ids,
            "n": count,
            "seed": seed,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k or 0,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_completion_tokens,
            "stop": list(sampling.stop),
            "include_stop_str_in_output": True,
            "stop_token_ids": sorted(self._policy.end_token_ids),
            "ignore_eos": True,  # the policy's end tokens are the ones above
            "skip_special_tokens": False,
            "logprobs": 0,
            "return_token_ids": True,
        }

    def _complete_all(self, requests: list[dict[str, Any]]) -> list[list[Completion]]:
        """The completions of each request.

        Those that get no answer are asked for again, and all of them where the server was started anew: it has
        answered some with other weights.
        """
        answers: dict[int, list[Completion]] = {}
        reason: Exception | None = None
        for _ in range(_ATTEMPTS):
            try:
                instance = self._check_start()
                if instance != self._instance or (instance is None and reason is not None):
                    answers.clear()
                    self._load_again()
                self._complete_missing(requests, answers)
                if self._check_start() == self._instance:
                    return [answers[i] for i in range(len(requests))]
                reason = _Gone("it was started anew in the middle")
            except _Gone as gone:
                reason = gone
                self._wait_until_ready()
        assert reason is not None
        raise self._lost(reason)

    def _complete_missing(self, requests: list[dict[str, Any]], answers: dict[int, list[Completion]]) -> None:
        """Add the answers that are missing, by the number of their request.

        Raises:
            _Gone: One of them did not come; those that came were added.
        """
        pool = ThreadPoolExecutor(_CONNECTIONS)
        try:
            asked = {i: pool.submit(self._complete, requests[i]) for i in range(len(requests)) if i not in answers}
            wait(asked.values(), return_when=FIRST_EXCEPTION)
        finally:  # those under way are waited for, and the others do not begin
            pool.shutdown(cancel_futures=True)
        lost = None
        for i, future in asked.items():
            if future.cancelled():
                continue
            if isinstance(error := future.exception(), _Gone):
                lost = error
            else:
                answers[i] = future.result()
        if lost is not None:
            raise lost

    def _complete(self, request: dict[str, Any]) -> list[Completion]:
        answer = self._post("/v1/completions", request)
        choices = sorted(answer["choices"], key=lambda choice: choice["index"])
        if len(choices) != request["n"]:
            raise _Gone(f"the server at {self.url} gave {len(choices)} completions of a prompt, not {request['n']}")
        return [self._completion(choice) for choice in choices]

    def _completion(self, choice: dict[str, Any]) -> Completion:
        ids, logprobs, reason = choice["token_ids"], choice["logprobs"]["token_logprobs"], choice["finish_reason"]
        try:
            check_finished(reason)
        except RuntimeError as error:
            raise _Gone(str(error)) from error
        if len(ids) != len(logprobs):
            raise _Gone(f"the server at {self.url} gave {len(logprobs)} log-probabilities of {len(ids)} tokens")
        return Completion(ids, logprobs, truncated=reason == "length")

    def _ask(self, path: str, content: dict[str, Any] | None = None) -> Any:
        """`_post` for what has to succeed."""
        try:
            return self._post(path, content)
        except _Gone as error:
            raise ServerError(f"the vLLM server at {self.url} gave no answer to {path}: {error}") from error

    def _post(self, path: str, content: dict[str, Any] | None) -> Any:
        """What the server answers to a question (GET, no content) or an order (POST), as JSON.

        Raises:
            _Gone: No answer came.
            _Refused: The server says that the request is wrong.
        """
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get("VLLM_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.url + path, body, headers)
        try:
            with self._open(request, timeout=self._timeout) as response:
                text = response.read()
            return json.loads(text) if text else {}
        except urllib.error.HTTPError as error:
            words = self._refusal(path, error.code, error.read().decode(errors="replace"))
            raise _Gone(words) if error.code >= 500 else _Refused(words) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _Gone(str(error) or type(error).__name__) from error

    def _refusal(self, path: str, code: int, text: str) -> str:
        if code == 404:
            return (
                f"the server at {self.url} has no {path}: is it vLLM, started with VLLM_SERVER_DEV_MODE=1? "
                "See docs/scaling.md"
            )
        try:
            text = json.loads(text)["error"]["message"]
        except (ValueError, KeyError, TypeError):
            text = text.strip()[:200]
        return f"the vLLM server at {self.url} answered {path} with error {code}: {text}"


def _is_loopback(url: str) -> bool:
    host = urllib.parse.urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"
