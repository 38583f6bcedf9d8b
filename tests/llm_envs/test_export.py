from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace

import gymnasium
import pytest

from llm_envs import Problem, export, register_dataset, register_task
from llm_envs.audit import Verdict, audit_task
from llm_envs.export import SEED_COLUMN, from_trl, from_verl, text_of, to_trl, to_verl, verl_score
from llm_envs.task import find_task
from rewards import Outcome

ARITHMETIC = "llm_envs/Arithmetic-v0"


@pytest.fixture(autouse=True)
def forgotten():
    """Tasks of these tests are forgotten afterwards."""
    before = set(gymnasium.registry)
    yield
    for new in set(gymnasium.registry) - before:
        del gymnasium.registry[new]


# --- rewards from elsewhere -------------------------------------------------------------------------------------------


def exact(prompts, completions, answer, **kwargs):
    """A reward function in TRL's style."""
    return [1.0 if c.strip() == a else 0.5 if a in c else None if not c else 0.0 for c, a in zip(completions, answer)]  # noqa: B905


def exact_messages(completions, answer, **kwargs):
    return [float(c[0]["content"] == a) for c, a in zip(completions, answer, strict=True)]


@pytest.mark.parametrize("references", [["4", "4", "4", "4"], [{"answer": "4"}] * 4])
def test_a_trl_function_as_a_reward(references):
    results = from_trl(exact)(["?"] * 4, ["4", "It is 4", "5", ""], references)
    assert [r.reward for r in results] == [1.0, 0.5, 0.0, 0.0]
    assert [r.outcome for r in results] == [Outcome.CORRECT, Outcome.PARTIAL, Outcome.WRONG, Outcome.NO_ANSWER]
    results = from_trl(exact_messages, conversational=True)(["?"] * 4, ["4", "It is 4", "5", ""], references)
    assert [r.reward for r in results] == [1.0, 0.0, 0.0, 0.0]


def test_trl_functions_that_do_not_fit():
    with pytest.raises(ValueError, match="returned 1 rewards for 2 completions"):
        from_trl(lambda prompts, completions, **kwargs: [1.0])(["?"] * 2, ["a", "b"], ["a", "b"])
    with pytest.raises(ValueError, match="same columns"):
        from_trl(exact)(["?"] * 2, ["a", "b"], [{"answer": "a"}, {"other": "b"}])
    with pytest.raises(ValueError, match="finite"):
        from_trl(lambda prompts, completions, **kwargs: [float("nan")])(["?"], ["a"], ["a"])


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    """A reward function in verl's style."""
    score = float(solution_str == ground_truth) * (extra_info or {}).get("scale", 1.0)
    return {"score": score, "length": len(solution_str), "source": data_source} if data_source else score


def test_a_verl_function_as_a_reward():
    results = from_verl(compute_score)(["?"] * 2, ["4", "5"], ["4", {"ground_truth": "4"}])
    assert [(r.reward, r.outcome) for r in results] == [(1.0, Outcome.CORRECT), (0.0, Outcome.WRONG)]
    reference = {"ground_truth": "4", "extra_info": {"scale": 0.5}}
    [result] = from_verl(compute_score, data_source="openai/gsm8k")(["?"], ["4"], [reference])
    assert (result.reward, result.outcome, result.metrics) == (0.5, Outcome.PARTIAL, {"length": 1.0})
    [result] = from_verl(compute_score)(["?"], ["4"], [{"ground_truth": "4", "data_source": "x"}])
    assert result.metrics == {"length": 1.0}
    with pytest.raises(ValueError, match="without 'score'"):
        from_verl(lambda **kwargs: {"points": 1})(["?"], ["4"], ["4"])


