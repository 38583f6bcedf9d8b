"""Audit the rewards of installed peers: what docs/audit.md reports.

python benchmarks/audit_peers.py --out build/audit_peers.json       (needs the extra reasoning-gym)

Each family of reasoning-gym is audited twice: with the package's own score of the text between answer tags, and with
the strict reward. Their scorers evaluate text with `eval` and sympy, so every call runs in a worker process.
"""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import tyro

import llm_envs  # noqa: F401
from llm_envs.audit import Verdict, audit_task
from llm_envs.reasoning_gym import FAMILIES
from llm_envs.reasoning_gym.reward import answer_of
from llm_envs.registration import register_task
from llm_envs.task import find_task
from rewards.base import Outcome, RewardResult
from rewards.workers import JobStatus, shared_pool


def own_score(prompts, completions, references):
    """The package's score as it is, of what is between the tags (of the empty text, where there is none)."""
    pool = shared_pool("llm_envs.reasoning_gym.upstream_score:score", deadline=2.0)
    jobs = [
        (r["family"], r["config"], r["entry"], answer_of(c) or "") for c, r in zip(completions, references, strict=True)
    ]
    results = []
    for done in pool.map(jobs):
        if done.status is JobStatus.CRASHED:
            raise RuntimeError(f"the process died: {done.error}")
        if done.status is JobStatus.RAISED:
            raise RuntimeError(f"the scorer raised: {done.error}")
        value = float(done.value) if done.status is JobStatus.DONE else 0.0
        results.append(RewardResult(value, Outcome.SCORED if done.status is JobStatus.DONE else Outcome.TIMEOUT))
    return results


@dataclass(frozen=True)
class Arguments:
    """Audit peers."""

    out: Path = Path("build/audit_peers.json")
    """Where the reports go."""
    families: tuple[str, ...] = FAMILIES
    """Which families."""
    problems: int = 2
    """Problems of each."""
    kinds: tuple[str, ...] = ("own", "strict")
    """The package's score, the strict reward, or both."""


def main(arguments: Arguments) -> None:
    """Audit and write."""
    reports = {"reasoning-gym": importlib.metadata.version("reasoning-gym"), "own": {}, "strict": {}}
    for family in arguments.families:
        task = find_task(f"reasoning_gym/{family}-v0")[0]
        register_task(f"own/{family}-v0", reward=own_score)(task.sampler)
        for kind, id in (("own", f"own/{family}-v0"), ("strict", f"reasoning_gym/{family}-v0")):
            if kind not in arguments.kinds:
                continue
            started = time.perf_counter()
            try:
                report = audit_task(id, problems=arguments.problems)
                reports[kind][family] = report.as_json()
                failed = {row.name: row.detail[:80] for row in report.rows if row.verdict is Verdict.FAIL}
                print(f"{id:40} {time.perf_counter() - started:5.1f} s {failed}", flush=True)
            except Exception as error:  # noqa: BLE001 (one family that fails must not end the others)
                reports[kind][family] = {"error": f"{type(error).__name__}: {error}"[:300]}
                print(f"{id:40} {reports[kind][family]}", flush=True)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(reports, indent=1) + "\n")
    for kind in ("own", "strict"):
        counts = Counter(
            row["name"]
            for report in reports[kind].values()
            for row in report.get("rows", ())
            if row["verdict"] == "fail"
        )
        print(kind, len(reports[kind]), "families; failing rows:", dict(counts.most_common()))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
