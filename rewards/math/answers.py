r"""What a reference or an answer says: a value with its unit, its variable and how it was written.

A reference is read by its form alone. An answer is read by its form too, except that the letter of an option and a
text are only looked for where the reference is one.
"""

from __future__ import annotations

import re

from rewards.latex import TEXT_COMMAND
from rewards.math import remarks, texts
from rewards.math.nodes import Unreadable
from rewards.math.numerals import DECIMAL, TooLarge, normalize_spaces, numbers_in
from rewards.math.statements import (
    Answer,
    Several,
    bare,
    numbers_of,
    read_number,
    read_statement,
    variable_of,
    variables_in,
)
from rewards.math.values import (
    Choice,
    Literal,
    NumberSet,
    Value,
    Words,
)

MAX_CHARACTERS = 8_000
MAX_CANDIDATES = 100
_OPTIONS = frozenset("ABCDEFGHIJ")

_CONNECTIVE = re.compile(
    rf"{TEXT_COMMAND} *+\{{[ ,~]*+(or|and)[ ~]*+\}}|\\(lor|vee|land|wedge)(?![a-zA-Z])|([\u2227\u2228])"
)
_CONNECTIVES = {"lor": "or", "vee": "or", "land": "and", "wedge": "and", "\u2227": "and", "\u2228": "or"}
_WORD = re.compile(r" (or|and) ")
_BRACKETS = {"\\lbrace": "\\{", "\\rbrace": "\\}", "\\lbrack": "[", "\\rbrack": "]"}
_LINES = re.compile(
    r"(?:\\left *+\\\{)? *+\\begin\{(aligned|align|align\*|gathered|cases|split)\}(.*)\\end\{\1\} *+(?:\\right\.?)?"
)
# Letters behind a number that are a unit where the reference has one: `12 m`, `3.5 m/s^2`
_UNIT_IN_LETTERS = re.compile(r"(?<=[0-9)} ])([a-zA-Z]{1,3}(?: *+/ *+[a-zA-Z]{1,3})?(?:\^\{?-?[0-9]\}?)?)(?= *(?:=|$))")

# A letter behind a thin space is a unit unless the reference has it as a variable: `3\\,m` for `3m`.
_THIN_VARIABLE = re.compile(r"(?<=[\w)}])\\, *(?=([a-zA-Z])(?![a-zA-Z]))")


def read_reference(text: str) -> Answer:
    """Read a reference.

    Raises:
        Unreadable: Where it is neither a formula nor a text.
        SeveralCandidates: Where it contradicts itself.
        TooLarge: Where it exceeds a cap.
    """
    if choice := texts.choice_of_reference(text):
        return Answer(choice, bare(text))
    text = remarks.options(text) or remarks.without_qualifier(text)
    words = texts.words(text)
    plain = texts.without_markup(text).strip()
    if words is not None and (texts.is_word(plain) or texts.is_date(plain)):
        return Answer(texts.meaning(words), bare(text))
    try:
        answer = read_formula(text)
    except Unreadable:
        if words is not None:
            return Answer(texts.meaning(words), bare(text))
        if (literal := texts.literal(text)) is None:
            raise
        return Answer(literal, bare(text))
    if answer.is_tautology:
        raise Unreadable("it only says that something equals itself")
    return answer


def read_answer(text: str, reference: Answer) -> Answer:
    """Read an answer to be compared with `reference`.

    Raises:
        Unreadable: Where it is not in a form that is read.
        SeveralCandidates: Where it contradicts itself: `15 = 14`.
        TooLarge: Where it exceeds a cap.
    """
    if isinstance(reference.value, Literal):
        if (literal := texts.literal(text)) is None:
            raise Unreadable("not a formula like the reference")
        return Answer(literal, bare(text))
    text = remarks.without_qualifier(text)
    if names := variables_in(reference):
        text = _THIN_VARIABLE.sub(lambda match: "*" if match[1] in names else match[0], text)
    try:
        return _read_for(reference, text)
    except Unreadable:
        value = remarks.value_in_words(text)
        if value is None:
            raise
    return _read_for(reference, value)


