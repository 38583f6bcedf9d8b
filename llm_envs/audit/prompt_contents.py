"""What a prompt holds that could be handed back as an answer: numbers, formulas, quoted texts, lists, lines."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w]|\.\d)")
_MATH = (
    re.compile(r"\$\$?(.+?)\$\$?", re.DOTALL),
    re.compile(r"\\\((.+?)\\\)", re.DOTALL),
    re.compile(r"\\\[(.+?)\\\]", re.DOTALL),
)
_QUOTED = re.compile(r"\"([^\"\n]+)\"|'([^'\n]+)'|`([^`\n]+)`|\u201c([^\u201d\n]+)\u201d")
_BRACKETED = re.compile(r"\[[^\[\]\n]+\]|\{[^{}\n]+\}")
# a run of numbers, single letters, commands, brackets and operators: `2 * (x - 3)`, `3x^2 + 1`
_ATOM = r"(?:\\[a-zA-Z]+|\d+(?:\.\d+)?[a-zA-Z]?|(?<![a-zA-Z])[a-zA-Z](?![a-zA-Z]))"
_GLUE = r"[-+*/^=<>()\[\]{}|!%,:\u00d7\u00f7\u00b7\u2212 ]"
_RUN = re.compile(rf"[-(]*{_ATOM}(?:{_GLUE}*{_ATOM})*[)\]}}!%]*")
_OPERATOR = re.compile(r"[-+*/^=<>\u00d7\u00f7\u00b7\u2212]")
_AFTER_COLON = re.compile(r": *([^\n:]{1,200}?)(?=[.?!]?(?:\s*$|\n|[.?!] ))", re.MULTILINE)
_MAX_FOUND = 24


def numbers_in(text: str) -> list[str]:
    """The numbers of a text as written, each once, in order."""
    return list(dict.fromkeys(_NUMBER.findall(text)))


def expressions_in(prompt: str) -> list[str]:
    r"""The formulas of a prompt: what has an operator in it, and what is between signs of mathematics.

    >>> expressions_in("What is 2 + 2 * 6? End with \\boxed{answer}.")
    ['2 + 2 * 6']
    """
    found = [match for pattern in _MATH for match in pattern.findall(prompt)]
    for match in _RUN.finditer(prompt):
        text = _balanced(match.group().strip(" ,:="))
        if _OPERATOR.search(text) and re.search(r"\d|[a-zA-Z]\b", text) and len(text) > 2:
            found.append(text)
    return list(dict.fromkeys(text.strip() for text in found if text.strip()))[:_MAX_FOUND]


def pieces_of(prompt: str) -> list[str]:
    """Everything of a prompt that looks like data: formulas, their sides, numbers, quotations, lists, lines."""
    found = expressions_in(prompt)
    found += [side for text in found for side in re.split(r"=|:", text)[:2] if "=" in text]
    found += ["".join(groups) for groups in _QUOTED.findall(prompt)]
    found += _BRACKETED.findall(prompt)
    found += _AFTER_COLON.findall(prompt)
    found += [line for line in prompt.splitlines() if 0 < len(line) < 500]
    found += numbers_in(prompt)
    return list(dict.fromkeys(text.strip() for text in found if text.strip()))[: 2 * _MAX_FOUND]


def _balanced(text: str) -> str:
    """The text without the closing brackets at its end that nothing opens, and the opening ones that nothing closes."""
    for opening, closing in ("()", "[]", "{}"):
        while text.count(closing) > text.count(opening) and text.endswith(closing):
            text = text[:-1]
        while text.count(opening) > text.count(closing) and text.startswith(opening):
            text = text[1:]
    return text.strip()
