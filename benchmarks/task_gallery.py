"""The gallery of docs/tasks.md: a prompt, a solution and a wrong answer of each task, and what the reward says of them.

python benchmarks/task_gallery.py          prints it
python benchmarks/task_gallery.py --write  puts it into docs/tasks.md
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

import llm_envs  # noqa: F401
from llm_envs.audit.answer_marks import marks_of
from llm_envs.audit.prompt_contents import expressions_in
from llm_envs.task import find_task

PAGE = Path(__file__).parent.parent / "docs" / "tasks.md"
BEGIN, END = "<!-- gallery: benchmarks/task_gallery.py -->", "<!-- end of the gallery -->"
DATA = Path(__file__).parent.parent / "tests" / "llm_envs" / "data"
SHOWN: tuple[tuple[str, dict[str, object], str], ...] = (
    ("Arithmetic", {"operands": 3}, ""),
    ("Countdown", {"level": 0}, ""),
    ("Countdown", {"level": 2}, ""),
    ("Equations", {"kind": "linear", "level": 1}, ""),
    ("Equations", {"kind": "quadratic", "level": 3}, ""),
    ("Equations", {"kind": "system", "level": 0}, ""),
    ("Polynomials", {"kind": "expand", "level": 1}, ""),
    ("Polynomials", {"kind": "factor", "level": 1}, ""),
    ("Polynomials", {"kind": "differentiate", "level": 0}, ""),
    ("Polynomials", {"kind": "integrate", "level": 1}, ""),
    ("Fractions", {"level": 0}, ""),
    ("NumberTheory", {"kind": "gcd", "level": 0}, ""),
    ("NumberTheory", {"kind": "to_base", "level": 1}, ""),
    ("NumberTheory", {"kind": "inverse", "level": 0}, ""),
    ("WordProblems", {"level": 1}, ""),
    ("WordProblems", {"level": 2}, ""),
    ("Sorting", {"kind": "words", "level": 0}, ""),
    ("Strings", {"level": 2}, ""),
    ("PythonFunctions", {"level": 0}, "```python\ndef f(x): return 0\n```"),
    ("CodeRepair", {"level": 1}, "```python\ndef f(a, b): return a\n```"),
    ("GuessNumber", {"level": 0}, ""),
)
"""Task, arguments, and a wrong completion; where it is empty, `wrong_answer` finds one."""


def wrong_answer(problem) -> str:
    """What is nearly right: the question's own expression, an unsorted list, a missing constant."""
    marks, reference = marks_of(problem), problem.reference
    if isinstance(reference, dict) and "target" in reference:
        return marks.fill(str(reference["target"]))
    if isinstance(reference, dict):
        asked = problem.prompt.partition(". Put")[0].rpartition(": ")[2].rpartition(", of ")[2]
        return marks.fill(reference["value"] if reference["form"] == "antiderivative" else asked)
    if isinstance(reference, list):
        return marks.fill(", ".join(reversed(reference)))
    if problem.prompt.startswith(("What is ", "Calculate ")) and (asked := expressions_in(problem.prompt)):
        return marks.fill(asked[0])
    if reference.lstrip("-").isdigit():
        return marks.fill(str(int(reference) + 1))
    return marks.fill(reference.split(",")[0].strip("(") if "," in reference else reference[::-1])


def entry(name: str, arguments: dict[str, object], wrong: str) -> str:
    """One entry of the gallery.

    Raises:
        ValueError: The reward does not say what the gallery would claim.
    """
    task = find_task(f"llm_envs/{name}-v0")[0]
    problem = task.problems(**arguments).draw(seed=0)
    wrong = wrong or wrong_answer(problem)
    right_result, wrong_result = task.reward([problem.prompt] * 2, [problem.solution, wrong], [problem.reference] * 2)
    if right_result.reward != 1.0 or wrong_result.reward != 0.0:
        raise ValueError(f"{name} {arguments}: {right_result} for {problem.solution!r}, {wrong_result} for {wrong!r}")
    told = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return "\n".join(
        [
            f"### `llm_envs/{name}-v0` ({told})",
            "",
            *block("prompt", problem.prompt),
            *block("solution: 1", problem.solution),
            *block(f"wrong ({wrong_result.outcome}): 0", wrong),
        ]
    )


def block(title: str, text: str) -> list[str]:
    """A titled block that shows a text as it is."""
    return [f"{title}", "", "````text", text.rstrip("\n"), "````", ""]


def gallery() -> str:
    """All entries."""
    return "\n".join([BEGIN, "", *(entry(*shown) for shown in SHOWN), END])


def page() -> str:
    """docs/tasks.md with its gallery as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    return text[: text.index(BEGIN)] + gallery() + text[text.index(END) + len(END) :]


@dataclass(frozen=True)
class Arguments:
    """Show the gallery of tasks."""

    write: bool = False
    """Put it into docs/tasks.md."""


def main(arguments: Arguments) -> None:
    """Print or write it."""
    if arguments.write:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print(gallery())


if __name__ == "__main__":
    main(tyro.cli(Arguments))