def _read_for(reference: Answer, text: str) -> Answer:
    if isinstance(reference.value, Choice) and (choice := texts.choice_of_answer(text)):
        return Answer(choice, bare(text))
    if _are_options(reference.value) and (listed := remarks.options(text)):
        return read_formula(listed)
    if not isinstance(reference.value, Choice):
        text = remarks.without_option(text, variables_in(reference))
    if isinstance(reference.value, Words):
        words = texts.words(text)
        if words is None:
            raise Unreadable("not a text")
        if texts.is_word(reference.value.text) and words.text.replace(" ", "") == reference.value.text:
            return Answer(reference.value, bare(text))  # m\,g\,h for mgh
        if words != reference.value and (value := remarks.value_in_words(text)) and texts.words(value):
            words = texts.words(value) or words
        return Answer(texts.meaning(words), bare(text))
    if reference.unit and not reference.unit.is_noun and not variables_in(reference):
        text = _UNIT_IN_LETTERS.sub(r"\\text{ \1}", text)
    if isinstance(reference.value, Several) and DECIMAL.fullmatch(text) and "," in text and ",0" not in text:
        text = text.replace(",", ", ")  # the list 10,200 and not the number
    try:
        return read_formula(text)
    except Unreadable:
        plain = texts.wrapped(text)
        if plain.isascii() and (any(map(str.isdigit, plain)) or (len(plain) == 2 and plain.isalpha())):
            return read_formula(plain)  # \text{3 and 4}, and \text{IV} where the reference is IV
        words = texts.words(text)
        if words is None or isinstance(texts.meaning(words), Words):
            raise
        return Answer(texts.meaning(words), bare(text))


def _are_options(value: Value | Several) -> bool:
    """Whether a reference is a list of letters that options have."""
    return isinstance(value, Several) and all(variable_of(part) in _OPTIONS for part in value.answers)


def read_formula(text: str) -> Answer:
    """Read a number, an expression, a relation, a set or several of these.

    Raises:
        Unreadable: Where the text is not a formula.
        SeveralCandidates: Where it contradicts itself.
        TooLarge: Where it exceeds a cap.
    """
    if (found := read_number(text)) is not None:
        return found
    if len(text) > MAX_CHARACTERS:
        raise TooLarge(f"a formula of {len(text)} characters")
    text = _without_environment(normalize_spaces(text))
    pieces, word = _split_candidates(text)
    if len(pieces) == 1:
        return read_statement(pieces[0])
    if len(pieces) > MAX_CANDIDATES:
        raise TooLarge(f"more than {MAX_CANDIDATES} values")
    answers = [read_statement(piece) for piece in pieces]
    # `pi/4 + k pi, k in Z`: where a variable comes from is not another answer.
    told = [answer for answer in answers if not (answer.name and isinstance(answer.value, NumberSet))] or answers
    if len(told) == 1 or (word == "or" and "%" not in text and _are_one_number(told)):
        return told[-1]
    return Answer(Several(tuple(told), word), bare(text))


def _are_one_number(answers: list[Answer]) -> bool:
    r"""Whether all are the same number, written in different ways: `\frac{1}{2} or 0.5`."""
    values = {numbers_of(answer.value) for answer in answers}
    return len(values) == 1 and None not in values and not any(answer.unit for answer in answers)


def _without_environment(text: str) -> str:
    """Formulas on lines of their own as formulas between commas, and one spelling of the brackets."""
    for name, sign in _BRACKETS.items():
        text = text.replace(name, sign)
    match = _LINES.fullmatch(text)
    if match is None:
        return text
    first, *lines = match[2].replace("&", " ").strip().removesuffix("\\\\").split("\\\\")
    # A line is the next step of a chain or another statement.
    return " ".join(first.split()) + "".join(
        f" {line.strip()}" if line.lstrip().startswith("=") else f", {line.strip()}" for line in lines
    )


# --- several ----------------------------------------------------------------------------------------------------------


def _split_candidates(text: str) -> tuple[list[str], str]:
    """The parts between the commas and connectives outside brackets, and the connective."""
    text = _CONNECTIVE.sub(lambda match: f" {match[1] or _CONNECTIVES[match[2] or match[3]]} ", text)
    if text.startswith("]"):  # an interval: ]1, 2[
        return [text], ""
    pieces: list[str] = []
    words: set[str] = set()
    numbers = numbers_in(text)
    start = depth = i = 0
    while i < len(text):
        character = text[i]
        if depth == 0 and i in numbers:
            i = numbers[i]  # past the commas that group digits
            continue
        depth += character in "([{⟨" or text.startswith("\\langle", i)
        depth -= character in ")]}⟩" or text.startswith("\\rangle", i)
        word = _WORD.match(text, i) if character == " " else None
        if depth == 0 and (word or (character in ",;" and text[i - 1 : i] != "\\")):
            pieces.append(text[start:i].strip())
            words.add(word[1] if word else ",")
            i = start = word.end() - 1 if word else i + 1
            continue
        i += 1
    pieces.append(text[start:].strip())
    kept = [piece for piece in pieces if piece]
    # `1, 2, and 3` has a comma before the word.
    if len(pieces) - len(kept) > (1 if len(words) > 1 else 0):
        raise Unreadable("a comma without a value beside it")
    words.discard(",")
    if len(words) > 1:
        raise Unreadable("`and` beside `or`")
    return kept, words.pop() if words else ","
