# ruff: noqa: E501 (a program a line)
"""Tasks whose answer is a class: LeetCode's `class Solution`, and classes that keep a state."""

from __future__ import annotations

import json

import pytest

from rewards.base import InvalidReference, Outcome
from rewards.code import (
    CheckTests,
    ClassCase,
    ClassTests,
    CodeTestsReward,
    FunctionCase,
    FunctionTests,
    as_dict,
    load,
)
from rewards.code.sandbox import sandbox_report

strong = pytest.mark.skipif(sandbox_report().grade != "strong", reason="there is no strong sandbox here")

STARTER = (
    "from typing import List, Optional\n\n\nclass Solution:\n    def addOne(self, nums: List[int]) -> List[int]:\n"
)
ADD_ONE = FunctionTests(
    "Solution().addOne",
    (FunctionCase(([1, 2],), {}, [2, 3]), FunctionCase((), {"nums": []}, []), FunctionCase(([0],), {}, [1])),
    prefix=STARTER,
)
SOLUTION = (
    "class Solution:\n    def addOne(self, nums: List[int]) -> List[int]:\n        return [n + 1 for n in nums]\n"
)
MIN_STACK = ClassTests(
    "MinStack",
    (
        ClassCase(
            ("MinStack", "push", "push", "push", "getMin", "pop", "top", "getMin"),
            ((), (-2,), (0,), (-3,), (), (), (), ()),
            (None, None, None, None, -3, None, 0, -2),
        ),
        ClassCase(("MinStack", "push", "top"), ((), (5,), ()), (None, None, 5)),
    ),
)
STACK = """
class MinStack:
    def __init__(self): self.items = []
    def push(self, val: int) -> None: self.items.append((val, min(val, self.getMin() if self.items else val)))
    def pop(self) -> None: self.items.pop()
    def top(self) -> int: return self.items[-1][0]
    def getMin(self) -> int: return self.items[-1][1]
"""
COUNTER = ClassTests(
    "Counter",
    (ClassCase(("Counter", "add", "mean"), ([10, [1]], [0.5], []), [None, {"n": (10.5, 1)}, 1 / 3]),),
    rel_tol=1e-6,
)

# name: tests, program, how many tests pass
TABLE = {
    "a method": (ADD_ONE, "from typing import List\n" + SOLUTION, 3),
    "names that the starter code imports": (ADD_ONE, SOLUTION, 3),
    "the body alone": (ADD_ONE, "        return [n + 1 for n in nums]\n", 3),
    "names without the starter code": (FunctionTests("Solution().addOne", ADD_ONE.cases), SOLUTION, 0),
    "a preamble of imports": (FunctionTests("Solution().addOne", ADD_ONE.cases, prefix="from typing import *"), SOLUTION, 3),
    "a preamble of imports, for a function": (
        FunctionTests("f", (FunctionCase((4,), {}, 2.0),), prefix="import math\nfrom typing import List\n"),
        "def f(x: List) -> List: return math.sqrt(x)",
        1,
    ),
    "future annotations": (ADD_ONE, "from __future__ import annotations\n" + SOLUTION, 3),
    "another method": (ADD_ONE, SOLUTION.replace("addOne", "addTwo"), 0),
    "no class": (ADD_ONE, "def addOne(nums): return [n + 1 for n in nums]", 0),
    "a wrong method": (ADD_ONE, SOLUTION.replace("n + 1", "n"), 1),
    "a new object for each call": (ADD_ONE, SOLUTION.replace("        return", "        self.seen = hasattr(self, 'seen')\n        if self.seen: return None\n        return"), 3),
    "a static method": (ADD_ONE, "class Solution:\n    @staticmethod\n    def addOne(nums): return [n + 1 for n in nums]", 3),
    "a method of the base class": (ADD_ONE, "class A:\n    def addOne(self, nums): return [n + 1 for n in nums]\nclass Solution(A): pass", 3),
    "a class that cannot be made": (ADD_ONE, SOLUTION + "    def __init__(self, x): pass\n", 0),
    "an object that lies": (ADD_ONE, "class Solution:\n    def __getattr__(self, name): return lambda *a, **k: self\n    def __eq__(self, o): return True", 0),
    "a state": (MIN_STACK, STACK, 2),
    "a state that all objects share": (MIN_STACK, STACK.replace("def __init__(self): self.items = []", "items = []"), 2),
    "a state that is kept nowhere": (MIN_STACK, STACK.replace("self.items.append", "list().append"), 0),
    "a wrong minimum": (MIN_STACK, STACK.replace("return self.items[-1][1]", "return 0"), 1),
    "a method that is missing": (MIN_STACK, STACK.replace("def top", "def peek"), 0),
    "a function of that name": (MIN_STACK, "def MinStack(): return None", 0),
    "what a method returns for nothing": (MIN_STACK, STACK.replace("self.items.pop()", "return self.items.pop()"), 1),
    "arguments, containers and floats": (
        COUNTER,
        "class Counter:\n    def __init__(self, n, seen): self.n, self.seen = n, seen\n"
        "    def add(self, x): return {'n': (self.n + x, len(self.seen))}\n    def mean(self): return 0.33333333",
        1,
    ),
    "an argument that the program changes": (
        ClassTests("A", (ClassCase(("A", "f", "f"), ([], [[1]], [[1]]), (None, 1, 1)),) * 2),
        "class A:\n    def f(self, x):\n        x.append(2)\n        return len(x) - 1",
        2,
    ),
    "checks of a method": (
        CheckTests("Solution().addOne", ("assert candidate([1]) == [2]", "assert candidate(nums=[]) == []"), prefix=STARTER),
        SOLUTION,
        2,
    ),
    "checks that make the object": (CheckTests("Solution().addOne", "assert Solution().addOne([1]) == [2]", prefix=STARTER), SOLUTION, 1),
    "checks with a wrong method": (CheckTests("Solution().addOne", "assert Solution().addOne([1]) == [2]"), "class Solution:\n    def addOne(self, n): return n", 0),
}  # fmt: skip


