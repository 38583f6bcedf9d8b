from __future__ import annotations

import gzip
import json
import sys
import types
from collections import Counter
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from agents import GRPOAgent, GRPOConfig
from agents.envs import epoch_seeds, make_envs, num_problems
from agents.evaluation.held_out import distinct_problem_seeds
from llm_envs import Problem, register_dataset
from llm_envs.audit import audit_task
from llm_envs.datasets import register_problems
from llm_envs.problem import BadRow
from llm_envs.stream import FiniteStream
from llm_envs.task import find_task
from llm_envs.tasks.hub import load_from_hub
from rewards.exact import ExactTextReward
from rewards.math import MathReward

DATA = Path(__file__).parent / "data"
ROWS = [{"question": f"What is {n} + 1?", "answer": str(n + 1), "work": f"\\boxed{{{n + 1}}}"} for n in range(50)]
ID = "test/Rows-v0"


@pytest.fixture(autouse=True)
def forgotten():
    """Tasks of these tests are forgotten afterwards."""
    before = set(gymnasium.registry)
    yield
    for new in set(gymnasium.registry) - before:
        del gymnasium.registry[new]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def register(source, **kwargs):
    register_dataset(ID, source, **{"prompt": "question", "reference": "answer", **kwargs})


def prompts(split="train", count=None, **kwargs):
    stream = find_task(ID)[0].problems(split=split, **kwargs)
    return [stream.draw(seed).prompt for seed in range(count or stream.num_problems)]


# --- visiting ---------------------------------------------------------------------------------------------------------


def test_the_seeds_from_0_visit_each_row_once():
    register(ROWS)
    seen = prompts("train") + prompts("test")
    assert sorted(seen) == sorted(f"{row['question']} Put your final answer in \\boxed{{}}." for row in ROWS)
    assert prompts("test")
    n = gymnasium.make(ID).unwrapped.num_problems
    stream = find_task(ID)[0].problems()
    assert [stream.draw(10**12 * n + i).prompt for i in range(n)] == prompts("train")


