"""`CompletionPolicy`: a language model as stable-baselines3's actor and critic, whose action is a whole completion."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from agents.collect import noise_seed
from agents.engines import RolloutEngine
from agents.policies import LanguageModelPolicy
from agents.rollout import SamplingParams
from agents.sb3.forward_pass import prompt_hidden, reference_model, score
from agents.sb3.token_rows import as_actions, as_lists


class PromptTrunk(BaseFeaturesExtractor):
    """The language model as a features extractor: from a prompt to what the head reads at its last token."""

    def __init__(self, observation_space: spaces.Space[Any], language_model: LanguageModelPolicy) -> None:
        super().__init__(observation_space, features_dim=language_model.model.get_output_embeddings().weight.shape[1])
        self.language_model = language_model
        self.model = language_model.model

    def forward(self, observations: Tensor) -> Tensor:
        """(N, H) from (N, L) observations, whose ids stable-baselines3 has cast to float."""
        return prompt_hidden(self.language_model, observations.long())


class CompletionPolicy(ActorCriticPolicy):
    """Writes whole completions with an engine, scores them by teacher forcing, and values their prompts.

    The probability of an action is that of its tokens through the first end token. The critic is a linear value head on
    the prompt's last hidden state, which starts at 0; its gradient reaches the language model too.

    Args:
        observation_space: Rows of prompt ids.
        action_space: `MultiDiscrete([V] * T)`.
        lr_schedule: Of the optimizer, which holds the parameters that are trained and the value head.
        language_model: The policy.
        engine: What generates.
        temperature: Of sampling and of log-probabilities.
        noise: Gives each call of the engine its seed.
        micro_batch_size: Completions per forward pass in `forward` and `predict_values`.
        use_sde: Not supported; algorithms pass False.
        kwargs: Further arguments of `ActorCriticPolicy`, such as `optimizer_class`.
    """

    action_space: spaces.MultiDiscrete
    features_extractor: PromptTrunk

    def __init__(
        self,
        observation_space: spaces.Box,
        action_space: spaces.MultiDiscrete,
        lr_schedule: Schedule,
        *,
        language_model: LanguageModelPolicy,
        engine: RolloutEngine,
        temperature: float,
        noise: np.random.Generator,
        micro_batch_size: int,
        use_sde: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=[],
            use_sde=use_sde,
            features_extractor_class=PromptTrunk,
            features_extractor_kwargs={"language_model": language_model},
            **kwargs,
        )
        self.engine = engine
        self.temperature = temperature
        self.noise = noise
        self.micro_batch_size = micro_batch_size
        self.last_logprobs = torch.empty(0)

    @property
    def language_model(self) -> LanguageModelPolicy:
        """The policy whose model this is."""
        return self.features_extractor.language_model

    def _build(self, lr_schedule: Schedule) -> None:
        """Put the model's own head and a new value head in place, then make the optimizer of both."""
        self.action_net = self.language_model.model.get_output_embeddings()
        self.value_net = value_head(self.features_dim, self.language_model.device)
        self.optimizer = make_optimizer(self, lr_schedule)

    def train(self, mode: bool = True) -> CompletionPolicy:
        """Leave the model as it is, without dropout: sampling and scoring must be the same function."""
        self.training = mode
        return self

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Write a completion for each prompt.

        Args:
            obs: (N, L) prompts.
            deterministic: Decode greedily.

        Returns:
            Actions (N, T), values (N, 1) and log-probabilities (N,) of the completions.
        """
        actions = self._predict(obs, deterministic)
        parts = [
            self._score(prompts, written)
            for prompts, written in zip(
                obs.split(self.micro_batch_size), actions.split(self.micro_batch_size), strict=True
            )
        ]
        values, logprobs = (torch.cat(column) for column in zip(*parts, strict=True))
        self.last_logprobs = logprobs
        return actions, values, logprobs

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        assert isinstance(observation, Tensor)
        sampling = SamplingParams(len(self.action_space.nvec), 0.0 if deterministic else self.temperature)
        groups = self.engine.generate(as_lists(observation), 1, sampling, noise_seed(self.noise))
        completions = [group[0] for group in groups]
        policy = self.language_model
        return as_actions(completions, sampling.max_completion_tokens, policy.pad_token_id, policy.device)

    def _score(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Values (N, 1) and log-probabilities (N,)."""
        policy = self.language_model
        scores = score(policy, policy.model, obs, actions, self.temperature)
        return self.value_net(scores.prompt_hidden), scores.logprobs.sum(dim=1)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Score completions with gradient.

        Returns:
            Values (N, 1), log-probabilities (N,), and None: the entropy over all completions has no closed form, and
            stable-baselines3 then takes the mean of minus the log-probabilities.
        """
        assert isinstance(obs, Tensor)
        values, logprobs = self._score(obs, actions.long())
        return values, logprobs, None

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """(N, 1) the value of each prompt."""
        assert isinstance(obs, Tensor)
        parts = obs.split(self.micro_batch_size)
        return torch.cat([self.value_net(prompt_hidden(self.language_model, part)) for part in parts])

    def get_distribution(self, obs: PyTorchObs) -> Any:
        """Not available: the distribution over all completions cannot be written down.

        Raises:
            NotImplementedError: Always; algorithms that need it, such as TRPO, run in the token view.
        """
        raise NotImplementedError(
            "the distribution over whole completions cannot be written down, only sampled and scored; for an algorithm "
            "that needs it use view='token'"
        )

    @torch.no_grad()
    def reference_log_prob(self, obs: Tensor, actions: Tensor) -> Tensor:
        """(N,) log-probabilities of completions under the frozen reference."""
        with reference_model(self.language_model) as model:
            parts = [
                score(self.language_model, model, prompts, written, self.temperature).logprobs.sum(dim=1)
                for prompts, written in zip(
                    obs.split(self.micro_batch_size), actions.split(self.micro_batch_size), strict=True
                )
            ]
        return torch.cat(parts)


def value_head(features: int, device: torch.device) -> nn.Linear:
    """A linear layer to one value that starts at 0: the first advantages are then the rewards themselves."""
    head = nn.utils.skip_init(nn.Linear, features, 1, device=device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def make_optimizer(policy: ActorCriticPolicy, lr_schedule: Schedule) -> torch.optim.Optimizer:
    """The policy's optimizer over what is trained: with adapters, these and the value head."""
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    return policy.optimizer_class(trained, lr=lr_schedule(1), **policy.optimizer_kwargs)  # type: ignore[call-arg]