@strong
@pytest.mark.parametrize("name", TABLE)
def test_classes(name):
    tests, source, passed = TABLE[name]
    completion = source if source.startswith(" ") else f"So:\n```python\n{source}\n```\n"
    reference = json.loads(json.dumps(as_dict(tests)))
    (result,) = CodeTestsReward(count_all=True)(["?"], [completion], [reference])
    assert result.metrics["passed"] == passed, result
    assert result.reward == float(passed == tests.total)


@strong
@pytest.mark.parametrize("mode", ["zygote", "fresh"])
def test_a_class_that_ends_the_program(mode):
    for source, outcome in (
        (STACK.replace("self.items.pop()", "__import__('os')._exit(0)"), Outcome.CRASHED),
        (STACK.replace("self.items.pop()", "__import__('os').fork()"), Outcome.FORBIDDEN),
        (STACK.replace("self.items = []", "self.items = ["), Outcome.SYNTAX_ERROR),
        (STACK, Outcome.CORRECT),
    ):
        (result,) = CodeTestsReward(mode=mode)(["?"], [f"```python\n{source}\n```"], [MIN_STACK])
        assert result.outcome is outcome


def test_they_survive_json():
    for tests in (ADD_ONE, MIN_STACK, COUNTER):
        assert load(json.loads(json.dumps(as_dict(tests)))) == tests
        assert load(tests) is tests
    assert COUNTER.cases[0].args == ((10, [1]), (0.5,), ())


CASE = MIN_STACK.cases[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FunctionTests("Solution().", ADD_ONE.cases), "entry_point"),
        (lambda: FunctionTests("().f", ADD_ONE.cases), "entry_point"),
        (lambda: FunctionTests("Solution().a.b", ADD_ONE.cases), "entry_point"),
        (lambda: FunctionTests("Solution(1).f", ADD_ONE.cases), "entry_point"),
        (lambda: FunctionTests("Solution().f().g", ADD_ONE.cases), "entry_point"),
        (lambda: FunctionTests("Solution().class", ADD_ONE.cases), "entry_point"),
        (lambda: CheckTests("A().", "assert candidate()"), "entry_point"),
        (lambda: ClassTests("MinStack().push", (CASE,)), "entry_point"),
        (lambda: ClassTests("Stack", (CASE,)), r"cases\[0\]\.methods\[0\] must be the class, 'Stack'"),
        (lambda: ClassTests("MinStack", ()), "cases is empty"),
        (lambda: ClassTests("MinStack", (1,)), "ClassCase"),
        (lambda: ClassTests("A", (ClassCase(("A",), ((),), (None,)),)), "no method"),
        (lambda: ClassTests("A", (ClassCase(("A", "f"), ((),), (None, 1)),)), r"args must be a list with one entry"),
        (lambda: ClassTests("A", (ClassCase(("A", "f"), ((), ()), (1,)),)), r"expected must be a list with one entry"),
        (lambda: ClassTests("A", (ClassCase(("A", "f g"), ((), ()), (None, 1)),)), r"methods\[1\]"),
        (lambda: ClassTests("A", (ClassCase(("A", "f"), ((), 1), (None, 1)),)), r"call 1\.args"),
        (lambda: ClassTests("A", (ClassCase(("A", "f"), ((), ()), (None, len)),)), r"call 1\.expected"),
        (lambda: ClassTests("A", (ClassCase(("A", "f"), ((), ()), (None, float("nan"))),)), "NaN"),
        (lambda: ClassTests("A", (ClassCase(("A", "f"), ((), ()), (None, 1)),), rel_tol=2), "rel_tol"),
        (lambda: load({"kind": "class", "entry_point": "A", "cases": [{"methods": ["A"]}]}), "args is missing"),
    ],
)
def test_what_cannot_be_used_is_refused(make, message):
    with pytest.raises(InvalidReference, match=message):
        make()