def test_a_stream_visits_each_row_once_before_it_repeats_one():
    register(ROWS)
    env = gymnasium.make(ID)
    n = env.unwrapped.num_problems
    drawn = [env.reset(seed=11)[0]] + [env.reset()[0] for _ in range(3 * n - 1)]
    epochs = [drawn[i : i + n] for i in range(0, 3 * n, n)]
    assert all(len(set(epoch)) == n for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    again = gymnasium.make(ID)
    assert drawn == [again.reset(seed=11)[0]] + [again.reset()[0] for _ in range(3 * n - 1)]


def test_draws_are_a_function_of_seed_and_index_in_whatever_order():
    problems = [Problem(str(n), reference=str(n)) for n in range(40)]
    stream = FiniteStream(problems, MathReward())
    pairs = [(seed, index) for seed in range(5) for index in range(60)]
    forwards = [stream.draw(*pair).prompt for pair in pairs]
    backwards = [FiniteStream(problems, MathReward()).draw(*pair).prompt for pair in reversed(pairs)]
    assert forwards == backwards[::-1]
    with pytest.raises(ValueError, match="must not be negative"):
        stream.draw(-1)


def test_epochs_of_seeds():
    seeds = epoch_seeds(7, 0, 21, seed=3)
    assert [sorted(seeds[i : i + 7]) for i in (0, 7, 14)] == [list(range(7))] * 3
    assert seeds[:7] != seeds[7:14]
    assert seeds == [seed for start in range(0, 21, 3) for seed in epoch_seeds(7, start, 3, seed=3)]
    assert seeds != epoch_seeds(7, 0, 21, seed=4)
    assert Counter(epoch_seeds(3, 1, 8, seed=0)).most_common()[0][1] == 3  # more than an epoch at once


def test_evaluation_visits_each_row_once():
    register(ROWS)
    seeds = distinct_problem_seeds(ID, 1000, split="test")
    visited = prompts("test")
    assert sorted(seeds) == list(range(len(visited)))
    assert len(distinct_problem_seeds(ID, 3, split="test")) == 3
    assert seeds != distinct_problem_seeds(ID, 1000, seed=1, split="test")


@pytest.mark.parametrize("refills", [0, 1])
def test_training_visits_each_row_once_in_an_epoch(micro_policy, tmp_path, refills):
    register(ROWS[:20], split="none")
    config = GRPOConfig(prompts_per_update=5, group_size=2, max_completion_tokens=4, minibatches=1, max_refills=refills)
    visited = []

    class Watching(GRPOAgent):
        def _sample(self):
            rollouts = super()._sample()
            visited.extend(rollout.prompt for rollout in rollouts[:: config.group_size])
            return rollouts

    agent = Watching(micro_policy, ID, config=config, seed=1)
    agent.learn(20)
    agent.save(tmp_path / "agent")
    resumed = Watching.load(tmp_path / "agent", device="cpu")
    resumed.learn(60)
    epochs = [visited[i : i + 20] for i in range(0, len(visited) - 19, 20)]
    assert len(visited) == 30 * (1 + refills)
    assert epochs
    assert all(len(set(epoch)) == 20 for epoch in epochs)


def test_copies_and_wrappers_know_how_many_there_are():
    register(ROWS)
    count = gymnasium.make(ID).unwrapped.num_problems
    assert num_problems(make_envs(ID, 2)) == count
    spec = gymnasium.wrappers.TransformReward(gymnasium.make(ID), lambda reward: reward).spec
    assert num_problems(make_envs(spec, 2)) == count
    assert num_problems(make_envs("llm_envs/Arithmetic-v0", 2)) is None


# --- where rows come from ---------------------------------------------------------------------------------------------


def sources(tmp_path):
    write(tmp_path / "rows.jsonl", ROWS)
    with gzip.open(tmp_path / "rows.jsonl.gz", "wt") as file:
        file.write((tmp_path / "rows.jsonl").read_text())
    return [ROWS, tuple(ROWS), tmp_path / "rows.jsonl", str(tmp_path / "rows.jsonl"), tmp_path / "rows.jsonl.gz"]


def test_all_sources_give_the_same_problems(tmp_path):
    found = []
    for i, source in enumerate(sources(tmp_path)):
        register_dataset(f"test/Source{i}-v0", source, prompt="question", reference="answer", solution="work")
        stream = find_task(f"test/Source{i}-v0")[0].problems()
        found.append([(p.prompt, p.reference, p.solution) for p in map(stream.draw, range(stream.num_problems))])
    assert all(problems == found[0] for problems in found)


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="it comes with the extra 'parquet'")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet", row_group_size=7)
    register(tmp_path / "rows.parquet")
    assert len(prompts("train")) + len(prompts("test")) == 50
    bad = [*ROWS[:11], {"question": "", "answer": "1", "work": ""}]
    parquet.write_table(pyarrow.Table.from_pylist(bad), tmp_path / "rows.parquet", row_group_size=7)
    with pytest.raises(BadRow, match=r"rows.parquet, row 11, column 'question': is empty"):
        gymnasium.make(ID)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(ValueError, match="not a Parquet file"):
        gymnasium.make(ID)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "rows.parquet").write_bytes(b"")
    register(tmp_path / "rows.parquet")
    with pytest.raises(ModuleNotFoundError, match=r"llm-envs\[parquet\]"):
        gymnasium.make(ID)


def test_a_dataset_of_the_package_datasets():
    datasets = pytest.importorskip("datasets", reason="it comes with the extra 'parity'")
    register(datasets.Dataset.from_list(ROWS))
    assert len(prompts("train")) + len(prompts("test")) == 50
    both = datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS[:40]), test=datasets.Dataset.from_list(ROWS[40:]))
    register_dataset("test/Both-v0", both, prompt="question", reference="answer")
    assert gymnasium.make("test/Both-v0", split="test").unwrapped.num_problems == 10


def test_tables_for_each_split(tmp_path):
    register({"train": ROWS[:40], "test": write(tmp_path / "held_out.jsonl", ROWS[40:])})
    assert [len(prompts("train")), len(prompts("test"))] == [40, 10]
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "train-00000-of-00002.jsonl", ROWS[:10])
    write(folder / "train-00001-of-00002.jsonl", ROWS[10:30])
    write(folder / "test.jsonl", ROWS[30:])
    write(folder / "training_notes.jsonl", [{}])
    register_dataset("test/Folder-v0", folder, prompt="question", reference="answer")
    assert gymnasium.make("test/Folder-v0").unwrapped.num_problems == 30
    assert gymnasium.make("test/Folder-v0", split="test").unwrapped.num_problems == 20


@pytest.mark.parametrize(("split", "train", "test"), [("all", 0, 50), ("none", 50, 0), ("side", 30, 20)])
def test_which_rows_are_held_out(split, train, test):
    register([{**row, "side": "train" if i < 30 else "test"} for i, row in enumerate(ROWS)], split=split)
    for name, count in (("train", train), ("test", test)):
        if count:
            assert len(prompts(name)) == count
        else:
            with pytest.raises(ValueError, match=f"none of 50 problems belongs to the split '{name}'"):
                gymnasium.make(ID, split=name)


