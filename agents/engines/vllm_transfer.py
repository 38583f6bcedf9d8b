"""Weights from this process to a vLLM server by NCCL: vLLM's own weight transfer, of its version 0.32.

Both sides need vLLM and CUDA, and the server is started with `--weight-transfer-config '{"backend": "nccl"}'`.
"""

from __future__ import annotations

import socket
import urllib.parse
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from agents.distributed import Ranks
from agents.engines.vllm import named_weights
from agents.forward.packed_model import without_adapters


class NCCLTransfer:
    """A group of processes, this one and the server's workers, in which this one sends.

    Args:
        url: Of the server.
        workers: How many processes compute there.
        ranks: The processes that train together; the first of them sends, and all gather.
        policy: Whose weights are sent.

    Raises:
        ImportError: vLLM is not installed in this environment, or is another version.
    """

    def __init__(self, url: str, workers: int, ranks: Ranks, policy: Any) -> None:
        try:
            from vllm.distributed.weight_transfer import nccl_engine
            from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource
            from vllm.distributed.weight_transfer.clients import HTTPVLLMWeightSyncClient
        except ImportError as error:
            raise ImportError(
                "weight_transfer='nccl' needs vLLM 0.32 in the environment of the training too; without it use 'disk'"
            ) from error

        class Source(WeightSource):  # type: ignore[misc, unused-ignore]
            """The policy's weights, under the names of a checkpoint."""

            def __init__(self) -> None:
                self.policy = policy
                self._meta: list[Any] = []

            def metadata(self) -> list[Any]:
                if not self._meta:  # names and shapes stay
                    self._meta = [ParamMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self]
                return self._meta

            def __iter__(self) -> Iterator[tuple[str, Tensor]]:
                for name, tensor in named_weights(without_adapters(self.policy.model)):
                    yield name, tensor.detach()

        self._source = Source()
        address, port = _own_address(url)
        init = nccl_engine.NCCLTrainerInitInfo(
            master_address=address, master_port=port, world_size=workers + 1, rank=ranks.rank
        )
        self._engine = nccl_engine.NCCLTrainerWeightTransferEngine.trainer_init(
            init, client=HTTPVLLMWeightSyncClient(url), source=self._source
        )

    def send(self, policy: Any) -> None:
        """Send the weights of a policy of the same architecture; every rank has to call it."""
        self._source.policy = policy
        self._engine.send_weights()


def _own_address(url: str) -> tuple[str, int]:
    """The address under which the server reaches this host, and a port that is free."""
    parts = urllib.parse.urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))) as reached:
        address = reached.getsockname()[0]
    with socket.socket() as found:
        found.bind((address, 0))
        return address, found.getsockname()[1]
