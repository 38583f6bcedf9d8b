"""Values cross as data: every value comes back as it was, and any bytes are read or refused in linear time."""

import enum
import math
import struct
import subprocess
import sys
import time
from collections import Counter, OrderedDict, defaultdict, namedtuple
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.code.sandbox import codec
from rewards.code.sandbox.codec import MAX_BYTES, Malformed, Unencodable, decode, encode

TEXT = st.text(st.characters(codec=None, categories=None)) | st.text(
    st.sampled_from("a\ud83d\ude00\udfff\ud800\u00e9\0")
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | TEXT | st.binary(max_size=300)
)
HASHABLE = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4), max_leaves=8
)
VALUES = st.recursive(
    SCALARS | HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.sets(HASHABLE, max_size=5)
        | st.dictionaries(HASHABLE, inner, max_size=5)
    ),
    max_leaves=20,
)


def identical(a, b) -> bool:
    """The same value of the same types, bit by bit, in the same order; sets by their encoded elements."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("<d", a) == struct.pack("<d", b)
    if isinstance(a, complex):
        return identical(a.real, b.real) and identical(a.imag, b.imag)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(identical, a, b))
    if isinstance(a, dict):
        return identical(list(a.items()), list(b.items()))
    if isinstance(a, set | frozenset):
        return sorted(map(encode, a)) == sorted(map(encode, b))
    return a == b


@given(VALUES)
@settings(max_examples=500, deadline=None)
def test_round_trip(value):
    data = encode(value)
    back = decode(data)
    assert identical(value, back)
    assert encode(back) == data


EDGES = [
    0,
    -1,
    127,
    128,
    -128,
    -129,
    255,
    256,
    10**5000,
    -(2**20_000),
    2**2032 - 1,
    2**2040,
    -0.0,
    math.nan,
    -math.inf,
    complex(-0.0, math.nan),
    "",
    "\ud800",
    "\ud83d\ude00",
    "\U0001f600",
    "a" * 255,
    "a" * 256,
    b"",
    b"\xff" * 255,
    b"\xff" * 256,
    [],
    (),
    set(),
    frozenset(),
    {},
    {1: 2, "1": [None, True, False]},
    {(1, frozenset({2.5})): {frozenset(): ()}},
    {math.nan: 1, float("nan"): 2},
    {-1, -2},
    [[[]], ([],)],
]


@pytest.mark.parametrize("value", EDGES, ids=lambda value: ascii(value)[:30] if not isinstance(value, int) else "int")
def test_edges_come_back_exactly(value):
    assert identical(value, decode(encode(value)))


class LyingInt(int):
    def __eq__(self, other):
        return True

    __hash__ = int.__hash__

    def __int__(self):
        return 7

    __index__ = __add__ = __neg__ = to_bytes = bit_length = __int__


class LyingFloat(float):
    def __float__(self):
        return 7.0

    def __eq__(self, other):
        return True

    __hash__ = float.__hash__
    __pos__ = __float__


class LyingComplex(complex):
    real = imag = 7.0

    def __complex__(self):
        return 7j


class LyingStr(str):
    def __eq__(self, other):
        return True

    __hash__ = str.__hash__

    def __str__(self):
        return "lie"

    def encode(self, *_):
        return b"lie"


class LyingBytes(bytes):
    def __bytes__(self):
        return b"lie"

    def __len__(self):
        return 3


class LyingList(list):
    def __iter__(self):
        return iter([7])

    def __len__(self):
        return 1

    def __getitem__(self, _):
        return 7

    copy = __iter__


class LyingTuple(tuple):
    __slots__ = ()

    def __iter__(self):
        return iter([7])

    def __len__(self):
        return 1


class LyingSet(set):
    def __iter__(self):
        return iter([7])

    def __len__(self):
        return 1


class LyingDict(dict):
    def items(self):
        return [(7, 7)]

    def __iter__(self):
        return iter([7])

    def __len__(self):
        return 1

    keys = values = __iter__

    def __getitem__(self, _):
        return 7


class Lying:
    """Claims to be an int."""

    @property
    def __class__(self):
        return int


class Color(enum.IntEnum):
    RED = 3


class Word(enum.StrEnum):
    YES = "yes"


class Flag(enum.IntFlag):
    A = 1
    B = 2


Point = namedtuple("Point", "x y")
moved = OrderedDict([(1, 2), (3, 4)])
moved.move_to_end(1)
REDUCED = [
    (LyingInt(5), 5),
    (LyingInt(-(10**50)), -(10**50)),
    (LyingFloat(2.5), 2.5),
    (LyingComplex(1 + 2j), 1 + 2j),
    (LyingStr("true"), "true"),
    (LyingBytes(b"true"), b"true"),
    (LyingList([1, 2]), [1, 2]),
    (LyingTuple([1, 2]), (1, 2)),
    (LyingSet([1, 2]), {1, 2}),
    (LyingDict({1: 2}), {1: 2}),
    (LyingDict({1: LyingList([LyingInt(5)])}), {1: [5]}),
    (Color.RED, 3),
    (Word.YES, "yes"),
    (Flag.A | Flag.B, 3),
    (Point(1, [2]), (1, [2])),
    (OrderedDict([("b", 1), ("a", 2)]), {"b": 1, "a": 2}),
    (moved, {3: 4, 1: 2}),
    (defaultdict(list, {1: [2]}), {1: [2]}),
    (Counter("aab"), {"a": 2, "b": 1}),
    (bytearray(b"abc"), b"abc"),
]


@pytest.mark.parametrize(("value", "plain"), REDUCED, ids=lambda value: type(value).__name__)
def test_subclasses_are_reduced_to_their_base_value(value, plain):
    assert identical(decode(encode(value)), plain)


class Nameless(type):
    __name__ = property(lambda cls: 1 / 0)


@pytest.mark.parametrize(
    "value",
    [
        object(),
        Lying(),
        int,
        len,
        iter([]),
        range(3),
        Fraction(1, 2),
        {1: 2}.keys(),
        memoryview(b"a"),
        ...,
        Nameless("Odd", (), {})(),
    ],
    ids=lambda value: type.__dict__["__name__"].__get__(type(value)),
)
def test_other_objects_are_refused_by_name(value):
    name = type.__dict__["__name__"].__get__(type(value))
    for holder in (value, [value], {1: (value,)}):
        with pytest.raises(Unencodable, match=name):
            encode(holder)


def nested(depth, kind=lambda inner: [inner]):
    value = 1
    for _ in range(depth):
        value = kind(value)
    return value


@pytest.mark.parametrize(
    "kind",
    [lambda v: [v], lambda v: (v,), lambda v: {1: v}, lambda v: frozenset([v])],
    ids=["list", "tuple", "dict", "set"],
)
def test_depth_is_limited_on_both_sides(kind):
    fits = nested(64, kind)
    assert identical(decode(encode(fits)), fits)
    with pytest.raises(Unencodable, match="deeply"):
        encode(kind(fits))
    with pytest.raises(Malformed, match="deeply"):
        decode(encode(kind(fits), max_depth=65))
    with pytest.raises(Unencodable, match="deeply"):
        encode(nested(100_000))


def test_cycles_and_shared_parts_end():
    cycle = []
    cycle += [cycle, cycle]
    with pytest.raises(Unencodable, match="itself"):
        encode(cycle)
    table = {}
    table[1] = [table]
    with pytest.raises(Unencodable, match="itself"):
        encode(table)
    shared = [0]
    for _ in range(60):
        shared = [shared, shared]
    started = time.process_time()
    with pytest.raises(Unencodable, match="bytes"):
        encode(shared)
    frozen = frozenset([0])
    for i in range(60):
        frozen = frozenset([(frozen, i), (frozen, -i - 1)]) if i % 2 else (frozen, frozen)
    with pytest.raises(Unencodable, match=r"bytes|deeply"):
        encode(frozen)
    assert time.process_time() - started < 30


def test_size_is_limited_on_both_sides():
    for value in (b"a" * MAX_BYTES, "a" * MAX_BYTES, 1 << (8 * MAX_BYTES), [0] * MAX_BYTES, {b"a" * MAX_BYTES}):
        with pytest.raises(Unencodable, match=str(MAX_BYTES)):
            encode(value)
    data = encode(b"a" * MAX_BYTES, max_bytes=2 * MAX_BYTES)
    with pytest.raises(Malformed, match=str(MAX_BYTES)):
        decode(data)
    assert len(encode("a" * (MAX_BYTES - 5))) == MAX_BYTES
    assert decode(encode(b"abc", max_bytes=5), max_bytes=5) == b"abc"
    with pytest.raises(Unencodable):
        encode(b"abc", max_bytes=4)


LENGTH = struct.Struct("<I").pack
MALFORMED = {
    "nothing": b"",
    "unknown tag": b"x",
    "trailing": b"NN",
    "short int": b"i",
    "empty int": b"i\x00",
    "cut int": b"i\x02\x01",
    "padded int": b"i\x02\x01\x00",
    "padded zero": b"i\x02\x00\x00",
    "long form of a short int": b"I" + LENGTH(1) + b"\x01",
    "length beyond the end": b"S" + LENGTH(2**32 - 1),
    "cut float": b"f\0\0\0",
    "cut complex": b"c" + bytes(15),
    "not UTF-8": b"s\x01\xff",
    "overlong UTF-8": b"s\x02\xc0\x80",
    "half of a surrogate": b"s\x02\xed\xa0",
    "too many elements": b"l" + LENGTH(2**32 - 1) + b"N" * 10,
    "too many pairs": b"d" + LENGTH(6) + b"N" * 11,
    "list in a set": b"e" + LENGTH(1) + encode([]),
    "list in a tuple in a set": b"e" + LENGTH(1) + encode(([],)),
    "set in a frozenset": b"r" + LENGTH(1) + encode(set()),
    "dict as a key": b"d" + LENGTH(1) + encode({}) + b"N",
    "element twice": b"e" + LENGTH(2) + b"NN",
    "equal elements": b"e" + LENGTH(2) + b"T" + encode(1),
    "elements out of order": b"e" + LENGTH(2) + b"TN",
    "key twice": b"d" + LENGTH(2) + b"NTNF",
    "equal keys": b"d" + LENGTH(2) + encode(1) + b"N" + encode(1.0) + b"N",
    "a pickle": b"\x80\x04K\x01.",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed(data):
    with pytest.raises(Malformed):
        decode(data)


@given(st.binary(max_size=200))
@settings(max_examples=1000, deadline=None)
def test_any_bytes_are_read_or_refused(data):
    try:
        value = decode(data)
    except Malformed:
        return
    assert encode(value) == data


@given(VALUES, st.data())
@settings(max_examples=500, deadline=None)
def test_changed_encodings_are_read_or_refused(value, draw):
    data = bytearray(encode(value))
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(data) - 1)) if data else 0
        data[at : at + draw.draw(st.integers(0, 2))] = draw.draw(
            st.binary(max_size=2) | st.sampled_from([bytes([tag]) for tag in b"NTFiIsSbBfcltderd"])
        )
    test_any_bytes_are_read_or_refused.hypothesis.inner_test(bytes(data))


@given(st.lists(st.sampled_from([bytes([tag]) for tag in b"NTFiIsSbBfcltderd"] + [LENGTH(n) for n in (0, 1, 2, 3)])))
@settings(max_examples=1000, deadline=None)
def test_sequences_of_tags_are_read_or_refused(parts):
    test_any_bytes_are_read_or_refused.hypothesis.inner_test(b"".join(parts))


def collision_in_table(n):
    """Numbers with different hashes that begin at the same place of a table and take the same way on."""
    return [i << 44 for i in range(n)]


PRIME = 2**61 - 1
SLOW = {  # made when they are tried: they take seconds to make
    "equal hashes": lambda: (b"e", sorted(encode(k * PRIME) for k in range(1, 260_000))),
    "equal hashes of floats": lambda: (b"e", sorted(encode(2.0 ** (61 * k)) for k in range(-16, 16))),
    "equal hashes of tuples": lambda: (b"e", sorted(encode((k * PRIME, 0)) for k in range(1, 100_000))),
    "colliding places": lambda: (b"e", sorted(encode(k) for k in collision_in_table(200_000))),
    "empty sets": lambda: (b"l", [b"e" + LENGTH(0)] * 800_000),
    "surrogates": lambda: (b"l", [b"S" + LENGTH(16_776_000) + b"\xed\xa0\x80" * 5_592_000]),
    "large int": lambda: (b"l", [b"I" + LENGTH(16_776_000) + b"\x01" * 16_776_000]),
    "nothing but None": lambda: (b"l", [b"N"] * 16_776_000),
    "deep": lambda: (b"t", [encode(nested(60, lambda v: (v,)))] * 50_000),
}


@pytest.mark.parametrize("make", SLOW.values(), ids=SLOW)
def test_nothing_of_the_largest_size_is_slow(make):
    tag, parts = make()
    data = tag + LENGTH(len(parts)) + b"".join(parts)
    assert len(data) <= MAX_BYTES
    started = time.thread_time()
    try:
        decode(data)
    except Malformed as error:
        message = str(error)
        assert "hash" in message or "collide" in message or "too many" in message
    assert time.thread_time() - started < 30  # a few seconds; what is quadratic takes hours


def test_elements_that_collide_are_refused(monkeypatch):
    values = [k * PRIME for k in range(1, codec.MAX_SAME_HASH + 1)]
    assert decode(encode(set(values))) == set(values)
    assert decode(encode(dict.fromkeys(values))) == dict.fromkeys(values)
    values.append(0)
    for table in (set(values), frozenset(values), dict.fromkeys(values)):
        with pytest.raises(Malformed, match="same hash"):
            decode(encode(table))
    monkeypatch.setattr(codec, "HASHING_SECONDS", 0.0)
    for table in (set(range(1000)), dict.fromkeys(range(1000))):
        with pytest.raises(Malformed, match="collide"):
            decode(encode(table))


def test_the_number_of_containers_is_limited():
    most = 2**16 // codec.BYTES_PER_CONTAINER
    for empty in ([], ()):
        assert decode(encode([empty] * (most - 1)), max_bytes=2**16) == [empty] * (most - 1)
        with pytest.raises(Malformed, match="too many containers"):
            decode(encode([empty] * most), max_bytes=2**16)


def test_the_number_of_tables_is_limited():
    most = 2**16 // codec.BYTES_PER_TABLE
    for empty in (set(), frozenset(), {}):
        assert decode(encode([empty] * most), max_bytes=2**16) == [empty] * most
        with pytest.raises(Malformed, match="too many"):
            decode(encode([empty] * (most + 1)), max_bytes=2**16)


def test_honest_large_tables_are_far_from_the_limits():
    reader = codec._Reader(encode({str(i): i for i in range(100_000)}), 1, 1)
    assert len(reader.read(64)) == 100_000
    assert reader.hashing < codec.HASHING_SECONDS / 10
    points = {(x, y) for x in range(-150, 150) for y in range(-150, 150)}
    assert decode(encode(points)) == points


def test_the_encoding_does_not_depend_on_hashes():
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]; from rewards.code.sandbox.codec import encode;"
        "print(encode({'a', 'b', 'c', ('d', 1), frozenset('xyz')}).hex())"
    )
    root = str(codec.__file__).removesuffix("rewards/code/sandbox/codec.py")
    seen = set()
    for seed in ("0", "1", "2"):
        command = [sys.executable, "-c", code, root]
        seen.add(subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout)
    assert len(seen) == 1


def test_the_file_stands_alone():
    code = (
        "import sys; names = {'__name__': 'codec'}; exec(compile(open(sys.argv[1]).read(), 'codec', 'exec'), names);"
        "assert names['decode'](names['encode']([1, {2}])) == [1, {2}];"
        "assert not any(name.startswith('rewards') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-I", "-c", code, str(codec.__file__)], check=True)
