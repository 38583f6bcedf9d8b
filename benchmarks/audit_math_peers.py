"""Audit graders of mathematics of installed peers on our tasks: what docs/audit.md reports.

python benchmarks/audit_math_peers.py       (math-verify; with TRL installed, its accuracy_reward too)
"""

from __future__ import annotations

import importlib.metadata
import importlib.util

import math_verify

import llm_envs  # noqa: F401
from llm_envs.audit import Verdict, audit_task
from llm_envs.export import from_trl
from llm_envs.registration import register_task
from llm_envs.task import find_task
from rewards.base import Outcome, RewardResult


def with_math_verify(prompts, completions, references):
    """Its documented use: verify(parse(gold), parse(completion))."""
    results = []
    for completion, reference in zip(completions, references, strict=True):
        right = math_verify.verify(math_verify.parse(f"${reference}$"), math_verify.parse(completion))
        results.append(RewardResult(float(right), Outcome.CORRECT if right else Outcome.WRONG))
    return results


def peers():
    """Names and rewards of what is installed."""
    found = {f"math-verify {importlib.metadata.version('math-verify')}": with_math_verify}
    if importlib.util.find_spec("trl") is not None:
        from trl.rewards import accuracy_reward

        reward = from_trl(accuracy_reward, conversational=True, column="solution")

        def in_dollars(prompts, completions, references):
            return reward(prompts, completions, [f"${reference}$" for reference in references])

        found[f"TRL {importlib.metadata.version('trl')} accuracy_reward"] = in_dollars
    return found


def main() -> None:
    """Audit and print what fails."""
    for number, (name, reward) in enumerate(peers().items()):
        for task in ("Arithmetic", "Fractions", "Equations"):
            sampler = find_task(f"llm_envs/{task}-v0")[0].sampler
            register_task(f"peer{number}/{task}-v0", reward=reward)(sampler)
            report = audit_task(f"peer{number}/{task}-v0", problems=5)
            print(f"{name} on {task}")
            for row in report.rows:
                if row.verdict in (Verdict.FAIL, Verdict.WARN):
                    print(f"  {row.verdict} {row.name}: {row.detail}: {row.example}", flush=True)


if __name__ == "__main__":
    main()
