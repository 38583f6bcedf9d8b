"""`llm-envs train --engine vllm --server URL`, with a server that behaves as vLLM's."""

from __future__ import annotations

import json

import pytest
import yaml

from agents import load_policy
from agents.cli.app import run
from agents.cli.train import read_options
from tests.agents.engines.fake_vllm import FakeVLLM, serving

SMALL = [
    "--prompts-per-update", "4", "--group-size", "4", "--max-completion-tokens", "24", "--eval-problems", "3",
    "--eval-samples", "2", "--device", "cpu", "--checkpoint-every", "1", "--max-staleness", "1",
]  # fmt: skip


@pytest.fixture
def fake():
    return FakeVLLM(load_policy("builtin/tiny", device="cpu"))


def test_a_run_with_a_server_that_is_lost_goes_on(fake, tmp_path, capsys):
    straight, lost = tmp_path / "straight", tmp_path / "lost"
    server = ["--engine", "vllm", "--engine-args", "patience=0.2", "--server"]
    with serving(fake) as url:
        assert run(["train", *SMALL, *server, url, "--total-episodes", "48", "--run-dir", str(straight)]) == 0
        callback = ["--callback", "tests.agents.cli.test_engine_options:EndsServer"]
        EndsServer.fake = fake
        assert run(["train", *SMALL, *server, url, *callback, "--total-episodes", "48", "--run-dir", str(lost)]) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "does not answer" in error
    assert "go on from the last checkpoint" in error
    assert "Traceback" not in error
    assert "--help" not in error
    EndsServer.fake = None
    fake.lose = 0
    with serving(fake) as url:  # at another address
        assert run(["train", "--resume", "--run-dir", str(lost), "--server", url]) == 0
    metrics = [[json.loads(line) for line in (folder / "metrics.jsonl").open()] for folder in (straight, lost)]
    for row in (*metrics[0], *metrics[1]):
        for name in ("seconds_rollout", "seconds_update", "tokens_per_second"):
            del row[name]
    assert metrics[0] == metrics[1]
    assert "sampler_truncated" in metrics[0][1]
    assert json.loads((straight / "config.json").read_text())["engine_args"] == {"patience": 0.2}


class EndsServer:
    """Loses the server after the first update."""

    fake: FakeVLLM | None = None

    def __call__(self, record):
        if self.fake is not None and record.update == 1:
            self.fake.lose = 10**6


def test_options_from_a_file(tmp_path):
    file = tmp_path / "options.yaml"
    options = {"engine": "vllm", "server": "http://host:1", "engine_args": {"timeout": 5, "weights_dir": "/shared"}}
    file.write_text(yaml.safe_dump(options))
    train = read_options(["--config", str(file)]).train
    assert (train.engine, train.server) == ("vllm", "http://host:1")
    assert train.engine_args == ("timeout=5", "weights_dir='/shared'")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--server", "http://localhost:1"], "server is for --engine vllm, and the engine is auto"),
        (["--engine-args", "max_length=2"], "engine_args is for --engine vllm"),
        (["--engine", "vllm", "--server", "localhost:1"], "must begin with http://"),
        (["--engine", "vllm", "--server", "http://h", "--engine-args", "patients=0"], "'patients'"),
        (
            ["--engine", "vllm", "--server", "http://h", "--engine-args", "patience"],
            "an argument is written name=value",
        ),
        (["--max-staleness", "1"], "needs an engine that generates in another process"),
        (["ppo", "--engine", "vllm"], "for agents of group-relative objectives"),
        (["--max-staleness", "2"], "max-staleness"),
    ],
)
def test_mistakes(words, message, tmp_path, capsys):
    assert run(["train", *words, "--device", "cpu", "--run-dir", str(tmp_path / "run")]) == 2
    error = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_no_server_at_the_start(tmp_path, capsys):
    words = ["--engine", "vllm", "--server", "http://127.0.0.1:9", "--engine-args", "patience=0"]
    assert run(["train", *words, "--device", "cpu", "--run-dir", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "does not answer" in error
    assert "start it, see docs/scaling.md" in error
    assert "checkpoint" not in error
    assert "--help" not in error
    assert not (tmp_path / "run").exists()
