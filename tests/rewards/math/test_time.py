"""What reading a formula costs, in bytecode lines and calls: linear in its length, whatever it is made of."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.math.answers import read_formula
from rewards.math.lexer import MAX_CHARACTERS, tokenize
from rewards.math.nodes import Unreadable
from rewards.math.numerals import TooLarge, numbers_in, read_numeral
from rewards.math.statements import SeveralCandidates
from rewards.math.units import read_unit, split_unit

PIECES = [
    "1,111,", "1{,}111", "(1,111,", "\\text{", "\\mathrm{ cm}", "\\boxed{", "\\,", "\\!", "{", "}", "$", '"', "\\\\",
    "\\left", "\\frac", "1 ", "-", "x=", "=", "\\approx ", " or ", ", ", "a", "sin", "\\text{ cm}", " cm", "^{",
    "^\\circ", "1.", "...", "\\angle A", "\\overline{AB}", "5\\text{ ft } ", "|", "\\{", "'", "1/", "½", "\\\\[4pt]",
    "\\text{ when } n=", "\\sqrt2=", "\\pi\\approx 3.14,", "\\overline{3}", "₁",
]  # fmt: skip


def steps(function, text):
    """How many lines and calls of Python run."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += 1
        return trace

    sys.settrace(trace)
    try:
        function(text)
    except (Unreadable, TooLarge, SeveralCandidates, RecursionError):
        pass
    finally:
        sys.settrace(None)
    return count


@settings(deadline=None, max_examples=60)
@given(pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=4), end=st.sampled_from(["", "5", "}", "1111"]))
def test_reading_takes_time_in_proportion_to_the_length(pieces, end):
    text = "".join(pieces)
    for function in (tokenize, read_formula, read_numeral, split_unit, read_unit, numbers_in):
        for length in (250, 500, 1_000, 2_000):
            repeated = text * (length // len(text)) + end
            assert steps(function, repeated) < 4_000 + 400 * length


@pytest.mark.parametrize("piece", PIECES)
def test_a_text_beyond_the_cap_is_not_read(piece):
    with pytest.raises(TooLarge):
        tokenize(piece * (MAX_CHARACTERS + 1))
    assert steps(tokenize, piece * (MAX_CHARACTERS + 1)) < 100
    assert steps(read_formula, piece * 100_000) < 10_000 + 4 * len(piece) * 100_000
