"""What a policy puts around every prompt: a system prompt and worked examples, as turns of the chat template."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """The turns that come before every prompt."""

    system_prompt: str | None = None
    """A system turn."""
    examples: tuple[tuple[str, str], ...] = ()
    """Few-shot: prompts, completions."""

    def messages(self, prompt: str) -> list[dict[str, str]]:
        """The conversation that ends with `prompt` as the user's turn, in the form that chat templates take."""
        turns = [] if self.system_prompt is None else [("system", self.system_prompt)]
        for question, answer in self.examples:
            turns += [("user", question), ("assistant", answer)]
        return [{"role": role, "content": content} for role, content in [*turns, ("user", prompt)]]
