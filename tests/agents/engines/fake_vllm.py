"""A server that answers as vLLM's does, with the completions of this package's own engine."""

from __future__ import annotations

import contextlib
import copy
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from safetensors.torch import load_file

from agents import SamplingParams
from agents.engines import StaticCacheEngine


class FakeVLLM:
    """What the server has and does; tests change its attributes while it runs.

    Attributes:
        requests: The paths that were asked for, in order.
        lose: How many of the next completion requests end without an answer.
        instance: The number of its process, which `restart` changes.
        has_several_processes: Whether several API processes answer, each with an identity of its own.
        change: Changes the choices of the next completion request, or None.
        fail: A status code and a text with which the next completion request is answered, or None.
        cache_is_busy: How many of the next resets of the prefix cache do not succeed.
        ignores_weights: Whether it goes on with its old weights whatever it is told.
    """

    def __init__(self, policy: Any) -> None:
        self.policy = copy.deepcopy(policy)
        self.engine = StaticCacheEngine(self.policy)
        self.base = {name: tensor.clone() for name, tensor in self.policy.model.state_dict().items()}
        self.size = policy.model.config.vocab_size
        self.version = "0.32.0"
        self.config: dict[str, Any] = {"logprobs_mode": "processed_logprobs", "generation_config": "vllm"}
        self.development = True
        self.requests: list[str] = []
        self.instance = 1
        self.has_several_processes = False
        self.lose = 0
        self.change: Callable[[list[dict[str, Any]]], object] | None = None
        self.fail: tuple[int, str] | None = None
        self.ignores_weights = False
        self.cache_is_busy = 0
        self.lock = threading.Lock()

    def restart(self) -> None:
        """Have the weights again that it was started with."""
        self.policy.model.load_state_dict(self.base)
        self.instance += 1

    def answer(self, path: str, content: dict[str, Any] | None) -> tuple[int, Any]:
        self.requests.append(path)
        if path == "/health":
            return 200, None
        if path == "/version":
            return 200, {"version": self.version}
        if path == "/v1/completions":
            assert content is not None
            return self.complete(content)
        if not self.development:
            return 404, {"detail": "Not Found"}
        if path.startswith("/server_info"):
            return 200, {"vllm_config": self.configuration()}
        if path == "/collective_rpc":
            assert content is not None
            assert content["method"] == "reload_weights"
            if not self.ignores_weights:
                weights = load_file(content["kwargs"]["weights_path"] + "/model.safetensors")
                self.policy.model.load_state_dict(weights)
            return 200, {"results": [None]}
        if path in ("/init_weight_transfer_engine", "/start_weight_update", "/update_weights", "/finish_weight_update"):
            return 200, {"message": "done"}
        if path.startswith("/get_world_size"):
            return 200, {"world_size": 2}
        if path == "/reset_prefix_cache":
            self.cache_is_busy -= 1
            return 200, {"success": self.cache_is_busy < 0}
        return 404, {"detail": "Not Found"}

    def configuration(self) -> dict[str, Any]:
        several = {"instance_id": str(time.time_ns()), "parallel_config": {"_api_process_count": 2}}
        one = {"instance_id": str(self.instance), "parallel_config": {"_api_process_count": 1}}
        return {"model_config": self.config, **(several if self.has_several_processes else one)}

    def complete(self, request: dict[str, Any]) -> tuple[int, Any]:
        if self.fail is not None:
            (code, text), self.fail = self.fail, None
            return code, {"error": {"message": text}}
        if max(request["prompt"]) >= self.size:
            return 400, {"error": {"message": f"Token id {max(request['prompt'])} is out of vocabulary"}}
        sampling = SamplingParams(
            request["max_tokens"], request["temperature"], request["top_k"] or None, request["top_p"]
        )
        prompt = [token % self.policy.model.config.vocab_size for token in request["prompt"]]
        [group] = self.engine.generate([prompt], request["n"], sampling, request["seed"])
        choices = [
            {
                "index": i,
                "token_ids": completion.ids,
                "logprobs": {"token_logprobs": completion.logprobs},
                "finish_reason": "length" if completion.truncated else "stop",
            }
            for i, completion in enumerate(group)
        ]
        if self.change is not None:
            change, self.change = self.change, None
            change(choices)
        return 200, {"choices": choices[::-1]}


@contextlib.contextmanager
def serving(fake: FakeVLLM) -> Iterator[str]:
    """Run it; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(None)

        def do_POST(self) -> None:
            self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}"))

        def reply(self, content: dict[str, Any] | None) -> None:
            with fake.lock:
                if self.path == "/v1/completions" and fake.lose > 0:
                    fake.lose -= 1
                    fake.restart()
                    self.close_connection = True  # nothing is sent
                    return
                code, answer = fake.answer(self.path, content)
            body = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
