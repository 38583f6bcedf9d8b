"""Values as data: how arguments and results cross between the checker and the jailed process.

Both sides load this file; inside the jail it is executed from its source, so it imports nothing but the standard
library. A value is a tag, then a length where there is one, then its content. There is exactly one encoding of each
value: `encode(decode(data)) == data` for all that `decode` accepts.

    N T F           None, True, False
    i I             int, two's complement, little-endian; the length in 1 byte or in 4
    f c             float, complex; 8 and 16 bytes, little-endian
    s S             str as UTF-8, lone surrogates included; the length in 1 byte or in 4
    b B             bytes
    l t e r d       list, tuple, set, frozenset, dict; the number of elements in 4 bytes, then the elements (of sets:
                    their encodings in ascending order; of dicts: key, value, key, value)

What an object says of itself is not asked: an instance of a subclass is read by the methods of its base type, so what
arrives is the base value. Nothing in the decoded value can run code, and no two places share an object that can change.
"""

from __future__ import annotations

import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, cast

MAX_BYTES = 2**24
MAX_DEPTH = 64
BYTES_PER_CONTAINER = 16
"""Of the largest encoding, for one container: an empty one takes 5 bytes there, and as long to read as many more."""

BYTES_PER_TABLE = 64
"""Of the largest encoding, for one set or dict: an empty one takes 5 bytes there and 216 as an object."""

MAX_SAME_HASH = 64
"""Elements of one set or dict that may have the same hash. More of them would take quadratic time."""

HASHING_SECONDS = 2.0
"""CPU time for the sets and dicts of one value, many times what honest ones of `MAX_BYTES` take."""

_BATCH = 64
_LENGTH = struct.Struct("<I")
_FLOAT = struct.Struct("<d")
_COMPLEX = struct.Struct("<dd")
_SHORT = 256


class Unencodable(TypeError):
    """The value is no data: an object of another type, a cycle, too deep or too large."""


class Malformed(ValueError):
    """The bytes are not the encoding of a value within the limits."""


