"""The program inside a completion.

The text is only searched, never parsed or compiled: what a model wrote is Python's business inside the jail alone.
Every scan is linear. Of a completion the last `WINDOW` characters are read, behind its reasoning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from rewards.reasoning import reply_start

WINDOW = 2**20
"""Characters at the end of a completion that are read."""

_PYTHON = frozenset(["", "python", "py", "python3", "py3", "sage", "ipython"])
_INDENT = 4

# What matters for the end of a block: strings (three quotes may hold a line that looks like a fence), comments (where
# a quote is an apostrophe), and lines of fences. No two alternatives begin alike, so nothing is tried twice. (A
# possessive group would say so, but before Python 3.11.5 it may match wrongly.)
_TOKEN = re.compile(
    r"""
    (?P<fence> ^ [\ \t]* (?: `{3,} [^`\n]* | ~{3,} [^\n]* ) $ )
    | \# [^\n]*
    | (?P<triple> \"{3} | '{3} )
    | " [^"\\\n]*+ (?: \\. [^"\\\n]*+ )* "?
    | ' [^'\\\n]*+ (?: \\. [^'\\\n]*+ )* '?
    """,
    re.VERBOSE | re.MULTILINE,
)
_FENCE = re.compile(r"^(?P<indent>[ \t]*)(?P<marks>`{3,}|~{3,})(?P<info>[^\n]*)$", re.MULTILINE)
_ENDS = {
    '"""': re.compile(r'[^\\"]*+(?:(?:\\.|"(?!""))[^\\"]*+)*"""', re.DOTALL),
    "'''": re.compile(r"[^\\']*+(?:(?:\\.|'(?!''))[^\\']*+)*'''", re.DOTALL),
}
_STATEMENT = re.compile(
    r"""^(?:
        (?: import | from | def | class | async\ def ) \ +\w
        | @\w
        | (?: if | while | for | with | try ) \b [^\n]* : [\ \t]* (?: \#[^\n]* )? $
        | [A-Za-z_][\w.]* (?: \[ [^\]\n]* \] )? [\ \t]* [-+*/%|&^]? = (?!=)
        | print\(
    )""",
    re.VERBOSE | re.MULTILINE,
)
# A program that is tested by its output reads standard input. Replacing it (`sys.stdin = ...`, `run(..., stdin=...)`)
# or speaking of it is no reading. What may repeat is bounded, so that a search takes linear time.
_COMMENT = re.compile(r"#[^\n]*")
_STDIN = r"(?:\b\w{1,40}\.)?\bstdin\b"
_READS = re.compile(
    rf"""
    (?<! \bdef\  ) \b input \s* \(
    | \b stdin \s* \. \s* (?: read | readline | readlines | buffer | fileno | detach | __next__ | __iter__ ) \b
    | \b for \b [^\n]{{0,100}}? \b in \s+ {_STDIN} \s* (?: [:\])}},] | \b if \b | $ )
    | (?: \w \( \s* {_STDIN} \s* [,)] | , \s* {_STDIN} \s* \) | [(,] \s* \*{_STDIN} )
    | \b from \s+ sys \s+ import \b [^\n]{{0,100}}? \b stdin \b
    | \b fileinput \b | \b (?: open | fdopen | read ) \(\ * 0\ * [,)] | ["'] /dev/ (?: stdin | fd/0 ) \b
    """,
    re.VERBOSE | re.MULTILINE,
)
# Reading under another name; where a block also sets the name, it only keeps the old one, or means another thing.
_NAMES_ITS_INPUT = re.compile(
    rf"(?: = | \b (?: else | with | return | yield\ from ) \b ) \s* (?: {_STDIN} | input \b ) (?! \s* [.=(] )"
    r"| \w \( \s* input \s* [,)]",
    re.VERBOSE,
)
_SETS_ITS_INPUT = re.compile(r"\b(?:stdin|input)[ \t]*=(?!=)")
_CODE_LINE = re.compile(r"^[ \t]*[^# \t\n]", re.MULTILINE)
_RETURN = re.compile(r"^return\b", re.MULTILINE)
_TOP_LEVEL = ("def ", "class ", "import ", "from ", "@", "async ")


class Form(StrEnum):
    """How the program stood in the completion."""

    FENCED = "fenced"
    WHOLE = "whole"
    CONTINUED = "continued"


@dataclass(frozen=True, slots=True)
class Code:
    """The program as it is run, and how it was found."""

    source: str
    form: Form


def extract_code(completion: str, *, entry_point: str | None = None, prefix: str | None = None) -> Code | None:
    """Find the program in a completion.

    Only the reply behind the reasoning counts (`rewards.reasoning`); reasoning that was not ended holds no program.

    Fenced blocks come first: of three or more backticks or tildes, of Python or no language, the last of them perhaps
    not closed. A reply may hold others beside the program: its use, its output, a command line. With an `entry_point`,
    the last block that defines it is taken (one of another language, if only that does). Where none does, or there is
    no entry point, it is the last block that reads standard input, or else the last block. Of these, blocks marked as
    Python go before those without a language, and of the latter those with a statement before those without one.
    Blocks are never joined. A fence inside a string of three quotes, or indented by four more than the block's, does
    not end the block.

    Without a block the whole text is the program, if it defines `entry_point` or has a line that begins like a
    statement.

    With a `prefix`, the beginning of a program that the model was given, a text that defines `entry_point` again
    follows what the prefix has before that definition (imports, helpers); any other text continues the prefix. Where
    its indentation was lost, it is put back.

    Args:
        completion: What the model wrote.
        entry_point: The function or class that is tested.
        prefix: What the completion continues.

    Returns:
        The program, or None where there is none.
    """
    text = _after_thinking(completion)
    if text is None or not text.strip():
        return None
    block = _block(text, entry_point)
    if prefix and not (block and entry_point is not None and _defines(_dedent(block), entry_point)):
        continued = _body_before_fence(text)
        if continued is not None:
            return Code(_continue(prefix, continued), Form.CONTINUED)
    if block is None and not prefix and not _looks_like_code(text, entry_point):
        return None
    form = Form.WHOLE if block is None else Form.FENCED
    source = text if block is None else block
    if not prefix:
        return Code(_dedent(source), form)
    flat = _dedent(source)
    if entry_point is not None and _defines(flat, entry_point):
        return Code(_before_definition(prefix, entry_point, flat) + flat, form)
    return Code(_continue(prefix, source), Form.CONTINUED)


def _after_thinking(text: str) -> str | None:
    reply = reply_start(text)
    if reply is None:
        return None
    start = max(reply, len(text) - WINDOW)
    # Python's own line ends, so that `$` and a fence agree with it
    text = text[start:].replace("\r\n", "\n").replace("\r", "\n")
    # the indentation of the first line is part of a continuation
    return text.lstrip("\n") if reply else text


@dataclass(frozen=True, slots=True)
class _Block:
    language: str
    source: str


@dataclass(frozen=True, slots=True)
class _Ends:
    """What is known of the whole text, so that no part of it is looked through twice.

    Attributes:
        last_fence: Where the last fence of backticks and that of tildes begin.
        strings: Where the string of three quotes ends that was looked at last, for each kind of quotes; the length of
            the text where nothing ends it. What opens before that end, behind a backslash, ends there too.
    """

    last_fence: dict[str, int]
    strings: dict[str, int] = field(default_factory=dict)


def _block(text: str, entry_point: str | None) -> str | None:
    """The fenced block that is taken, or None where there is no block with anything in it."""
    blocks = [block for block in _blocks(text) if block.source.strip()]
    python = [block for block in blocks if block.language in _PYTHON]
    if entry_point is not None:
        for some in (python, blocks):
            for block in reversed(some):
                if _defines(_dedent(block.source), entry_point):
                    return block.source
    marked = [block for block in python if block.language]
    reading = [block for block in python if _reads(block.source)]
    for some in (
        [block for block in reading if block.language],
        reading,
        marked,
        [block for block in python if _STATEMENT.search(_dedent(block.source))],
        python,
    ):
        if some:
            return some[-1].source
    return None


def _reads(source: str) -> bool:
    """Whether a program reads standard input, as far as its text shows."""
    source = _COMMENT.sub("", source)
    if _READS.search(source):
        return True
    return _NAMES_ITS_INPUT.search(source) is not None and not _SETS_ITS_INPUT.search(source)


def _blocks(text: str) -> list[_Block]:
    found = []
    at = 0
    ends = _Ends({fence["marks"][0]: fence.start() for fence in _FENCE.finditer(text)})
    while (opening := _FENCE.search(text, at)) is not None:
        at = opening.end()
        if opening["marks"][0] == "`" and "`" in opening["info"]:
            continue  # ```code``` in a line
        start = min(at + 1, len(text))
        stop, at = _end_of_block(text, start, opening, ends)
        lines = text[start:stop].split("\n")
        margin = min(len(opening["indent"]), _margin(lines))
        if margin:
            lines = [line[margin:] if line.strip() else line for line in lines]
        words = opening["info"].strip(" \t{}.").lower().split()
        found.append(_Block(words[0].split(",")[0] if words else "", "\n".join(lines)))
    return found


def _end_of_block(text: str, start: int, opening: re.Match[str], ends: _Ends) -> tuple[int, int]:
    """Where the block that begins at `start` ends, and where to read on."""
    at = start
    while (token := _TOKEN.search(text, at)) is not None:
        at = token.end()
        if token["fence"] is not None:
            kind = _closes(token["fence"], opening)
            if kind is not None:
                return token.start(), at if kind else token.start()
        elif token["triple"] is not None:
            quotes = token["triple"]
            if ends.strings.get(quotes, 0) <= at + 1:  # one less where the backslash is followed by a fourth quote
                end = _ENDS[quotes].match(text, at)
                ends.strings[quotes] = len(text) if end is None else end.end()
            if ends.strings[quotes] < ends.last_fence[opening["marks"][0]]:
                # otherwise what looked like a string would have run over the end of the block
                at = ends.strings[quotes]
    return len(text), len(text)


def _closes(line: str, opening: re.Match[str]) -> bool | None:
    """Whether a line of a fence closes the block; False where it opens the next one, None where it does neither."""
    words = line.strip(" \t")
    marks = len(words) - len(words.lstrip(opening["marks"][0]))
    indent = len(line) - len(line.lstrip(" \t"))
    if indent >= len(opening["indent"]) + _INDENT or marks < len(opening["marks"]):
        return None
    if marks == len(words):
        return True
    return None if words[marks:].strip(" \t").lower() not in _PYTHON else False


def _looks_like_code(text: str, entry_point: str | None) -> bool:
    flat = _dedent(text)
    return (entry_point is not None and _defines(flat, entry_point)) or _STATEMENT.search(flat) is not None


@lru_cache(maxsize=1024)
def _definition(name: str) -> re.Pattern[str]:
    name = re.escape(name)
    return re.compile(
        rf"^(?:(?:async[ \t]+)?def[ \t]+{name}[ \t]*[(\[]|class[ \t]+{name}\b|{name}[ \t]*(?::[^=\n]*+)?=(?!=))",
        re.MULTILINE,
    )


def _defines(source: str, name: str) -> bool:
    return _definition(name).search(source) is not None


def _dedent(source: str) -> str:
    """The source without the indentation that all its lines share."""
    lines = source.split("\n")
    margin = _margin(lines)
    return "\n".join(line[margin:] if line.strip() else line for line in lines) if margin else source


def _margin(lines: list[str]) -> int:
    return min((len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()), default=0)


def _before_definition(prefix: str, entry_point: str, source: str) -> str:
    """What the prefix has before the function that it asks for; where it asks for none, as of imports alone, all."""
    if re.search(r"^from[ \t]+__future__\b", source, re.MULTILINE):
        return ""  # it has to come first
    definition = _definition(entry_point).search(prefix)
    if definition is None:
        return prefix.rstrip("\n") + "\n" if _CODE_LINE.search(prefix) else ""
    lines = prefix[: definition.start()].split("\n")
    while len(lines) > 1 and lines[-2].startswith("@"):
        del lines[-2]
    before = "\n".join(lines)
    return before if before.strip() else ""


def _body_before_fence(text: str) -> str | None:
    """A function's body that ends with the fence which the prompt had opened, or None."""
    first = _FENCE.search(text)
    if first is None or first["info"].strip():
        return None
    body = text[: first.start()]
    line = body.lstrip("\n").split("\n", 1)[0]
    return body if line.strip() and line[0] in " \t" else None


def _continue(prefix: str, source: str) -> str:
    """The prefix and what follows it."""
    if not prefix.endswith("\n"):
        starts_line = source.startswith(("  ", "\t")) and prefix[-1:] not in (" ", "\t")
        return prefix + ("\n" if starts_line else "") + source
    lines = source.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    last = prefix.rstrip().rsplit("\n", 1)[-1]
    indent = last[: len(last) - len(last.lstrip(" \t"))]
    if last.endswith(":"):
        indent += " " * _INDENT
    if first is None or not indent or lines[first][0] in " \t":
        return prefix + source
    begin = lines[first]
    following = next((line for line in lines[first + 1 :] if line.strip()), "")
    margin = len(following) - len(following.lstrip(" \t"))
    opens = begin.rstrip().endswith((":", "(", "[", "{", ",", "\\"))
    if margin > (len(indent) if opens else 0):
        lines[first] = indent + begin  # only the first line lost it, as where a text is stripped
    elif begin.startswith(_TOP_LEVEL) and _RETURN.search(source) is None:
        return prefix + source  # no body, but other definitions
    else:
        lines = [indent + line if line.strip() else line for line in lines]
    return prefix + "\n".join(lines)
