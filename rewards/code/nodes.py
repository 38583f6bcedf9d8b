"""Linked lists and binary trees in tests, as LeetCode has them: written as lists, passed and returned as nodes.

`[1, 2, 3]` is a `ListNode` with its successors. `[1, null, 2, 3]` is a `TreeNode`: the tree level by level, with None
for a child that is not there, and no None at the end. The empty list is None in both. A list of either is
`list[ListNode]` or `list[TreeNode]`.
"""

from __future__ import annotations

from typing import Any

TYPES = ("", "ListNode", "TreeNode", "list[ListNode]", "list[TreeNode]")
"""What an argument or a result may be; the empty text stands for plain data."""

CALL = "_call_with_nodes"
"""The function in `PRELUDE` that is called with the name of the tested one, the types and the arguments."""

PRELUDE = """
class ListNode:
    def __init__(self, val=0, next=None):
        self.val = val
        self.next = next

class TreeNode:
    def __init__(self, val=0, left=None, right=None):
        self.val = val
        self.left = left
        self.right = right

def _call_with_nodes(name, types, returns, args):
    def link(values):
        first = None
        for value in reversed(values):
            node = ListNode(value)
            node.next, first = first, node
        return first

    def grow(values):
        nodes, rest = [TreeNode(value) for value in values[:1]], iter(values[1:])
        for node in nodes:  # it becomes longer meanwhile
            for side in ("left", "right"):
                value = next(rest, None)
                if value is not None:
                    nodes.append(TreeNode(value))
                    setattr(node, side, nodes[-1])
        return nodes[0] if nodes else None

    def unlink(node):
        values = []
        while node is not None:
            values.append(node.val)
            node = node.next
        return values

    def levels(root):
        values, nodes = [], [root]
        for node in nodes:
            values.append(None if node is None else node.val)
            nodes += () if node is None else (node.left, node.right)
        while values and values[-1] is None:
            del values[-1]
        return values

    def each(convert):
        return lambda values: [convert(value) for value in values]

    make = {"": lambda value: value, "ListNode": link, "TreeNode": grow}
    read = {"": lambda value: value, "ListNode": unlink, "TreeNode": levels}
    for table in (make, read):
        table.update({f"list[{kind}]": each(table[kind]) for kind in ("ListNode", "TreeNode")})
    owner, dot, method = name.partition("().")
    if owner not in globals():
        raise NameError(f"name {owner!r} is not defined")
    function = getattr(globals()[owner](), method) if dot else globals()[owner]
    return read[returns](function(*[make[kind](value) for kind, value in zip(types, args)]))
"""
"""Executed in the jail before the source, in the same module. A source may define the two classes anew."""


def checked(kind: str, value: Any) -> Any:
    """Return the value as the jail gives it for a result of that type; trees lose the None at their end.

    Raises:
        ValueError: Where it is not written as described above.
    """
    if not kind:
        return value
    if not isinstance(value, list):
        raise ValueError(f"a {kind} is written as a list, not as a {type(value).__name__}")
    if kind.startswith("list["):
        return [checked(kind[5:-1], element) for element in value]
    if kind == "ListNode":
        return value
    end = len(value)
    while end and value[end - 1] is None:
        end -= 1
    value = value[:end]
    places = 1  # those that the nodes so far have for further ones
    for number, element in enumerate(value):
        if not places:
            raise ValueError(f"{value[number:]!r:.80} has no parent in the tree {value!r:.80}")
        places += -1 if element is None else 1
    return value
