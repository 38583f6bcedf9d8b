"""Where the rows of a table may come from, and what is wrong with those that are none."""

from __future__ import annotations

import csv
import gzip
import json
import sys
import types

import gymnasium
import pytest

from llm_envs import Problem, register_dataset
from llm_envs.datasets import register_problems
from llm_envs.problem import BadRow
from llm_envs.registration import register_task
from llm_envs.stream import FiniteStream
from llm_envs.task import find_task
from llm_envs.tasks.hub import load_from_hub
from rewards.math import MathReward

ROWS = [{"question": f'What is "{n}" + 1,\nin numbers?', "answer": str(n + 1)} for n in range(30)]
ID = "test/Tables-v0"


@pytest.fixture(autouse=True)
def forgotten():
    """Tasks of these tests are forgotten afterwards."""
    before = set(gymnasium.registry)
    yield
    for new in set(gymnasium.registry) - before:
        del gymnasium.registry[new]


def references(source, **kwargs):
    """What the problems of a source compare with, in the order of its rows."""
    gymnasium.registry.pop(ID, None)
    register_dataset(
        ID, source, **{"prompt": "question", "reference": "answer", "split": "none", "instruction": "", **kwargs}
    )
    stream = find_task(ID)[0].problems()
    return [stream.draw(seed).reference for seed in range(stream.num_problems)]


def lines(rows=ROWS):
    return "\n".join(map(json.dumps, rows))


def as_csv(rows=ROWS, delimiter=","):
    class Text(list):
        write = list.append

    text = Text()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return "".join(text)


# --- formats ----------------------------------------------------------------------------------------------------------

