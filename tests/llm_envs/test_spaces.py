from __future__ import annotations

import copy
import multiprocessing as mp
import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.vector.utils import batch_space, create_shared_memory, read_from_shared_memory, write_to_shared_memory

from llm_envs import Unicode

STRANGE = ["", " ", "\n", "a b", "\x00", "é", "漢字", "🙂", "\ud800", "\u202e", "x" * 1000]


@pytest.mark.parametrize("text", STRANGE)
def test_contains_any_text(text):
    assert text in Unicode()


@pytest.mark.parametrize("thing", [None, 3, b"bytes", ["a"], np.array("a"), np.int64(1)])
def test_contains_nothing_but_text(thing):
    assert thing not in Unicode()


def test_length_is_counted_in_code_points():
    assert "🙂🙂" in Unicode(max_length=2)
    assert "abc" not in Unicode(max_length=2)


def test_samples_belong_to_the_space_and_depend_on_the_seed():
    space = Unicode(max_length=10, seed=1)
    samples = [space.sample() for _ in range(200)]
    assert all(sample in space for sample in samples)
    assert len({len(sample) for sample in samples}) == 11  # every length from 0 to 10
    assert any(not sample.isascii() for sample in samples)
    space.seed(1)
    assert [space.sample() for _ in range(200)] == samples
    space.seed(2)
    assert [space.sample() for _ in range(200)] != samples


def test_sample_refuses_a_mask():
    with pytest.raises(ValueError, match="mask"):
        Unicode().sample(mask=np.ones(3, dtype=np.int8))


def test_negative_length_is_refused():
    with pytest.raises(ValueError, match="-1"):
        Unicode(max_length=-1)


def test_equality_pickling_and_json():
    space = Unicode(max_length=5, seed=0)
    assert space == Unicode(max_length=5)
    assert space != Unicode(max_length=6)
    assert space != gymnasium.spaces.Text(5)
    assert pickle.loads(pickle.dumps(space)) == space  # noqa: S301
    assert copy.deepcopy(space) == space
    assert space.from_jsonable(space.to_jsonable(STRANGE)) == STRANGE


def test_batched_space_contains_tuples_of_texts():
    assert ("a", "") in batch_space(Unicode(), 2)


def test_shared_memory_carries_every_text_and_follows_changes():
    space = Unicode(max_length=1000)
    memory = create_shared_memory(space, n=len(STRANGE), ctx=mp)
    texts = read_from_shared_memory(space, memory, n=len(STRANGE))
    for i, text in enumerate(STRANGE):
        write_to_shared_memory(space, i, text, memory)
    snapshot = copy.deepcopy(texts)
    assert snapshot == tuple(STRANGE)
    write_to_shared_memory(space, 0, "changed", memory)
    assert texts[0] == "changed"
    assert texts[0:2] == ("changed", " ")
    assert snapshot[0] == ""


def test_shared_memory_refuses_what_does_not_fit():
    space = Unicode(max_length=3)
    memory = create_shared_memory(space, n=1, ctx=mp)
    with pytest.raises(ValueError, match="4 characters"):
        write_to_shared_memory(space, 0, "abcd", memory)