def test_such_a_reward_can_be_audited():
    @register_task("test/Trl-v0", reward=from_trl(exact))
    def task(rng):
        n = int(rng.integers(1000))
        return Problem(f"What is {n} + 1?", reference=str(n + 1), solution=str(n + 1))

    report = audit_task("test/Trl-v0", problems=10)
    assert report.row("answer inside a larger one").verdict is Verdict.FAIL
    assert report.row("partial rewards").verdict is Verdict.WARN


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("a", "a"),
        ([{"role": "assistant", "content": "a"}], "a"),
        ([{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}], "a"),
        ([{"role": "assistant", "content": None}], ""),
        ([{"role": "assistant", "content": "a"}, {"role": "tool", "content": "\\boxed{4}"}], "a"),
        ([{"role": "system", "content": "b"}, {"content": "a"}], "a"),
        ([], ""),
    ],
)
def test_texts_of_messages(message, text):
    assert text_of(message) == text
    with pytest.raises(TypeError, match="expected a text"):
        text_of(3)


# --- tasks for elsewhere ----------------------------------------------------------------------------------------------


def test_without_datasets_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install datasets"):
        to_trl(ARITHMETIC)


@pytest.fixture
def datasets():
    return pytest.importorskip("datasets", reason="it comes with the extra 'parity'")


def test_a_task_as_a_data_set_and_a_function(datasets):
    rows, reward = to_trl(ARITHMETIC, problems=20, operands=2)
    assert rows.column_names == ["prompt", SEED_COLUMN]
    assert reward.__name__ == ARITHMETIC
    stream = find_task(ARITHMETIC)[0].problems(operands=2)
    solutions = [stream.draw(seed).solution for seed in rows[SEED_COLUMN]]
    assert [row[0]["content"] for row in rows["prompt"]] == [stream.draw(seed).prompt for seed in rows[SEED_COLUMN]]
    completions = [[{"role": "assistant", "content": text}] for text in solutions]
    assert reward(prompts=rows["prompt"], completions=completions, problem_seed=rows[SEED_COLUMN]) == [1.0] * 20
    assert (
        reward(prompts=rows["prompt"], completions=[""] * 20, problem_seed=rows[SEED_COLUMN], other=[1] * 20)
        == [0.0] * 20
    )
    plain, _ = to_trl(ARITHMETIC, problems=20, operands=2, conversational=False)
    assert plain["prompt"][3] == rows["prompt"][3][0]["content"]
    assert to_trl(ARITHMETIC, problems=20, seed=1)[0]["prompt"] != to_trl(ARITHMETIC, problems=20)[0]["prompt"]


def test_a_finite_task_gives_each_problem_once(datasets):
    table = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(30)]
    register_dataset("test/Rows-v0", table, prompt="question", reference="answer", split="none")
    rows, _ = to_trl("test/Rows-v0", conversational=False)
    assert len(rows) == len(set(rows["prompt"])) == 30


def test_mistakes(datasets):
    with pytest.raises(ValueError, match="at least 1"):
        to_trl(ARITHMETIC, problems=0)
    with pytest.raises(TypeError, match="register_task"):
        to_trl("CartPole-v1")
    with pytest.raises(TypeError, match="no argument 'operand'"):
        to_trl(ARITHMETIC, operand=2)
    _, reward = to_trl(ARITHMETIC, problems=1)
    with pytest.raises(ValueError, match="no column 'problem_seed'"):
        reward(prompts=["?"], completions=["4"])


def test_trl_trains_on_it(tmp_path, micro_policy):
    pytest.importorskip("trl", reason="TRL is not installed; it comes with the extra 'parity'")
    pytest.importorskip("datasets", reason="TRL's trainers import datasets; it comes with the extra 'parity'")
    from trl import GRPOConfig, GRPOTrainer

    rows, reward = to_trl(ARITHMETIC, problems=8)
    seen = []

    def watched(**kwargs):
        seen.append((kwargs["problem_seed"], kwargs["completions"], reward(**kwargs)))
        return [value + 0.01 * i for i, value in enumerate(seen[-1][2])]  # so that there is something to learn

    config = GRPOConfig(
        output_dir=str(tmp_path),
        max_steps=2,
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=8,
        learning_rate=1e-3,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1,
    )
    before = {name: tensor.clone() for name, tensor in micro_policy.model.state_dict().items()}
    trainer = GRPOTrainer(
        micro_policy.model, watched, args=config, train_dataset=rows, processing_class=micro_policy.tokenizer
    )
    trainer.train()
    assert trainer.state.global_step == 2
    assert len(seen) == 2
    assert all(len(values) == 4 and set(values) <= {0.0, 1.0} for _, _, values in seen)
    assert any(not tensor.equal(before[name]) for name, tensor in micro_policy.model.state_dict().items())