FILES = {
    "rows.jsonl": lines(),
    "end.jsonl": lines() + "\n",
    "blank_end.jsonl": lines() + "\n\n",
    "blank_ends.ndjson": lines() + "\n \n\t\r\n\n",
    "windows.jsonl": "\ufeff" + lines().replace("\n", "\r\n") + "\r\n\r\n",
    "list.json": json.dumps(ROWS, indent=1) + "\n\n",
    "named.json": json.dumps({"data": ROWS}),
    "lines.json": lines() + "\n\n",
    "marked.json": "\ufeff" + json.dumps(ROWS),
    "rows.csv": as_csv(),
    "blank_end.csv": as_csv() + "\r\n\r\n",
    "marked.csv": "\ufeff" + as_csv(),
    "rows.tsv": as_csv(delimiter="\t"),
    "semicolons.csv": as_csv(delimiter=";"),
    "marked_semicolons.csv": "\ufeff" + as_csv(delimiter=";"),
    "ROWS.CSV": as_csv(),
    "Rows.Tsv": as_csv(delimiter="\t"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("compressed", [False, True])
def test_every_format_gives_the_same_rows(tmp_path, name, compressed):
    file = tmp_path / (f"{name}.gz" if compressed else name)
    content = FILES[name].encode()
    file.write_bytes(gzip.compress(content) if compressed else content)
    assert references(file) == [row["answer"] for row in ROWS]
    stream = find_task(ID)[0].problems()
    assert [stream.draw(seed).prompt for seed in range(30)] == [row["question"] for row in ROWS]


@pytest.mark.parametrize("suffix", [".csv", ".json", ".tsv"])
def test_a_folder_of_any_format(tmp_path, suffix):
    write = {".csv": as_csv, ".json": json.dumps, ".tsv": lambda rows: as_csv(rows, "\t")}[suffix]
    (tmp_path / f"train{suffix}").write_text(write(ROWS[:20]))
    (tmp_path / f"test{suffix}").write_text(write(ROWS[20:]))
    assert references(tmp_path) == [row["answer"] for row in ROWS[:20]]
    assert gymnasium.make(ID, split="test").unwrapped.num_problems == 10


def test_notes_beside_the_tables_of_a_folder_are_no_tables(tmp_path):
    (tmp_path / "train.jsonl").write_text(lines())
    (tmp_path / "train_info.json").write_text('{"rows": 30}')
    assert len(references(tmp_path)) == 30


def test_a_pandas_frame():
    pandas = pytest.importorskip("pandas", reason="it comes with the extra 'parity'")
    frame = pandas.DataFrame(ROWS)
    assert references(frame) == [row["answer"] for row in ROWS]
    assert references(frame[10:]) == [row["answer"] for row in ROWS[10:]]
    numbers = frame.assign(answer=frame.answer.astype(int)).set_index("question", drop=False)
    assert list(map(str, references(numbers))) == [row["answer"] for row in ROWS]
    numbers.iloc[3, 1] = None
    with pytest.raises(BadRow, match="row 3, column 'answer': is empty"):
        references(numbers)
    assert len(references(numbers, skip_bad_rows=True)) == 29
    assert len(references({"train": frame[:20], "test": frame[20:]})) == 20
    missing = frame.astype("string")
    missing.iloc[2, 0] = pandas.NA
    with pytest.raises(BadRow, match="row 2, column 'question': expected a text, got None"):
        references(missing)


def test_tables_of_datasets_and_pyarrow():
    datasets = pytest.importorskip("datasets", reason="it comes with the extra 'parity'")
    rows = datasets.Dataset.from_list(ROWS)
    assert references(rows) == references(rows.data.table) == references(rows.to_iterable_dataset())
    with pytest.raises(ValueError, match=r"given under \('train', 'test'\), got \['train', 'validation'\]"):
        references(datasets.DatasetDict(train=rows, validation=rows))


def test_a_frame_of_polars():
    class Frame:  # its rows as polars gives them; the package is not installed here
        columns = ("question", "answer")

        def to_dicts(self):
            return ROWS

    assert references(Frame()) == [row["answer"] for row in ROWS]


@pytest.mark.parametrize("source", [3, None, b"rows", object(), 1.5])
def test_what_is_no_table(source):
    with pytest.raises(
        TypeError, match=r"expected a path, a list of mappings, a datasets.Dataset or a data frame, got"
    ):
        references(source)


# --- the hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """Replaces the package datasets; its function `load_dataset` is to be set."""
    load_from_hub.cache_clear()
    fake = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "datasets", fake)
    yield fake
    load_from_hub.cache_clear()


def test_a_data_set_by_its_name(hub):
    asked = []

    def load(name, config):
        asked.append((name, config))
        return {"train": ROWS[:20], "test": ROWS[20:]}

    hub.load_dataset = load
    assert len(references("someone/some-data.set")) == 20
    assert gymnasium.make(ID, split="test").unwrapped.num_problems == 10
    assert len(references("openai/gsm8k:main")) == 20
    assert asked == [("someone/some-data.set", None), ("openai/gsm8k", "main")]


def test_the_splits_of_a_data_set(hub):
    hub.load_dataset = lambda name, config: {"train": ROWS}
    assert len(references("a/train-only")) == 30  # of one table, the argument `split` says what is held out
    hub.load_dataset = lambda name, config: {"train": ROWS[:20], "validation": ROWS[20:25], "other": ROWS[25:]}
    references("a/validation")
    assert gymnasium.make(ID, split="test").unwrapped.num_problems == 5
    hub.load_dataset = lambda name, config: {"main": ROWS}
    with pytest.raises(ValueError, match=r"a/main has no table for training or test, but \['main'\]"):
        references("a/main")


def test_a_data_set_that_cannot_be_loaded(hub, tmp_path, monkeypatch):
    def offline(name, config):
        raise ConnectionError("no network")

    hub.load_dataset = offline
    with pytest.raises(FileNotFoundError, match=r"no file or folder data/rows, and as a data set .*no network"):
        references("data/rows")
    with pytest.raises(FileNotFoundError, match="there is no file rows"):
        references("rows")
    with pytest.raises(FileNotFoundError, match=r"there is no file data/rows.jsonl"):
        references("data/rows.jsonl")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"a/b is loaded by the package datasets, .*: pip install datasets"):
        references("a/b")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "rows").mkdir(parents=True)
    (tmp_path / "data" / "rows" / "train.jsonl").write_text(lines())
    assert len(references("data/rows")) == 30


