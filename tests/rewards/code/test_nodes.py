# ruff: noqa: E501 (a program a line)
"""Functions of linked lists and trees, whose tests are written as lists, as LeetCode writes them."""

from __future__ import annotations

import json

import pytest

from rewards.base import InvalidReference, Outcome
from rewards.code import CodeTestsReward, FunctionCase, FunctionTests, as_dict, load
from rewards.code.sandbox import Limits, sandbox_report

strong = pytest.mark.skipif(sandbox_report().grade != "strong", reason="there is no strong sandbox here")


def node_tests(entry_point, types, returns, *cases, **options):
    made = tuple(FunctionCase(tuple(args), {}, expected) for args, expected in cases)
    return FunctionTests(entry_point, made, argument_types=tuple(types), return_type=returns, **options)


STARTER = """from typing import List, Optional


# Definition for singly-linked list.
# class ListNode:
#     def __init__(self, val=0, next=None):
#         self.val = val
#         self.next = next
class Solution:
    def reverseList(self, head: Optional[ListNode]) -> Optional[ListNode]:
"""
REVERSE = node_tests(
    "Solution().reverseList",
    ["ListNode"],
    "ListNode",
    ([[1, 2, 3]], [3, 2, 1]),
    ([[]], []),
    ([[7]], [7]),
    prefix=STARTER,
)
REVERSES = """class Solution:
    def reverseList(self, head: Optional[ListNode]) -> Optional[ListNode]:
        before = None
        while head:
            head.next, before, head = before, head, head.next
        return before
"""
MERGE = node_tests(
    "merge", ["list[ListNode]"], "ListNode", ([[[1, 4], [], [2, 3]]], [1, 2, 3, 4]), ([[]], []), ([[[]]], [])
)
MERGES = """def merge(lists):
    values = []
    for node in lists:
        while node: values.append(node.val); node = node.next
    first = last = ListNode()
    for value in sorted(values): last.next = ListNode(value); last = last.next
    return first.next
"""
INVERT = node_tests(
    "invert",
    ["TreeNode"],
    "TreeNode",
    ([[4, 2, 7, 1, 3, 6, 9]], [4, 7, 2, 9, 6, 3, 1]),
    ([[1, None, 2, 3]], [1, 2, None, None, 3]),
    ([[]], []),
)
INVERTS = """def invert(root: "TreeNode"):
    if root: root.left, root.right = invert(root.right), invert(root.left)
    return root
"""
DEPTH = node_tests(
    "depth", ["TreeNode", ""], "", ([[3, 9, 20, None, None, 15, 7], 0], 3), ([[], 5], 5), ([[1, None, 2], 1], 3)
)
DEPTHS = "def depth(root, more): return 1 + max(depth(root.left, more), depth(root.right, more)) if root else more\n"
TREES = node_tests("trees", [""], "list[TreeNode]", ([2], [[1], [2]]), ([0], []))
SPLIT = node_tests("split", ["ListNode"], "list[ListNode]", ([[1, 2]], [[1, 2], []]))
LONG = node_tests("same", ["ListNode"], "ListNode", ([list(range(20_000))], list(range(20_000))))
PAIR = node_tests("pair", [""], "TreeNode", ([0], [1, 2]))
SAME_TWICE = node_tests("twice", [""], "TreeNode", ([3], [0, 3, 3]))
SHARED = node_tests("shared", ["ListNode"], "list[ListNode]", ([[1, 2]], [[1, 2], [2]]))

