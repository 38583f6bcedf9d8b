"""Fuzzers of what reads a model's bytes and texts outside the jail: the codec, and the search for a program.

They are bounded, and draw the same examples in each run. `FUZZ_EXAMPLES=100000 pytest tests/rewards/code/test_fuzz.py`
looks at more.
"""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.code.extraction import Code, extract_code
from rewards.code.sandbox import codec
from rewards.code.sandbox.codec import Malformed, Unencodable, decode, encode
from tests.operations import PIECES

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
BOUNDED = settings(max_examples=EXAMPLES, deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ)
PLAIN = (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, type(None))

# --- the codec


def lie(self, *args, **kwargs):
    """What each special method of a hostile object does."""
    raise SystemExit(0)


_SPECIAL = """
    __bool__ __len__ __iter__ __getitem__ __contains__ __eq__ __lt__ __index__ __int__ __float__ __complex__ __str__
    __repr__ __reduce_ex__ __getattribute__ __sizeof__ __format__ __bytes__ __iadd__ __add__ __class_getitem__
"""
SPECIAL = _SPECIAL.split()


def hostile(base):
    """A subclass whose methods all lie; it can be hashed where its base can."""
    names = dict.fromkeys(SPECIAL, lie)
    names |= {"items": lie, "keys": lie, "encode": lie, "bit_length": lie, "to_bytes": lie, "__class__": property(lie)}
    if base.__hash__ is not None:
        names["__hash__"] = base.__hash__
    return type("Hostile", (base,), names)


HOSTILE = {base: hostile(base) for base in (int, float, complex, str, bytes, list, tuple, set, frozenset, dict)}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary()
NUMBERS = st.integers(-(2**70), 2**70).map(lambda value: (value, HOSTILE[int](value)))


def containers(inner):
    """Lists, tuples and dicts of pairs, as pairs."""
    some = st.lists(inner, max_size=4).map(lambda pairs: ([a for a, _ in pairs], [b for _, b in pairs]))
    return st.one_of(
        some.map(lambda two: (two[0], HOSTILE[list](two[1]))),
        some.map(lambda two: (tuple(two[0]), HOSTILE[tuple](two[1]))),
        some.map(lambda two: (dict(enumerate(two[0])), HOSTILE[dict](enumerate(two[1])))),
    )


TEXTS = st.text().map(lambda value: (value, HOSTILE[str](value)))
PAIRS = st.recursive(SCALARS.map(lambda value: (value, value)) | NUMBERS | TEXTS, containers, max_leaves=12)
"""A value, and one of hostile objects that says the same."""


@BOUNDED
@given(PAIRS)
def test_hostile_objects_are_read_by_their_base_types_alone(pair):
    plain, liar = pair
    assert encode(liar) == encode(plain)


def kinds(value):
    """The types of all that is in a value."""
    yield type(value)
    if type(value) in (list, tuple, set, frozenset, dict):
        for inner in value:
            yield from kinds(inner)
    if type(value) is dict:
        for inner in value.values():
            yield from kinds(inner)


TAGS = [bytes([tag]) for tag in b"NTFiIsSbBfcltderd"]
BYTES = st.lists(
    st.sampled_from(TAGS)
    | st.integers(0, 9).map(lambda n: n.to_bytes(4, "little"))
    | st.sampled_from([b"\xff" * 4, b"\0\0\0\x01", b"\xed\xa0\x80", b"\x01\x04"])
    | st.binary(max_size=9),
    max_size=60,
).map(b"".join)


@BOUNDED
@given(BYTES)
def test_any_bytes_are_read_or_refused_in_linear_time(data):
    calls = 0

    def count(frame, event, arg):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        value = decode(data)
    except Malformed:
        value = None
    finally:
        sys.setprofile(None)
    assert calls <= 20 * len(data) + 50
    assert set(kinds(value)) <= set(PLAIN)


@BOUNDED
@given(BYTES, st.integers(0, 200), st.integers(0, 8))
def test_the_limits_hold_for_any_bytes(data, most, depth):
    try:
        value = decode(data, max_bytes=most, max_depth=depth)
    except Malformed:
        return
    assert len(data) <= most
    assert encode(value, max_bytes=most, max_depth=depth) == data


@BOUNDED
@given(PAIRS, st.integers(0, 60))
def test_what_is_too_large_is_refused_and_never_cut(pair, most):
    data = encode(pair[1])
    if len(data) <= most:
        assert encode(pair[1], max_bytes=most) == data
    else:
        with pytest.raises(Unencodable):
            encode(pair[1], max_bytes=most)
        with pytest.raises(Malformed):
            decode(data, max_bytes=most)


def test_no_bomb_is_larger_than_its_bytes(monkeypatch):
    monkeypatch.setattr(codec, "MAX_BYTES", 2**16)
    for tag in (b"l", b"t", b"e", b"r", b"d"):
        for inner in (b"", b"N", tag):
            with pytest.raises(Malformed):
                decode(tag + b"\xff\xff\xff\xff" + inner * 100)


# --- the program in a completion

LINES = st.sampled_from(
    [
        "x = 1",
        "def f(x):",
        "    return x",
        "s = 'it'",
        's = "a # b"',
        '# it\'s a comment with ``` and """',
        '"""A text\n```python\nf(1)\n```\n"""',
        "'''\n~~~\n'''",
        "s = r'\\'",
        's = "\\""',
        "t = '```'",
        "    if x: pass",
        "",
        "\tpass",
        "y = '''a''' + \"\"\"b\"\"\"",
        "z = '\\\\'",
    ]
)
SOURCES = st.lists(LINES, min_size=1, max_size=8).map(lambda lines: "\n".join(["def f(x):", "    pass", *lines]) + "\n")
PROSE = st.text(st.sampled_from("abc .,:;!?'()\n-"), max_size=30)
FENCES = st.sampled_from([("```python\n", "```"), ("```\n", "```"), ("~~~py\n", "~~~"), ("````python\n", "````")])


@BOUNDED
@given(SOURCES, PROSE, PROSE, FENCES)
def test_a_program_in_a_fence_comes_out_as_it_went_in(source, before, after, fence):
    completion = f"{before}\n{fence[0]}{source}{fence[1]}\n{after}"
    for text in (completion, completion.replace("\n", "\r\n"), f"<think>{before}```python\n1\n```</think>{completion}"):
        code = extract_code(text, entry_point="f")
        assert code is not None
        assert code.source == source


def without_space(text):
    """Indentation may be taken off, and line ends are Python's."""
    return text.translate({ord(space): None for space in " \t\r\n"})


@BOUNDED
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3) | LINES, max_size=40).map("".join), st.booleans())
def test_any_text_holds_a_program_or_none(text, prefixed):
    prefix = "import math\n\n\ndef f(x):\n" if prefixed else None
    for entry_point in (None, "f"):
        code = extract_code(text, entry_point=entry_point, prefix=prefix)
        assert code == extract_code(text, entry_point=entry_point, prefix=prefix)
        assert code is None or (isinstance(code, Code) and code.source.strip())
        if code is not None and not prefixed:
            assert without_space(code.source) in without_space(text)