def test_the_order_of_rows_and_new_rows_move_none():
    register(ROWS)
    before = set(prompts("test"))
    register_dataset(
        "test/More-v0", [*ROWS[::-1], {"question": "What?", "answer": "1"}], prompt="question", reference="answer"
    )
    stream = find_task("test/More-v0")[0].problems(split="test")
    assert before <= {stream.draw(seed).prompt for seed in range(stream.num_problems)}


def test_columns_may_be_functions_and_the_instruction_is_ours_to_choose():
    register(
        ROWS,
        prompt=lambda row: row["question"].upper(),
        reference=lambda row: int(row["answer"]),
        solution=lambda row: f"It is {row['work']}",
        instruction="",
    )
    problem = find_task(ID)[0].problems().draw(0)
    assert problem.prompt.startswith("WHAT IS ")
    assert problem.prompt.endswith("?")
    assert isinstance(problem.reference, int)
    assert problem.solution == f"It is \\boxed{{{problem.reference}}}"
    register_dataset("test/Exact-v0", ROWS, prompt="question", reference="answer", reward=ExactTextReward())
    assert "boxed" in gymnasium.make("test/Exact-v0").reset(seed=0)[0]


def test_a_file_that_has_changed_is_read_again(tmp_path):
    file = write(tmp_path / "rows.jsonl", ROWS[:10])
    register(file, split="none")
    assert len(prompts("train")) == 10
    write(file, ROWS)
    assert len(prompts("train")) == 50


def test_the_audit_and_the_environment_work(tmp_path):
    register(ROWS, solution="work", check=True)
    report = audit_task(ID, problems=8)
    assert report.passed, str(report)
    env = gymnasium.make(ID, prompt_template="Q: {prompt}")
    prompt, _ = env.reset(seed=0)
    assert prompt.startswith("Q: What is ")
    assert env.step(f"\\boxed{{{env.unwrapped.problem.reference}}}")[1] == 1.0
    with pytest.raises(TypeError, match="has no argument 'level'"):
        gymnasium.make(ID, level=1)
    assert find_task(ID)[0].module == __name__  # so that another process can import it
    assert find_task(ID)[0].sampler(np.random.default_rng(0)).prompt.startswith("What")


# --- what is wrong with a row -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "kwargs", "message"),
    [
        ({"answer": "1"}, {}, r"row 3: has no column 'question' for the prompt; it has \['answer'\]"),
        ({"question": "What?"}, {}, "row 3: has no column 'answer' for the reference"),
        ({"question": "What?", "answer": "1"}, {"solution": "work"}, "row 3: has no column 'work' for the solution"),
        ({"question": "  ", "answer": "1"}, {}, "row 3, column 'question': is empty"),
        ({"question": None, "answer": "1"}, {}, "row 3, column 'question': expected a text, got None"),
        ({"question": 5, "answer": "1"}, {}, "row 3, column 'question': expected a text, got 5"),
        ({"question": "What?", "answer": ""}, {}, "row 3, column 'answer': is empty"),
        ({"question": "What?", "answer": None}, {}, "row 3, column 'answer': is empty"),
        ({"question": "What?", "answer": "))(("}, {}, "row 3, column 'answer': the reference"),
        ({"question": "What?", "answer": 1.5}, {}, "row 3, column 'answer': the reference must be"),
        ({"question": "What is 1 + 1?", "answer": "2"}, {}, "row 3: asks the same as row 1"),
        ({"question": "What is 1 + 1? \r\n", "answer": "2"}, {}, "row 3: asks the same as row 1"),
        (
            {"question": "What?", "answer": "0"},
            {"reference": lambda row: 6 // int(row["answer"])},
            "row 3: the function",
        ),
        ({}, {"prompt": lambda row: row["question"]}, "row 3: the function for the prompt failed: KeyError"),
        (
            {"question": "What?", "answer": "1", "side": "dev"},
            {"split": "side"},
            "row 3, column 'side': expected one of",
        ),
        (["no", "mapping"], {}, "row 3: expected a mapping, got list"),
    ],
)
def test_a_bad_row_is_named(row, kwargs, message):
    good = [{**good, "side": "train"} for good in ROWS[:3]]
    register([*good, row, *ROWS[5:8]], **kwargs)
    with pytest.raises(BadRow, match=message):
        gymnasium.make(ID)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "line 4: expected an object, got an empty line"),
        ("[1]", "line 4: expected an object, got list"),
        ("{", "line 4: not JSON"),
        ('{"question": "What?"}', "line 4: has no column 'answer'"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    file = write(tmp_path / "rows.jsonl", ROWS[:3])
    file.write_text(file.read_text() + line + "\n" + json.dumps(ROWS[4]) + "\n")
    register(file)
    with pytest.raises(BadRow, match=f"rows.jsonl, {message}"):
        gymnasium.make(ID)


def test_bad_rows_may_be_left_out():
    register([*ROWS, {"question": "What?", "answer": ""}, ROWS[0]], skip_bad_rows=True, split="none")
    assert len(prompts("train")) == 50
    register_dataset("test/None-v0", [{"question": ""}], prompt="question", reference="answer", skip_bad_rows=True)
    with pytest.raises(ValueError, match="no rows that can be used; the first error: row 0"):
        gymnasium.make("test/None-v0")


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("/nowhere/rows.jsonl", FileNotFoundError, "there is no file"),
        ([], ValueError, "no rows"),
        ({"dev": []}, ValueError, "a table for each split"),
        ({}, ValueError, "a table for each split"),
        (3, TypeError, "expected a path"),
        (b"rows", TypeError, "expected a path"),
    ],
)
def test_sources_that_are_none(source, error, message):
    register(source)
    with pytest.raises(error, match=message):
        gymnasium.make(ID)


