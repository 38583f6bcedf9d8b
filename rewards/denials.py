"""The words by which a text says that what follows is not its answer, for every place where answers are looked for."""

from __future__ import annotations

NEGATION = (
    r"(?:\b(?:not|never|cannot|neither|nor|rather than|instead of"
    r"|(?:is|was|something) other than"
    r"|no longer|anything but|hardly|scarcely|(?:I|we)(?: really| strongly| seriously)? doubt(?: that)?(?: it)?)"
    r"|n['\u2019]t)"
)
"""A regular expression for a negation: "not", "never", "rather than", the end of "isn't".

"None other than" and "no doubt" are none.
"""

OTHER_THAN = r"(?<!none )(?<!nothing )(?<!anything )(?<!be )(?<!not )\bother than"
"""The same for "other than" without a mark behind it; "all numbers other than" a marked one may be the answer."""