def encode(value: Any, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> bytes:
    """The encoding of a value.

    Subclasses are reduced to their base value (an `IntEnum` to its int, a named tuple to a tuple, a `Counter` to a
    dict), a `bytearray` to bytes.

    Args:
        value: None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, or a subclass.
        max_bytes: The largest encoding.
        max_depth: How many containers may be inside each other.

    Raises:
        Unencodable: For any other type, and beyond a limit; a cycle is beyond any depth.
    """
    out = bytearray()
    _write(out, value, max_depth, max_bytes)
    if len(out) > max_bytes:
        raise Unencodable(f"the value takes more than {max_bytes} bytes")
    return bytes(out)


def decode(data: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """The value that `encode` was given, for any bytes in time proportional to their number.

    Raises:
        Malformed: Where `data` is not exactly one encoding within the limits.
    """
    if len(data) > max_bytes:
        raise Malformed(f"{len(data)} bytes, more than {max_bytes}")
    reader = _Reader(data, max_bytes // BYTES_PER_CONTAINER, max_bytes // BYTES_PER_TABLE)
    value = reader.read(max_depth)
    if reader.at != len(data):
        raise Malformed(f"{len(data) - reader.at} bytes after the value")
    return value


def _write(out: bytearray, value: Any, depth: int, limit: int) -> None:
    kind = type(value)
    if kind not in _WRITERS:
        # type(), not isinstance: that would ask the object for its __class__
        kind = next((base for base in _BASES if issubclass(kind, base)), object)
    if kind is object:
        raise Unencodable(f"a value of type {_type_name(value)} is no plain data")
    _WRITERS[kind](out, value, depth, limit)


def _write_none(out: bytearray, value: Any, depth: int, limit: int) -> None:
    out += b"N"


def _write_bool(out: bytearray, value: bool, depth: int, limit: int) -> None:
    out += b"T" if value else b"F"


def _write_int(out: bytearray, value: int, depth: int, limit: int) -> None:
    number = int.__int__(value)
    _write_sized(out, b"iI", number.to_bytes((number.bit_length() + 8) // 8, "little", signed=True), limit)


def _write_float(out: bytearray, value: float, depth: int, limit: int) -> None:
    out += b"f" + _FLOAT.pack(float.__float__(value))


def _write_complex(out: bytearray, value: complex, depth: int, limit: int) -> None:
    number = complex.__complex__(value)
    out += b"c" + _COMPLEX.pack(number.real, number.imag)


def _write_str(out: bytearray, value: str, depth: int, limit: int) -> None:
    _write_sized(out, b"sS", str.encode(value, "utf-8", "surrogatepass"), limit)


def _write_bytes(out: bytearray, value: bytes, depth: int, limit: int) -> None:
    _write_sized(out, b"bB", bytes.__bytes__(value), limit)


def _write_bytearray(out: bytearray, value: bytearray, depth: int, limit: int) -> None:
    _write_sized(out, b"bB", bytes(bytearray.__getitem__(value, slice(None))), limit)


def _write_sized(out: bytearray, tags: bytes, content: bytes, limit: int) -> None:
    if len(content) < _SHORT:
        out.append(tags[0])
        out.append(len(content))
    elif len(out) + len(content) > limit:
        raise Unencodable(f"the value takes more than {limit} bytes")
    else:
        out.append(tags[1])
        out += _LENGTH.pack(len(content))
    out += content


def _write_list(out: bytearray, value: list[Any], depth: int, limit: int) -> None:
    _write_all(out, b"l", list(list.__iter__(value)), depth, limit)


def _write_tuple(out: bytearray, value: tuple[Any, ...], depth: int, limit: int) -> None:
    _write_all(out, b"t", list(tuple.__iter__(value)), depth, limit)


def _write_dict(out: bytearray, value: dict[Any, Any], depth: int, limit: int) -> None:
    # the order of an OrderedDict is its own, not that of the dict below it
    items: Iterable[tuple[Any, Any]] = dict.items(value)
    if issubclass(type(value), OrderedDict):
        items = OrderedDict.items(cast("OrderedDict[Any, Any]", value))
    flat = [part for item in items for part in item]
    _write_all(out, b"d", flat, depth, limit, count=len(flat) // 2)


def _write_all(
    out: bytearray, tag: bytes, elements: list[Any], depth: int, limit: int, count: int | None = None
) -> None:
    _check(out, depth, limit)
    out += tag + _LENGTH.pack(len(elements) if count is None else count)
    for element in elements:
        _write(out, element, depth - 1, limit)
        if len(out) > limit:
            raise Unencodable(f"the value takes more than {limit} bytes")


def _write_set(out: bytearray, value: set[Any], depth: int, limit: int) -> None:
    _write_unordered(out, b"e", set.__iter__(value), depth, limit)


def _write_frozenset(out: bytearray, value: frozenset[Any], depth: int, limit: int) -> None:
    _write_unordered(out, b"r", frozenset.__iter__(value), depth, limit)


def _write_unordered(out: bytearray, tag: bytes, elements: Iterable[Any], depth: int, limit: int) -> None:
    _check(out, depth, limit)
    parts = []
    room = limit - len(out)
    for element in elements:
        part = bytearray()
        _write(part, element, depth - 1, room)
        parts.append(bytes(part))
        room -= len(part)
        if room < 0:
            raise Unencodable(f"the value takes more than {limit} bytes")
    out += tag + _LENGTH.pack(len(parts)) + b"".join(sorted(parts))


def _check(out: bytearray, depth: int, limit: int) -> None:
    if depth <= 0:
        raise Unencodable("the value is nested too deeply, or contains itself")
    if len(out) > limit:
        raise Unencodable(f"the value takes more than {limit} bytes")


def _type_name(value: Any) -> str:
    # not type(value).__name__, which a metaclass can replace
    name: Any = type.__dict__["__name__"].__get__(type(value))
    return str.__str__(name)[:100]


_WRITERS: dict[type, Callable[[bytearray, Any, int, int], None]] = {
    type(None): _write_none,
    bool: _write_bool,
    int: _write_int,
    float: _write_float,
    complex: _write_complex,
    str: _write_str,
    bytes: _write_bytes,
    bytearray: _write_bytearray,
    list: _write_list,
    tuple: _write_tuple,
    set: _write_set,
    frozenset: _write_frozenset,
    dict: _write_dict,
}
_BASES = tuple(base for base in _WRITERS if base not in (type(None), bool))

_NONE, _TRUE, _FALSE = b"NTF"
_INT, _LONG_INT, _STR, _LONG_STR, _BYTES, _LONG_BYTES = b"iIsSbB"
_LIST, _TUPLE, _SET, _FROZENSET, _DICT = b"lterd"
_REAL, _IMAGINARY = b"fc"


class _Reader:
    """Reads the value that begins at `at`."""

    __slots__ = ("at", "containers", "data", "hashing", "tables")

    def __init__(self, data: bytes, containers: int, tables: int) -> None:
        self.data = data
        self.at = 0
        self.containers = containers
        self.tables = tables
        self.hashing = 0.0

    def read(self, depth: int) -> Any:
        data, at = self.data, self.at
        if at >= len(data):
            raise Malformed("the bytes end before the value")
        tag = data[at]
        self.at = at + 1
        if tag in (_INT, _LONG_INT):
            content = self._sized(tag == _LONG_INT)
            value = int.from_bytes(content, "little", signed=True)
            if len(content) != (value.bit_length() + 8) // 8:
                raise Malformed("an int that is longer than it needs to be")
            return value
        if tag in (_STR, _LONG_STR):
            try:
                return self._sized(tag == _LONG_STR).decode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                raise Malformed("a str that is not UTF-8") from None
        if tag == _LIST:
            return self._elements(depth)
        if tag == _TUPLE:
            return tuple(self._elements(depth))
        if tag == _NONE:
            return None
        if tag == _TRUE:
            return True
        if tag == _FALSE:
            return False
        if tag == _REAL:
            return _FLOAT.unpack(self._take(8))[0]
        if tag == _IMAGINARY:
            return complex(*_COMPLEX.unpack(self._take(16)))
        if tag in (_BYTES, _LONG_BYTES):
            return self._sized(tag == _LONG_BYTES)
        if tag == _DICT:
            return self._dict(depth)
        if tag in (_SET, _FROZENSET):
            found = self._set(depth)
            return found if tag == _SET else frozenset(found)
        raise Malformed(f"the tag {tag} is unknown")

    def _take(self, size: int) -> bytes:
        start, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise Malformed("the bytes end before the value")
        return self.data[start : self.at]

    def _sized(self, long: bool) -> bytes:
        if not long:
            return self._take(self._take(1)[0])
        size: int = _LENGTH.unpack(self._take(4))[0]
        if size < _SHORT:
            raise Malformed("a length that is longer than it needs to be")
        return self._take(size)

    def _count(self, depth: int, size: int) -> int:
        """The number of elements, each of which takes `size` bytes at least."""
        if depth <= 0:
            raise Malformed("nested too deeply")
        self.containers -= 1
        if self.containers < 0:
            raise Malformed("too many containers")
        count: int = _LENGTH.unpack(self._take(4))[0]
        if count * size > len(self.data) - self.at:
            raise Malformed("the bytes end before the value")
        return count

    def _elements(self, depth: int) -> list[Any]:
        read = self.read
        return [read(depth - 1) for _ in range(self._count(depth, 1))]

    def _set(self, depth: int) -> set[Any]:
        found, before = [], b""
        for _ in range(self._count(depth, 1)):
            start = self.at
            found.append(self.read(depth - 1))
            part = self.data[start : self.at]
            # two NaNs of one set have the same encoding
            if part < before:
                raise Malformed("the elements of a set are not in order")
            before = part
        result: set[Any] = set()
        self._fill(found, lambda some, start: result.update(some))
        if len(result) != len(found):
            raise Malformed("a set has an element twice")
        return result

    def _dict(self, depth: int) -> dict[Any, Any]:
        keys, values = [], []
        for _ in range(self._count(depth, 2)):
            keys.append(self.read(depth - 1))
            values.append(self.read(depth - 1))
        result: dict[Any, Any] = {}
        self._fill(keys, lambda some, start: result.update(zip(some, values[start : start + _BATCH], strict=True)))
        if len(result) != len(keys):
            raise Malformed("a dict has a key twice")
        return result

    def _fill(self, elements: list[Any], add: Callable[[list[Any], int], None]) -> None:
        """Add the elements to a hash table, unless they were chosen to make that slow, or there are too many tables.

        Numbers with equal hashes are easy to find, and so are numbers whose places in the table collide.
        """
        self.tables -= 1
        if self.tables < 0:
            raise Malformed("too many sets and dicts")
        try:
            if len(elements) <= _BATCH:
                add(elements, 0)
                return
            hashes = sorted(map(hash, elements))
            if any(map(int.__eq__, hashes, hashes[MAX_SAME_HASH:])):
                raise Malformed(f"more than {MAX_SAME_HASH} elements of a set or dict have the same hash")
            started = time.thread_time() - self.hashing
            for start in range(0, len(elements), _BATCH):
                add(elements[start : start + _BATCH], start)
                self.hashing = time.thread_time() - started
                if self.hashing > HASHING_SECONDS:
                    raise Malformed("the elements of a set or dict collide")
        except TypeError:
            raise Malformed("a set or dict has an element that cannot be hashed") from None