def test_files_that_are_none(tmp_path):
    (tmp_path / "rows.xlsx").write_text("a,b")
    (tmp_path / "rows.jsonl.gz").write_bytes(b"no gzip")
    (tmp_path / "empty").mkdir()
    for i, (name, error, message) in enumerate(
        [
            ("rows.xlsx", ValueError, "none of the files that are read"),
            ("rows.jsonl.gz", ValueError, "not a whole gzip file"),
            ("empty", FileNotFoundError, "no file named train or test"),
        ]
    ):
        register_dataset(f"test/File{i}-v0", tmp_path / name, prompt="question", reference="answer")
        with pytest.raises(error, match=message):
            gymnasium.make(f"test/File{i}-v0")
    with pytest.raises(TypeError, match="reward must be callable"):
        register_problems("test/NoReward-v0", reward=3)


# --- GSM8K and MATH ---------------------------------------------------------------------------------------------------


def test_gsm8k_from_a_local_copy():
    env = gymnasium.make("llm_envs/GSM8K-v0", path=str(DATA / "gsm8k_format"), split="test")
    assert env.unwrapped.num_problems == 8
    everything = [env.reset(seed=seed) and env.unwrapped.problem for seed in range(8)]
    for problem in everything:
        assert "<<" not in problem.solution
        assert problem.solution.endswith(f"\\boxed{{{problem.reference}}}")
        assert "," not in problem.reference
    single = gymnasium.make(
        "llm_envs/GSM8K-v0", path=str(DATA / "gsm8k_format" / "test.jsonl"), held_out="all", split="test"
    )
    assert single.unwrapped.num_problems == 8


def test_math_from_a_local_copy(tmp_path):
    env = gymnasium.make("llm_envs/MATH-v0", path=str(DATA / "math_format"))
    references = {
        env.reset(seed=seed) and env.unwrapped.problem.reference for seed in range(env.unwrapped.num_problems)
    }
    assert any("frac" in reference for reference in references)
    file = write(tmp_path / "math.jsonl", [{"problem": "What?", "solution": "It is four."}])
    with pytest.raises(BadRow, match=r"math.jsonl, line 1: the function for the reference failed: .* no \\boxed"):
        gymnasium.make("llm_envs/MATH-v0", path=str(file))


def test_a_row_of_gsm8k_without_its_mark_is_named(tmp_path):
    file = write(tmp_path / "gsm8k.jsonl", [{"question": "What?", "answer": "4"}])
    with pytest.raises(BadRow, match=r"line 1: .* ValueError: .* no ####"):
        gymnasium.make("llm_envs/GSM8K-v0", path=str(file))


@pytest.mark.parametrize("env_id", ["llm_envs/GSM8K-v0", "llm_envs/MATH-v0"])
def test_without_a_path_the_hub_is_asked(env_id, monkeypatch):
    load_from_hub.cache_clear()
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install datasets, or pass path="):
        gymnasium.make(env_id)

    def offline(name, config):
        raise ConnectionError("no network")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=offline))
    with pytest.raises(FileNotFoundError, match=r"could not load .*ConnectionError: no network\); pass path="):
        gymnasium.make(env_id)

    folder = DATA / ("gsm8k_format" if "GSM" in env_id else "math_format")
    tables = {name: [json.loads(line) for line in (folder / f"{name}.jsonl").open()] for name in ("train", "test")}
    tables["validation"] = []
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=lambda name, config: tables))
    assert gymnasium.make(env_id, split="test").unwrapped.num_problems == len(tables["test"])
    load_from_hub.cache_clear()
