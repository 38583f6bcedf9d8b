r"""What an answer says beside its value: reasons, qualifiers, the sentence around it.

`12, which is even`, `n = 3 \text{ (since } n > 0)`, `f(x) = 0 \text{ for all } x > 0`, `The sum of the roots is 12`.
A remark is taken off where it begins with one of the words listed here and has none of those that deny the value,
change it, or name another one. The lists are made of words that models were seen to write, and are not complete: a
remark in other words stays, and then the text is no number.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from rewards.latex import TEXT_COMMAND
from rewards.math.texts import without_markup

MAX_CHARACTERS = 2_000
"""Characters of a text in which remarks are looked for."""

_TEXT = re.compile(rf"{TEXT_COMMAND} ?")
_BREAK = r"(?:\s|~|\\[,;:! ]|\\q?quad(?![a-zA-Z])|[{}(])"
_QUALIFIER = re.compile(
    rf"[,;]?(?:{_BREAK}|{TEXT_COMMAND})*+(?<![a-zA-Z\\])(?:\\forall(?![a-zA-Z])|\u2200"
    r"|(?:for all|for every|for any|for each|for arbitrary|since|because|(?<=[({,])as|(?<=[({,] )as)\b)"
)
_REASON = re.compile(
    rf"[,;]{_BREAK}*+(?:which|since|because|as|being|given|due to|by|after|using|obtained|found|where|so that|making"
    r"|(?:and|so) (?:we|this|that|hence|thus|it)\b(?=[^0-9]*\Z))\b"
    r"|:\s++(?:the|it|this|that|because|since)\b"
    rf"|{_BREAK}++(?:which|since|because|due to|as desired|as required|as expected|as claimed)\b"
)
_SAME = re.compile(
    r"[,;]?\s*\(?(?:i\.\s?e\.,?|that is,?|in other words,?|(?:or )?equivalently,?|which (?:is|equals)"
    r"|or(?= (?:about|approximately|roughly|around|nearly) ))"
    r" (?P<about>(?:about|approximately|roughly|around|nearly) )?(?:the same as )?(?=[-$\\.0-9](?:[^a-zA-Z]"
    r"|\\[a-zA-Z]+)*\Z)",
    re.IGNORECASE,
)
_RESULT = re.compile(r"[-+]?(?:[0-9.,/]+|\\[dt]?frac ?\{[0-9]+\} ?\{[0-9]+\})(?: ?\\?%)?")
_APPOSITION = re.compile(
    r"(?:,|;|\s[\u2014\u2013-]| \() *[a-zA-Z][a-zA-Z'-]*(?: [a-zA-Z][a-zA-Z'-]*)+\)?[.!]?\Z| \([a-z-]{3,}\)\Z"
)
# Words by which a reason takes the value back, or names another one
_BACK = (
    r"\b(?:wrong|incorrect|false|mistake\w*|instead|actually|maybe|perhaps|possibly|might|could|either|unless|should|but|or"
    r"|otherwise|impossible|contradict\w*|absurd|can(?:not|'t| not) be)\b"
    r"|(?:\bnot|n['\u2019]t) (?:the |an? )?(?:right|correct|true|answer|it|final|what|[-0-9$])"
)
_TAKES_BACK = re.compile(_BACK)
# Another value behind the remark: `42 \text{ since } n > 0, 43`, `12, which is even; 13`
_ANOTHER_VALUE = re.compile(
    r"(?:[,;.](?!(?<=[0-9].)[0-9])|\b(?:(?<![0-9] )and|else|also|then)\b)"
    rf"(?:[\s,;{{}}$~(]|{TEXT_COMMAND}|\\q?quad(?![a-zA-Z])|\\[,;:! ]|\b(?:and|also|else|then)\b)*+"
    r"(?:[a-zA-Z](?:\([a-z]\))? *= *)?[-+\u2212]?(?:\.?[0-9]|\\(?:[dt]?frac|sqrt|pi)(?![a-zA-Z]))"
)
# An apposition says no more than what it is: also none of these
_TAKES_BACK_OR_ADDS = re.compile(
    rf"{_BACK}|\b(?:error|rather|probably|neither|nor|except|and|also|minus|negative|if|when|no longer|hundred"
    rf"|thousand|million"
    r"|billion|trillion|dozen|percent|another|different|not(?=\W*\Z)|half|halved|twice|doubled?|tripled?|squared|cubed"
    r"|roots?(?= of)|square root|cube root|power|times|plus|less|more|over|divided|mod|modulo|base"
    r"|negated|opposite|inverse|reciprocal"
    r"|then|next|similarly|alternatively|together|along|followed|yes|true|one of|among|for"
    r"|(?<!option )(?<!choice )[B-HJ])\b"
)
# A head that is worth reading: it has a digit or a command, or is one letter or a plain verdict
_VALUE = re.compile(r"[^0-9\\$]*+[0-9\\$]|\(?[a-zA-Z]\)?\Z|(?:yes|no|true|false|none)\Z", re.IGNORECASE)
_CONTRAST = re.compile(
    r",? (?:and |\()?(?:not|rather than|instead of|as opposed to) (?!only|just|all|merely)([^,;:.()]+)\)?\Z"
)
_VERDICTS = frozenset(
    ["true", "truth", "correct", "right", "sure", "certain", "certainly", "valid", "answer", "answers", "solution",
     "wrong", "false", "incorrect", "possible", "really", "quite", "so", "it", "this", "that", "yes", "no"]
)  # fmt: skip
_SMALL_NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
                    sixteen seventeen eighteen nineteen"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_NUMBER_WORDS = {
    **{word: value for value, word in enumerate(_SMALL_NUMBERS.split())},
    **{word: 10 * tens for tens, word in enumerate(_TENS.split(), start=2)},
    "hundred": 100, "thousand": 1_000, "million": 1_000_000,
}  # fmt: skip
_VERB = re.compile(
    r" (?:is|are|was|were|equals?|be|becomes|comes to|has|have|gets|costs|takes|needs|makes|earns|pays|gives"
    r"|requires|weighs|contains|there are|will be)(?: equal to| exactly| simply| just)?"
    r"(?::| =)? +(?=[-+\u2212$\\(\[{.0-9]|[A-J](?![\w']))"
)
_DENIES = re.compile(
    r"\b(?:not|never|neither|nor|no|cannot|if|when|whether|unless|or|wrong|false|incorrect|except|without|maybe|perhaps|possibly"
    r"|might|could|may|would|assuming|suppose)\b|n['\u2019]t",
    re.IGNORECASE,
)
_ADVERB = re.compile(
    r"(?:(?:approximately|about|roughly|exactly|therefore|thus|hence|then|just|simply|indeed|clearly|still|again"
    r"|always|now)[,:]? )+"
    r"(?=[-+$\\(.0-9])"
)
_SUBJECT = re.compile(r"(?:[A-Z][a-z]|[a-z]+ |[A-Za-z] )")
_IS_THE = re.compile(r" (?:is|are) (?:the|our|my|its|your) [a-z ]+\Z")
_OPTION = re.compile(r"\{?\(?([A-J])[).:] *\}? *(?=[-$\\.0-9(])")
_AND = re.compile(r" *(?:, *and\b|\band\b|[,;]|\\?&) *")
_LETTER = re.compile(r"\(?([A-J])\)?\.?|\(([a-j])\)")
_OPTIONS = re.compile(
    r"(?:(?:both|the|correct|options?|choices?|statements?|answers?)(?: are)?:? )*(.*?)(?: only)?\.?", re.IGNORECASE
)


def without_qualifier(text: str) -> str:
    r"""The text without `\text{ for all } x > 0`, `\forall x` or `\text{ since } n > 0` at its end."""
    if len(text) > MAX_CHARACTERS or not any(word in text for word in ("for", "\u2200", "since", "because", "as")):
        return text
    match = _QUALIFIER.search(text)
    if match is None or match.start() == 0 or _TAKES_BACK.search(text, match.end()):
        return text
    if _ANOTHER_VALUE.search(text, match.end()) or _QUALIFIER.search(text, match.end()):
        return text
    return _head(text, match) or text


def value_in_words(text: str) -> str | None:
    """The value that a phrase or sentence gives, or None where it gives none, or more than that.

    >>> value_in_words("12, which is even"), value_in_words("The sum of the roots is 12.")
    ('12', '12')
    >>> value_in_words("5, which is wrong"), value_in_words("It is not 5")
    (None, None)
    """
    if len(text) > MAX_CHARACTERS:
        return None
    whole = " ".join(_TEXT.sub("", without_markup(text)).replace("\u2019", "'").split()).rstrip(".")
    found = _without_reason(_without_sentence(_ADVERB.sub("", whole, count=1) if _ADVERB.match(whole) else whole))
    return found if found != whole and found else None


def without_option(text: str, names: Collection[str]) -> str:
    r"""The value behind the letter of its option, `(B) 12`, where no variable has that name."""
    match = _OPTION.match(plain) if (plain := _TEXT.sub("", without_markup(text))[:MAX_CHARACTERS]) else None
    return text if match is None or match[1] in names else plain[match.end() :]


def options(text: str) -> str:
    r"""Several letters of options as a list, `A, C`, however they are set: `\text{(A) and (C)}`; else empty."""
    if len(text) > MAX_CHARACTERS:
        return ""
    plain = _TEXT.sub("", text).replace("{", "").replace("}", "").replace("~", " ").replace("\\ ", " ")
    listed = _OPTIONS.fullmatch(" ".join(plain.replace("\\,", " ").split()))
    letters = [_LETTER.fullmatch(piece) for piece in _AND.split(listed[1])] if listed else []
    found = [letter[1] or letter[2].upper() for letter in letters if letter]
    return ", ".join(found) if len(found) == len(letters) > 1 else ""


def _without_sentence(text: str) -> str:
    """What a sentence says that something is: `The sum of the roots is 12`."""
    verb = _VERB.search(text)
    if verb is not None and _SUBJECT.match(text) and not _DENIES.search(text, 0, verb.start()):
        rest = text[verb.end() :]
        if not _VERB.search(_without_reason(rest)):
            return rest
    if (tail := _IS_THE.search(text)) and _VALUE.match(text[: tail.start()]) and not _DENIES.search(text):
        return text[: tail.start()]
    return text


def _without_reason(text: str) -> str:
    same = _SAME.search(text)
    if same is not None and same.start() > 0 and _VALUE.match(text[: same.start()]):
        # Said twice: both must agree, as in a chain of equations.
        first, second = text[: same.start()].strip("$ "), text[same.end() :].rstrip(")").strip("$ ")
        if same["about"]:
            return f"{first} ≈ {second}"
        # The last side of a chain counts: the one that is written as a result.
        return f"{first} = {second}" if _RESULT.fullmatch(second) else f"{second} = {first}"
    if contrast := _CONTRAST.search(text):
        head = text[: contrast.start()]
        is_text = re.search("[a-zA-Z]{3}", head) is not None and not any(map(str.isdigit, text))
        if is_text and not _DENIES.search(head) and _is_another_text(head, contrast[1]):
            return head
    for pattern, takes_back in ((_REASON, _TAKES_BACK), (_APPOSITION, _TAKES_BACK_OR_ADDS)):
        match = pattern.search(text)
        if (
            match is not None
            and match.start() > 0
            and not takes_back.search(text, match.start())
            and not _is_another_verdict(text[: match.start()], text[match.start() :])
            and not _is_another_number(text[: match.start()], match[0])
            and not _ANOTHER_VALUE.search(text, match.end())
        ):
            head = _head(text, match)
            if _VALUE.match(head):
                return head
    return text


def _is_another_text(head: str, text: str) -> bool:
    """Whether what is contrasted with a text is another one, and no word on whether the text is right."""
    words = _words(text)
    return words != _words(head) and not _TAKES_BACK.search(text) and _VERDICTS.isdisjoint(words)


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"[^\W_]+", text.lower()) if word not in ("a", "an", "the")]


def _is_another_verdict(head: str, remark: str) -> bool:
    """Whether a remark gives the other one of yes and no: `Yes, it is no`."""
    is_positive = re.fullmatch(r"(?:yes|true)\W*", head, re.IGNORECASE) is not None
    return is_positive and re.search(r"\b(?:no|false)\W*\Z", remark, re.IGNORECASE) is not None


def _is_another_number(head: str, remark: str) -> bool:
    """Whether a remark spells out a number that is not the one before it: `12 (thirteen)`."""
    words = re.findall(r"[a-z]+", remark.lower())
    if not words or not all(word in _NUMBER_WORDS or word == "and" for word in words):
        return False
    total = part = 0
    for word in words:
        value = _NUMBER_WORDS.get(word, 0)
        if value >= 1000:
            total, part = total + max(part, 1) * value, 0
        else:
            part = max(part, 1) * value if value == 100 else part + value
    numbers = re.findall(r"[0-9][0-9,.]*", head)  # one, and its unit: `5 dollars (five)`
    return len(numbers) != 1 or numbers[0].replace(",", "") != str(total + part)


def _head(text: str, match: re.Match[str]) -> str:
    """What stands before a remark; empty where its braces do not match."""
    end = match.start()
    while text.count("{", 0, end) > text.count("}", 0, end) and end < match.end():
        end += 1
    head = text[:end].rstrip(" ,;:({")
    return head if head.count("{") == head.count("}") else ""