# --- verl -------------------------------------------------------------------------------------------------------------


def loaded(file):
    """The function of a file as verl loads it."""
    spec = importlib.util.spec_from_file_location("custom_module", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.compute_score


@pytest.mark.parametrize(
    ("id", "kwargs"),
    [(ARITHMETIC, {"operands": 2}), ("llm_envs/Countdown-v0", {}), ("llm_envs/Equations-v0", {"kind": "linear"})],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_task_is_given_to_verl(id, kwargs, split, tmp_path):
    datasets = pytest.importorskip("datasets")
    table, file = to_verl(id, tmp_path / "data", problems=5, split=split, **kwargs)
    assert (table.name, file.name) == (f"{split}.parquet", "compute_score.py")
    rows = datasets.Dataset.from_parquet(str(table), cache_dir=str(tmp_path / "cache"))
    assert set(rows.column_names) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
    compute_score = loaded(file)
    task, arguments = find_task(id, kwargs)
    stream = task.problems(split=split, **arguments)
    for row in rows:
        problem = stream.draw(row["extra_info"][SEED_COLUMN])
        assert row["prompt"] == [{"role": "user", "content": problem.prompt}]
        assert row["data_source"] == id
        given = {"ground_truth": row["reward_model"]["ground_truth"], "extra_info": row["extra_info"]}
        found = compute_score(data_source=row["data_source"], solution_str=problem.solution, **given, more=1)
        assert found == {"score": 1.0, "acc": 1.0}
        assert compute_score(row["data_source"], "I do not know.", **given) == {"score": 0.0, "acc": 0.0}


def rows_of(table):
    datasets = pytest.importorskip("datasets")
    return list(datasets.Dataset.from_parquet(str(table), cache_dir=str(table.parent / "cache" / table.stem)))


def test_one_folder_holds_several_tasks_and_arguments(tmp_path):
    pytest.importorskip("datasets")
    made = []
    for i, (id, kwargs) in enumerate(
        [(ARITHMETIC, {"operands": 2}), (ARITHMETIC, {"operands": 5}), ("llm_envs/Countdown-v0", {}),
         ("llm_envs/Equations-v0", {"kind": "linear"}), ("llm_envs/Equations-v0", {"kind": "quadratic"})]
    ):  # fmt: skip
        for split in ("train", "test"):
            table, file = to_verl(id, tmp_path, problems=2, split=split, **kwargs)
            made.append((id, kwargs, split, table.rename(tmp_path / f"{split}{i}.parquet")))
    compute_score = loaded(file)  # the last one for all
    for id, kwargs, split, table in made:
        task, arguments = find_task(id, kwargs)
        stream = task.problems(split=split, **arguments)
        for row in rows_of(table):
            problem = stream.draw(row["extra_info"][SEED_COLUMN])
            assert row["prompt"][0]["content"] == problem.prompt
            for text, paid in [(problem.solution, 1.0), ("I do not know.", 0.0)]:
                assert compute_score(row["data_source"], text, "", row["extra_info"])["score"] == paid


class Template:
    """A tokenizer of which only the chat template is asked."""

    all_special_ids = ()
    chat_template = "there is one"

    def __init__(self, generation_prompt):
        self.generation_prompt = generation_prompt

    def get_added_vocab(self):
        return {}

    def __call__(self, text, add_special_tokens):
        return {"input_ids": []}

    def apply_chat_template(self, conversation, tokenize, add_generation_prompt):
        text = "".join(f"<|{turn['role']}|>{turn['content']}" for turn in conversation)
        return text + self.generation_prompt * add_generation_prompt


@pytest.mark.parametrize(
    ("generation_prompt", "opened"),
    [("<|assistant|>", ""), ("<|assistant|><think>\n", "<think>\n"), ("<|assistant|><think>\n\n</think>\n\n", ""),
     ("<|assistant|><think>\nOkay,", "<think>\nOkay,"), ("<|assistant|>[THINK]", "[THINK]")],
)  # fmt: skip
def test_verl_is_told_that_the_template_opens_the_reasoning(generation_prompt, opened, tmp_path):
    pytest.importorskip("datasets")
    table, file = to_verl(ARITHMETIC, tmp_path, problems=1, tokenizer=Template(generation_prompt))
    [row] = rows_of(table)
    assert row["extra_info"]["opened_reasoning"] == opened
    solution = find_task(ARITHMETIC)[0].problems().draw(row["extra_info"][SEED_COLUMN]).solution
    closing = opened[:1] + "/" + opened[1:].partition("\n")[0]
    found = [
        loaded(file)("", text, "", row["extra_info"])["score"] for text in (f"hm {solution}", f"hm{closing}{solution}")
    ]
    assert found == ([0.0, 1.0] if opened else [1.0, found[1]])
    plain, _ = to_verl(ARITHMETIC, tmp_path, problems=1)
    assert rows_of(plain.rename(tmp_path / "plain.parquet"))[0]["extra_info"]["opened_reasoning"] == ""


def test_a_task_of_ones_own_is_found_where_verl_runs(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    (tmp_path / "own_tasks_for_verl.py").write_text(
        "from llm_envs import Problem, register_task\nfrom rewards import MathReward\n\n"
        "@register_task('demo/Double-v0', reward=MathReward())\ndef double(rng, high: int = 100):\n"
        "    n = int(rng.integers(high))\n    return Problem(f'2 * {n}?', reference=str(2 * n))\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("own_tasks_for_verl")
    table, _ = to_verl("demo/Double-v0", tmp_path, problems=1, high=10)
    row = datasets.Dataset.from_parquet(str(table), cache_dir=str(tmp_path / "cache"))[0]
    answer = 2 * int(row["prompt"][0]["content"].removeprefix("2 * ").rstrip("?"))
    program = (
        "import json, sys; from compute_score import compute_score\n"
        f"print(compute_score('', '\\\\boxed{{{answer}}}', '', json.loads(sys.argv[1])))"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(row["extra_info"])],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "{'score': 1.0, 'acc': 1.0}\n", done.stderr


def test_what_verl_cannot_be_given_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        to_verl(ARITHMETIC, tmp_path, problems=0)
    with pytest.raises(TypeError, match="several turns"):
        to_verl("llm_envs/GuessNumber-v0", tmp_path)
    with pytest.raises(ValueError, match="extra_info must have task, module, arguments, split"):
        verl_score("4", {"index": 3, "split": "train", SEED_COLUMN: 0})
    with pytest.raises(ValueError, match="extra_info must have task"):
        verl_score("4", None)
    (tmp_path / "compute_score.py").write_text("def compute_score(): return 3", encoding="utf-8")
    with pytest.raises(FileExistsError, match="not of to_verl"):
        to_verl(ARITHMETIC, tmp_path, problems=1)
    assert [path.name for path in tmp_path.iterdir()] == ["compute_score.py"]
    monkeypatch.setattr(export, "find_task", lambda *_: (replace(find_task(ARITHMETIC)[0], module="__main__"), {}))
    with pytest.raises(ValueError, match="put it into a module"):
        to_verl(ARITHMETIC, tmp_path)
