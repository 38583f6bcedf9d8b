"""Whether a reward runs its answer as code.

Such a reward can be ended, or kept busy for ever, by an answer. So this is tried first, with code that does no harm;
where it is run, the audit leaves out the texts that would end the audit itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from llm_envs.audit.answer_marks import AnswerMarks, number

_TRACE = "LLM_ENVS_AUDIT_TRACE"
ENDING_OR_ENDLESS = frozenset(
    [
        "9**9**9**9",
        "10^{10^{10^{10}}}",
        "((((2)!)!)!)!",
        "1e999999999",
        "__import__('os')._exit(0)",
        "import sys; sys.exit(0)",
        "raise SystemExit(0)",
    ]
)
"""The hostile strings that an evaluator may never come back from."""


def code_for(marks: AnswerMarks) -> Iterator[tuple[str, str]]:
    """Python code that comes to the answer, and code that leaves a trace in the process that runs it."""
    if marks.is_short:
        value = marks.answer if number(marks.answer) is not None else repr(marks.answer)
        for text in (f"[7, {value}][1]", f"(lambda: {value})()", f"{value} if True else 7"):
            yield "code that comes to it", text
    yield "code that leaves a trace", f"__import__('os').environ.update({_TRACE}='1')"


def take_trace() -> bool:
    """Whether code was run in this process since the last call."""
    return os.environ.pop(_TRACE, None) is not None
