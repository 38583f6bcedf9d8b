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

_CLASSES = """
class ListNode:
    def __init__(self, val=0, next=None):
        self.val = val
        self.next = next

class TreeNode:
    def __init__(self, val=0, left=None, right=None):
        self.val = val
        self.left = left
        self.right = right
"""
_HELPERS = """
MOST_NODES = 2**20  # of a result; a tree may have a subtree in several places, and so no place is forbidden twice

def new(name, value, sides):
    own, empty = module.get(name), [None] * len(sides)
    # the source may have defined the class anew, without defaults, or so that we cannot make one
    for kind, args in (own, []), (own, empty), (classes[name], []):
        try:
            node = kind(value, *args)
        except TypeError:
            continue
        for side in sides:
            setattr(node, side, None)
        return node

def link(values):
    first = None
    for value in reversed(values):
        node = new("ListNode", value, ["next"])
        node.next, first = first, node
    return first

def grow(values):
    sides = ["left", "right"]
    nodes, rest = [new("TreeNode", value, sides) for value in values[:1]], iter(values[1:])
    for node in nodes:  # it becomes longer meanwhile
        for side in sides:
            value = next(rest, None)
            if value is not None:
                nodes.append(new("TreeNode", value, sides))
                setattr(node, side, nodes[-1])
    return nodes[0] if nodes else None

def unlink(node):
    seen, values = {}, []
    while node is not None:
        if id(node) in seen or len(seen) == MOST_NODES:
            raise ValueError(f"the list has a cycle or more than {MOST_NODES} nodes")
        seen[id(node)] = node  # kept, so that no other node gets its id
        values.append(node.val)
        node = node.next
    return values

def levels(root):
    values, nodes = [], [root]
    for node in nodes:
        if node is None:
            values.append(None)
            continue
        value = node.val
        if value is None:
            raise ValueError("a node of the tree has the value None, which stands for a child that is not there")
        if len(nodes) > 2 * MOST_NODES:  # with their missing children
            raise ValueError(f"the tree has a cycle or more than {MOST_NODES} nodes")
        values.append(value)
        nodes += node.left, node.right
    while values and values[-1] is None:
        del values[-1]
    return values

def each(convert):
    return lambda values: [convert(value) for value in values]

make = {"": lambda value: value, "ListNode": link, "TreeNode": grow}
read = {"": lambda value: value, "ListNode": unlink, "TreeNode": levels}
for table in (make, read):
    table.update({f"list[{kind}]": each(table[kind]) for kind in ("ListNode", "TreeNode")})

def call_with_nodes(name, types, returns, args):
    owner, dot, method = name.partition("().")
    if owner not in module:
        raise NameError(f"name {owner!r} is not defined")
    function = getattr(module[owner](), method) if dot else module[owner]
    return read[returns](function(*[make[kind](value) for kind, value in zip(types, args)]))
"""

PRELUDE = f"""{_CLASSES}
{CALL} = {{"module": globals(), "classes": {{"ListNode": ListNode, "TreeNode": TreeNode}},
    "__builtins__": dict(vars(__import__("builtins")))}}
exec({_HELPERS!r}, {CALL})
{CALL} = {CALL}["call_with_nodes"]
"""
"""Executed in the jail before the source, in the same module.

A source may define the two classes anew, and any other name: the helpers have a namespace and builtins of their own.
"""


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