# --- broken rows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "broken", "message"),
    [
        ("rows.jsonl", b"{", "line 4: not JSON"),
        ("rows.jsonl", b'{"question": "\xff", "answer": "1"}', "line 4: not JSON in UTF-8"),
        ("rows.jsonl", b"", "line 4: expected an object, got an empty line"),
        ("rows.jsonl", b"3", "line 4: expected an object, got int"),
        ("rows.jsonl", b"[" * 100_000, "line 4: not JSON"),
        ("rows.jsonl", b'{"question": "x", "answer": "1"} {}', "line 4: not JSON"),
        ("rows.jsonl", b'{"question": "x", "answer": NaN}', "line 4, column 'answer': is empty"),
        ("rows.jsonl", b'{"question": "\\ud800", "answer": "1"}', r"line 4, column 'question': .* lone surrogate"),
        ("rows.jsonl", b'{"question": 7, "answer": "1"}', "line 4, column 'question': expected a text, got 7"),
        ("rows.jsonl", b'{"question": null, "answer": "1"}', "line 4, column 'question': expected a text, got None"),
        ("rows.json", b"{", "line 4: not JSON"),
        ("rows.csv", b"one cell", r"line 5: has 1 cells for 2 columns"),
        ("rows.csv", b"a,b,c", r"line 5: has 3 cells for 2 columns"),
        ("rows.csv", b'"a" b,c', r"line 5: not CSV"),
        ("rows.csv", b"\xff,3", r"line 5: not UTF-8"),
        ("rows.csv", b"a,", r"line 5, column 'answer': is empty"),
        ("rows.csv", b"a," + b"9" * 200_000, r"line 5: not CSV \(field larger than field limit"),
    ],
)
def test_a_broken_line_is_named_and_may_be_left_out(tmp_path, name, broken, message):
    rows = [{"question": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(6)]
    text = as_csv(rows).replace("\r\n", "\n") if name == "rows.csv" else lines(rows) + "\n"
    at = 4 if name == "rows.csv" else 3
    whole = text.encode().split(b"\n")
    file = tmp_path / name
    file.write_bytes(b"\n".join([*whole[:at], broken, *whole[at:]]))
    with pytest.raises(BadRow, match=f"{name}, {message}"):
        references(file)
    assert references(file, skip_bad_rows=True) == [row["answer"] for row in rows]


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.jsonl", "rows.json", "rows.csv.gz"])
@pytest.mark.parametrize("byte_order", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_named_as_what_it_is(tmp_path, name, byte_order):
    content = ("\ufeff" + as_csv()).encode(byte_order)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(ValueError, match=f"{name} is in UTF-16: save it as UTF-8"):
        references(tmp_path / name)


def test_semicolons_within_cells_and_quoted_lines(tmp_path):
    rows = [{"question": f'Is {n},5; or "{n}"\nright; {n}?', "answer": f"{n}"} for n in range(5)]
    for delimiter in ",;":
        (tmp_path / "rows.csv").write_bytes(as_csv(rows, delimiter).encode())
        assert references(tmp_path / "rows.csv") == [row["answer"] for row in rows]


def test_a_broken_row_of_a_list_is_left_out_too(tmp_path):
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([*ROWS[:3], 5, *ROWS[3:]]))
    with pytest.raises(BadRow, match=r"rows.json, row 3: expected an object, got int"):
        references(file)
    assert len(references(file, skip_bad_rows=True)) == 30
    assert len(references([*ROWS[:3], None, *ROWS[3:]], skip_bad_rows=True)) == 30


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "3", "must hold a list of objects, or one object a line; it holds one int"),
        ("a.json", '{"question": {"0": "a"}, "answer": {"0": "b"}}', "it holds one dict"),
        ("a.csv", "question,answer,question\n", "a column is named twice"),
        ("a.csv", "", "has no rows that can be used"),
        ("a.csv", "question,answer\n", "has no rows that can be used"),
        ("a.json", "", "has no rows that can be used"),
        ("a.json", "[]", "has no rows that can be used"),
        ("a.jsonl", "\n\n", "has no rows that can be used"),
        ("a.xlsx", "", "a.xlsx is none of the files that are read: .jsonl"),
    ],
)
def test_a_file_that_is_no_table(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        references(tmp_path / name)


# --- prompts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        (None, TypeError, "problem 3: a prompt is a text, got None"),
        (5, TypeError, "problem 3: a prompt is a text, got 5"),
        (["What?"], TypeError, "problem 3: a prompt is a text, got"),
        (b"What?", TypeError, "problem 3: a prompt is a text, got"),
        ("cut \ud83d", ValueError, r"problem 3: the prompt .* lone surrogate '\\ud83d' at character 4"),
        ("\udcff", ValueError, "problem 3: the prompt .* lone surrogate"),
        ("x" * 70_000, ValueError, "problem 3: a prompt has 70000 characters"),
    ],
)
def test_a_prompt_that_no_model_can_be_given_is_found_before_a_run(prompt, error, message):
    problems = [Problem(f"What is {n}?", str(n)) for n in range(6)]
    problems[3] = Problem(prompt, "1")
    register_problems(ID, reward=MathReward())(lambda: problems)
    with pytest.raises(error, match=message):
        gymnasium.make(ID)


def test_the_row_of_a_prompt_is_named_where_it_is_known():
    problems = [Problem("What?", "1"), Problem("\ud800", "2", metadata={"row": "my.jsonl, line 7"})]
    with pytest.raises(ValueError, match=r"my.jsonl, line 7: the prompt"):
        FiniteStream(problems, MathReward())
    with pytest.raises(TypeError, match=r"problem 1 must be a Problem, got 'What\?'"):
        FiniteStream([problems[0], "What?"], MathReward())
    with pytest.raises(TypeError, match=r"a problem's key .* must be a text, got 4"):
        FiniteStream([Problem("What?", "1", key=4)], MathReward())


@pytest.mark.parametrize("prompt", [None, 7, "\ud800"])
def test_a_sampler_with_such_a_prompt_is_refused_when_the_environment_is_made(prompt):
    register_task(ID, reward=MathReward())(lambda rng: Problem(prompt, "1"))
    with pytest.raises((TypeError, ValueError), match=r"a prompt is a text, got|lone surrogate"):
        gymnasium.make(ID)
