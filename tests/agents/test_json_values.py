from __future__ import annotations

import json

import pytest

from agents.json_values import as_json, from_json

VALUES = [
    b"x",
    {1, 2},
    set(),
    {"a": 2j},
    (1, 2),
    (),
    [(1,), [2, (3,)]],
    {"levels": ((1, "a"), (2, None))},
    {1: "one", (2, 3): [4]},
    {None: 1, True: 2},
    {"__tuple__": [1]},
    {"__items__": [[1, 2]]},
    {"__tuple__": 1, "other": 2},
    {"a": {"__items__": {"b": (1,)}}},
    {},
    [],
    "text",
    1.5,
    None,
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back_as_what_they_were(value):
    again = from_json(json.loads(json.dumps(as_json(value))))
    assert repr(again) == repr(value)


@pytest.mark.parametrize("value", [{"operands": 2, "names": ["a"], "more": {"b": None}}, [1, "2"], "x", 3])
def test_what_json_has_is_left_as_it_is(value):
    assert as_json(value) == value
    assert from_json(value) == value
