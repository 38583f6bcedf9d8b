r"""The LaTeX commands that set text or change its look, as every reward reads them.

Each list is used where a completion or a reference may have any of its commands: `\text{ cm}`, `\textnormal{ cm}` and
`\mathrm{cm}` are read alike.
"""

from __future__ import annotations

TEXT_MACROS = (
    "text", "textbf", "textit", "textmd", "textnormal", "textrm", "textsc", "textsf", "textsl", "texttt", "textup",
    "mbox", "hbox", "emph", "underline",
)  # fmt: skip
"""Commands whose argument is text."""

FONT_MACROS = (
    "mathrm", "mathbf", "mathit", "mathsf", "mathtt", "mathnormal", "boldsymbol", "bm", "operatorname", "mathop",
)  # fmt: skip
"""Commands that set the letters of a formula in another font; people set words and units in them."""

SPACING = r"\\[,;:! ]"
"""A regular expression for the spacing commands of one character."""

TEXT_COMMAND = rf"\\(?:{'|'.join((*TEXT_MACROS, *FONT_MACROS, 'rm', 'bf'))})(?![a-zA-Z])"
r"""A regular expression for any command around text, without its argument: `\text`, `\mathrm`."""
