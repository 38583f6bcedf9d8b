"""Plain data as bytes, and back: a minimal version that the full one replaces."""

from __future__ import annotations

import struct
from typing import Any


class Unencodable(TypeError):
    """The value is not plain data."""


class Malformed(ValueError):
    """The bytes are no value."""


def encode(value: Any) -> bytes:
    """Return the bytes of a value."""
    out: list[bytes] = []
    _encode(value, out, 0)
    return b"".join(out)


def _encode(value: Any, out: list[bytes], depth: int) -> None:
    if depth > 200:
        raise Unencodable("too deep")
    kind = type(value)

    def put(tag: bytes, data: bytes) -> None:
        out.append(tag + struct.pack("!I", len(data)) + data)

    def each(tag: bytes, items: list[Any]) -> None:
        out.append(tag + struct.pack("!I", len(items)))
        for item in items:
            _encode(item, out, depth + 1)

    if value is None:
        put(b"N", b"")
    elif kind is bool:
        put(b"T" if value else b"F", b"")
    elif issubclass(kind, int):
        number = int.__int__(value)
        put(b"i", number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))
    elif issubclass(kind, float):
        put(b"f", struct.pack("!d", float.__float__(value)))
    elif issubclass(kind, complex):
        put(b"c", struct.pack("!dd", complex.__complex__(value).real, complex.__complex__(value).imag))
    elif issubclass(kind, str):
        put(b"s", str.encode(value, "utf-8", "surrogatepass"))
    elif issubclass(kind, bytes):
        put(b"b", bytes.__getitem__(value, slice(None)))
    elif issubclass(kind, list):
        each(b"l", list(list.__iter__(value)))
    elif issubclass(kind, tuple):
        each(b"t", list(tuple.__iter__(value)))
    elif issubclass(kind, frozenset):
        each(b"z", list(frozenset.__iter__(value)))
    elif issubclass(kind, set):
        each(b"e", list(set.__iter__(value)))
    elif issubclass(kind, dict):
        each(b"d", [part for pair in dict.items(value) for part in pair])
    else:
        raise Unencodable(f"a {kind.__name__} is not plain data")


def decode(data: bytes, *, max_bytes: int = 2**22, max_depth: int = 200) -> Any:
    """Return the value of some bytes."""
    if len(data) > max_bytes:
        raise Malformed("too large")
    try:
        value, end = _decode(memoryview(data), 0, max_depth)
    except (struct.error, ValueError, TypeError, IndexError) as error:
        raise Malformed(str(error)) from None
    if end != len(data):
        raise Malformed("too long")
    return value


def _decode(data: memoryview, at: int, depth: int) -> tuple[Any, int]:
    if depth < 0:
        raise Malformed("too deep")
    tag = bytes(data[at : at + 1])
    (size,) = struct.unpack_from("!I", data, at + 1)
    at += 5
    if tag in (b"l", b"t", b"z", b"e", b"d"):
        items = []
        for _ in range(size):
            item, at = _decode(data, at, depth - 1)
            items.append(item)
        if tag == b"d":
            return dict(zip(items[::2], items[1::2], strict=True)), at
        return {b"l": list, b"t": tuple, b"z": frozenset, b"e": set}[tag](items), at
    part = bytes(data[at : at + size])
    if len(part) != size:
        raise Malformed("too short")
    at += size
    if tag == b"i":
        return int.from_bytes(part, "big", signed=True), at
    if tag == b"f":
        return struct.unpack("!d", part)[0], at
    if tag == b"c":
        return complex(*struct.unpack("!dd", part)), at
    if tag == b"s":
        return part.decode("utf-8", "surrogatepass"), at
    if tag == b"b":
        return part, at
    if tag in (b"N", b"T", b"F"):
        return {b"N": None, b"T": True, b"F": False}[tag], at
    raise Malformed(f"no such tag: {tag!r}")
