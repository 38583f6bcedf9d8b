"""The words by which a text says that what follows is not its answer, for every place where answers are looked for."""

from __future__ import annotations

NEGATION = (
    r"(?:\b(?:not|never|cannot|neither|nor|rather than|instead of"
    r"|(?<!none )(?<!nothing )(?<!anything )(?<!be )(?<!not )other than"
    r"|no longer|anything but|hardly|scarcely|(?:I|we)(?: really| strongly| seriously)? doubt(?: that)?(?: it)?)"
    r"|n['\u2019]t)"
)
"""A regular expression for a negation: "not", "never", "rather than", the end of "isn't".

"None other than" and "no doubt" are none.
"""