# name: tests, program, how many tests pass
TABLE = {
    "a list": (REVERSE, REVERSES, 3),
    "future annotations": (REVERSE, "from __future__ import annotations\nfrom typing import Optional\n" + REVERSES, 3),
    "a class of its own": (REVERSE, "class ListNode:\n    def __init__(self, x): self.val, self.next = x, None\n" + REVERSES, 3),
    "a class with slots": (REVERSE, "class ListNode:\n    __slots__ = ('val', 'next')\n    def __init__(self, val=0, next=None): self.val, self.next = val, next\n" + REVERSES, 3),
    "a wrong order": (REVERSE, REVERSES.replace("return before", "return head"), 1),
    "a list where nodes are wanted": (REVERSE, "class Solution:\n    def reverseList(self, head): return [3, 2, 1]", 0),
    "nothing where a list is wanted": (REVERSE, "class Solution:\n    def reverseList(self, head): return None", 1),
    "nodes that lie": (REVERSE, "class Solution:\n    def reverseList(self, head):\n        class N:\n            next = None\n            def __eq__(s, o): return True\n        n = N(); n.val = n\n        return n", 0),
    "another name": (REVERSE, REVERSES.replace("reverseList", "reverse"), 0),
    "several lists": (MERGE, MERGES, 3),
    "a tree": (INVERT, INVERTS, 3),
    "a tree that is not changed": (INVERT, "def invert(root): return root", 1),
    "a tree and a number": (DEPTH, DEPTHS, 3),
    "a list of trees": (TREES, "def trees(n): return [TreeNode(i + 1) for i in range(n)]", 2),
    "a list of lists": (SPLIT, "def split(head): return [head, None]", 1),
    "a long list": (LONG, "def same(head): return head", 1),
    "a node without a value": (PAIR, "def pair(n):\n    h = TreeNode(1); h.left = TreeNode(2); h.right = TreeNode(None)\n    return h", 0),
    "a node without a value below": (PAIR, "def pair(n):\n    h = TreeNode(1, TreeNode(2, TreeNode(None)))\n    return h", 0),
    "a root without a value": (TREES, "def trees(n): return [TreeNode(None)] * n", 1),
    "a circle": (LONG, "def same(head):\n    head.next.next.next = head\n    return head", 0),
    "a circle of one": (SPLIT, "def split(head):\n    head.next = head\n    return [head, None]", 0),
    "a circle of equal nodes": (LONG, "from dataclasses import dataclass\n@dataclass\nclass ListNode:\n    val: int = 0\n    next: object = None\ndef same(head):\n    head.next.next = head\n    return head", 0),
    "a list without an end": (LONG, "class N:\n    val = 0\n    next = property(lambda self: N())\ndef same(head): return N()", 0),
    "a tree in itself": (INVERT, "def invert(root):\n    if root: root.right = root\n    return root", 1),
    "a tree of 2 ** 50 nodes": (INVERT, "def invert(root):\n    for _ in range(50): root = TreeNode(1, root, root)\n    return root", 0),
    "a subtree in two places": (SAME_TWICE, "def twice(n):\n    leaf = TreeNode(n)\n    return TreeNode(0, leaf, leaf)", 1),
    "lists with the same end": (SHARED, "def shared(head): return [head, head.next]", 1),
    **{f"a function of its own: {name}": (tests, f"def {name}(*args): return None\n{source}", tests.total)
       for name in ("reversed", "next", "iter", "zip", "setattr", "getattr", "globals", "id", "len", "dict", "link", "new")
       for tests, source in [(INVERT, INVERTS) if name in ("next", "iter", "setattr") else (REVERSE, REVERSES)]},
    "a builtin that is changed": (REVERSE, "import builtins\nbuiltins.reversed = None\n" + REVERSES, 3),
    "a list class without defaults": (REVERSE, "class ListNode:\n    def __init__(self, val, next): self.val, self.next = val, next\n" + REVERSES, 3),
    "a list class with three fields": (REVERSE, "class ListNode:\n    def __init__(self, val, before, next): self.val, self.next = val, next\n" + REVERSES, 3),
    "a list class without arguments": (REVERSE, "class ListNode:\n    val = next = None\n" + REVERSES, 3),
    "a tree class without defaults": (INVERT, "class TreeNode:\n    def __init__(self, val, left, right): self.val, self.left, self.right = val, left, right\n" + INVERTS, 3),
    "a tree class that sets no children": (INVERT, "class TreeNode:\n    def __init__(self, val): self.val = val\n" + INVERTS, 3),
    "a dataclass": (INVERT, "from dataclasses import dataclass\n@dataclass\nclass TreeNode:\n    val: int\n    left: 'TreeNode | None'\n    right: 'TreeNode | None'\n" + INVERTS, 3),
    "a class that is gone": (REVERSE, "del ListNode\n" + REVERSES.replace("Optional[ListNode]", "object"), 3),
}  # fmt: skip


@strong
@pytest.mark.parametrize("name", TABLE)
def test_nodes(name):
    tests, source, passed = TABLE[name]
    reference = json.loads(json.dumps(as_dict(tests)))
    (result,) = CodeTestsReward(count_all=True)(["?"], [f"```python\n{source}\n```\n"], [reference])
    assert result.metrics["passed"] == passed, result
    assert result.reward == float(passed == tests.total)


@strong
@pytest.mark.parametrize("mode", ["zygote", "fresh"])
def test_a_circle_and_what_the_jail_denies(mode):
    circle = "def same(head):\n    head.next = head\n    while head: head = head.next"
    wrong = "def same(head): __import__('os').fork()"
    broken = "def same(head)"
    reward = CodeTestsReward(mode=mode, limits=Limits(cpu_seconds=2.0, memory_bytes=128 * 2**20))
    results = reward([""] * 3, [f"```python\n{source}\n```" for source in (circle, wrong, broken)], [LONG] * 3)
    assert results[0].outcome is Outcome.TIMEOUT
    assert [result.outcome for result in results[1:]] == [Outcome.FORBIDDEN, Outcome.SYNTAX_ERROR]


def test_they_survive_json():
    for tests in (REVERSE, MERGE, INVERT, DEPTH, TREES):
        assert load(json.loads(json.dumps(as_dict(tests)))) == tests
    plain = FunctionTests("f", (FunctionCase((1,), {}, 1),))
    assert "argument_types" not in as_dict(plain)


def test_none_at_the_end_of_a_tree_does_not_count():
    assert node_tests("f", ["TreeNode"], "TreeNode", ([[1, None, None]], [1, None])).cases[0] == FunctionCase(
        ([1],), {}, [1]
    )


@pytest.mark.parametrize(
    ("types", "returns", "args", "expected", "message"),
    [
        (["Node"], "", [[1]], 1, "not 'Node'"),
        (["ListNode"], "ListNode | None", [[1]], [], "ListNode | None"),
        ([3], "", [[1]], 1, "not 3"),
        (["ListNode"], "", [[1], 2], 1, r"cases\[0\] must have one of args for each of the 1 argument_types"),
        (["ListNode"], "", [3], 1, "a ListNode is written as a list, not as a int"),
        (["ListNode"], "ListNode", [[1]], None, "not as a NoneType"),
        (["list[ListNode]"], "", [[1]], 1, "a ListNode is written as a list"),
        (["TreeNode"], "", [[1, None, None, 2]], 1, r"\[2\] has no parent"),
        (["TreeNode"], "", [[None, 1]], 1, r"\[1\] has no parent"),
    ],
)
def test_what_cannot_be_used_is_refused(types, returns, args, expected, message):
    with pytest.raises(InvalidReference, match=message):
        node_tests("f", types, returns, (args, expected))


def test_arguments_by_name_are_refused():
    with pytest.raises(InvalidReference, match="no kwargs"):
        FunctionTests("f", (FunctionCase((), {"head": [1]}, 1),), argument_types=("ListNode",))
