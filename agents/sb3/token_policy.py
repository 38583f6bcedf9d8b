"""`TokenPolicy`: a language model as stable-baselines3's actor and critic, whose action is the next token."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from agents.forward.packed_model import trunk
from agents.policies import LanguageModelPolicy
from agents.sb3.completion_policy import make_optimizer, value_head
from agents.sb3.forward_pass import reference_model
from agents.sb3.prefixes import PrefixCache, hidden_of_prefixes


class PrefixTrunk(BaseFeaturesExtractor):
    """The language model as a features extractor: from what has been written to what the head reads at its end.

    While the algorithm collects, a batch of prefixes is one forward pass of one token each, with a key-value cache;
    while it trains, the prefixes of one episode are computed together.
    """

    def __init__(self, observation_space: spaces.Space[Any], language_model: LanguageModelPolicy) -> None:
        super().__init__(observation_space, features_dim=language_model.model.get_output_embeddings().weight.shape[1])
        self.language_model = language_model
        self.model = language_model.model
        self.cache = PrefixCache(language_model)

    def forward(self, observations: Tensor) -> Tensor:
        """(N, H) from (N, L) observations, whose ids stable-baselines3 has cast to float."""
        rows = observations.long()
        if self.training:
            return hidden_of_prefixes(self.language_model, self.model, rows)
        return self.cache.last_hidden(self.model, rows)

    def train(self, mode: bool = True) -> PrefixTrunk:
        """Leave the model without dropout; the mode only says whether the algorithm collects or trains."""
        self.training = mode
        return self


class TemperedHead(nn.Module):
    """The language-model head, its logits divided by the sampling temperature."""

    def __init__(self, head: Any, temperature: float) -> None:
        super().__init__()
        self.head = head
        self.temperature = temperature

    def forward(self, features: Tensor) -> Tensor:
        """(N, V) logits in float32 from (N, H); a frozen head may be bfloat16."""
        return self.head(features.to(self.head.weight.dtype)).float() / self.temperature


class TokenPolicy(ActorCriticPolicy):
    """stable-baselines3's own `ActorCriticPolicy` with the parts of a language model in its places.

    Args:
        observation_space: Rows of ids.
        action_space: `Discrete(V)`.
        lr_schedule: Of the optimizer, which holds the parameters that are trained and the value head.
        language_model: The policy.
        temperature: Of sampling and of log-probabilities.
        use_sde: Not supported; algorithms pass False.
        kwargs: Further arguments of `ActorCriticPolicy`, such as `optimizer_class`.

    Raises:
        NotImplementedError: The model does something to its logits behind the head.
    """

    features_extractor: PrefixTrunk

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        language_model: LanguageModelPolicy,
        temperature: float,
        use_sde: bool = False,
        **kwargs: Any,
    ) -> None:
        check_head(language_model)
        self._temperature = temperature
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=[],
            use_sde=use_sde,
            features_extractor_class=PrefixTrunk,
            features_extractor_kwargs={"language_model": language_model},
            **kwargs,
        )
        self.last_logprobs = torch.empty(0)
        self._reference_cache = PrefixCache(language_model)

    def _build(self, lr_schedule: Schedule) -> None:
        """Put the model's own head and a new value head in place, then make the optimizer of both."""
        language_model = self.features_extractor.language_model
        self._build_mlp_extractor()  # without layers: the features themselves
        self.action_net = TemperedHead(language_model.model.get_output_embeddings(), self._temperature)
        self.value_net = value_head(self.features_dim, language_model.device)
        self.optimizer = make_optimizer(self, lr_schedule)

    def set_training_mode(self, mode: bool) -> None:
        """Say whether the algorithm trains; caches begin anew after it, in a resumed run as in any other."""
        super().set_training_mode(mode)
        if mode:
            self.features_extractor.cache.clear()
            self._reference_cache.clear()

    def get_distribution(self, obs: PyTorchObs) -> Distribution:
        """The distribution of the next token; TRPO differentiates it twice, which fused attention cannot."""
        with sdpa_kernel(SDPBackend.MATH):
            return super().get_distribution(obs)

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the next token of each row; actions (N,), values (N, 1) and log-probabilities (N,)."""
        actions, values, logprobs = super().forward(obs, deterministic)
        self.last_logprobs = logprobs
        return actions, values, logprobs

    @torch.no_grad()
    def reference_log_prob(self, obs: Tensor, actions: Tensor) -> Tensor:
        """(N,) log-probabilities of tokens under the frozen reference."""
        with reference_model(self.features_extractor.language_model) as model:
            hidden = self._reference_cache.last_hidden(model, obs.long())
            logits = TemperedHead(model.get_output_embeddings(), self._temperature)(hidden)
        return logits.log_softmax(dim=1).gather(1, actions.long()[:, None]).squeeze(1)


@torch.no_grad()
def check_head(policy: LanguageModelPolicy) -> None:
    """Refuse a model whose logits are more than its head makes of the last hidden state.

    Raises:
        NotImplementedError: Its logits are scaled or capped.
    """
    ids = torch.arange(1, 9, device=policy.device)[None]  # not the padding token, whose embedding may be 0
    with policy.autocast():
        logits = policy.model(input_ids=ids).logits.float()
        hidden = trunk(policy.model)(input_ids=ids).last_hidden_state
    expected = TemperedHead(policy.model.get_output_embeddings(), 1.0)(hidden)
    tolerance = 1e-4 if policy.precision == "float32" else 0.02
    if (logits - expected).abs().max() > tolerance * logits.abs().max():
        raise NotImplementedError(
            f"{type(policy.model).__name__} scales or caps its logits behind the head, which the token view's network "
            "would leave out; use view='completion'"
        )
