"""Level 4: searches, dynamic programming, number theory and matrices, between steps of the other levels."""

# ruff: noqa: E501 (a description and its code are each one line)
from __future__ import annotations

from llm_envs.tasks.python_functions.program import piece

ON_NUMBERS = (
    piece(
        "ints",
        "int",
        "take the length of the longest strictly increasing subsequence (not necessarily neighbours)",
        """
best = []
for i in range(len({x})):
    best.append(1 + max([best[j] for j in range(i) if {x}[j] < {x}[i]] + [0]))
max(best + [0])""",
    ),
    piece(
        "ints",
        "int",
        "take the largest sum of a contiguous part (0 for the empty part)",
        """
best = 0
current = 0
for value in {x}:
    current = max(current + value, 0)
    best = max(best, current)
best""",
    ),
    piece(
        "ints",
        "int",
        "take the largest sum of numbers of which no two are neighbours (0 for none)",
        """
taken = 0
left = 0
for value in {x}:
    taken, left = left + value, max(taken, left)
max(taken, left)""",
    ),
    piece(
        "ints",
        "int",
        "count the pairs in which the earlier number is greater than the later one",
        """
sum(1 for j in range(len({x})) for i in range(j) if {x}[i] > {x}[j])""",
    ),
    piece(
        "ints",
        "int",
        "count the pairs of positions whose numbers add up to {k}",
        """
sum(1 for j in range(len({x})) for i in range(j) if {x}[i] + {x}[j] == {k})""",
        k=range(9),
    ),
    piece(
        "ints",
        "int",
        "count the non-empty contiguous parts whose sum is divisible by {k}",
        """
found = 0
for i in range(len({x})):
    total = 0
    for j in range(i, len({x})):
        total += {x}[j]
        if total % {k} == 0:
            found += 1
found""",
        k=(3, 4, 5),
    ),
    piece(
        "ints",
        "int",
        "take the length of the longest contiguous part whose sum is at most {k} (0 if there is none)",
        """
longest = 0
for i in range(len({x})):
    total = 0
    for j in range(i, len({x})):
        total += {x}[j]
        if total <= {k}:
            longest = max(longest, j - i + 1)
longest""",
        k=range(3, 15),
    ),
    piece(
        "ints",
        "int",
        "take the largest difference of a number and an earlier one (0 if no later number is greater)",
        """
best = 0
for j in range(len({x})):
    for i in range(j):
        best = max(best, {x}[j] - {x}[i])
best""",
    ),
    piece(
        "ints",
        "int",
        "count the ways to choose some of the numbers (also none) so that their sum is divisible by {k}",
        """
ways = {0: 1}
for value in {x}:
    more = {}
    for total in ways:
        more[total] = more.get(total, 0) + ways[total]
        other = (total + value) % {k}
        more[other] = more.get(other, 0) + ways[total]
    ways = more
ways.get(0, 0)""",
        k=(3, 4, 5, 6, 7),
    ),
    piece(
        "ints",
        "ints",
        "replace each number by how many later numbers are smaller",
        """
[sum(1 for m in {x}[i + 1:] if m < n) for i, n in enumerate({x})]""",
    ),
    piece(
        "ints",
        "ints",
        "replace each number by the next later number that is greater (-1 if there is none)",
        """
[([m for m in {x}[i + 1:] if m > n] + [-1])[0] for i, n in enumerate({x})]""",
    ),
)
"""On lists of numbers."""

ON_A_COUNT = (
    piece(
        "count",
        "int",
        "take the smallest number of coins of 1, {a} and {b} that add up to {x}",
        """
fewest = [0]
for amount in range(1, {x} + 1):
    fewest.append(1 + min([fewest[amount - coin] for coin in [1, {a}, {b}] if coin <= amount]))
fewest[{x}]""",
        a=(3, 4, 5),
        b=(6, 7, 9, 11, 13),
    ),
    piece(
        "count",
        "int",
        "count the ways to climb {x} steps when {a} or {b} are taken at a time (the order matters; one way for 0 steps), and take the remainder when divided by 10007",
        """
ways = [1]
for height in range(1, {x} + 1):
    ways.append(sum(ways[height - step] for step in [{a}, {b}] if step <= height) % 10007)
ways[{x}]""",
        a=(1, 2),
        b=(3, 4, 5),
    ),
    piece(
        "count",
        "int",
        "take element {x} of the sequence that begins with {a}, {b} (elements 0 and 1) and goes on with {c} times the last element plus {d} times the one before, each reduced to its remainder when divided by 1009",
        """
first = {a}
second = {b}
for i in range({x}):
    first, second = second, ({c} * second + {d} * first) % 1009
first""",
        a=(0, 1, 2),
        b=(1, 3, 4),
        c=(1, 2, 3),
        d=(1, 2, 5),
    ),
    piece(
        "count",
        "ints",
        "list the prime numbers up to and including {x}",
        """
[p for p in range(2, {x} + 1) if all(p % d != 0 for d in range(2, p) if d * d <= p)]""",
    ),
    piece(
        "count",
        "ints",
        "list the positive divisors of {x} in ascending order (none for 0)",
        """
[d for d in range(1, {x} + 1) if {x} % d == 0]""",
    ),
    piece(
        "count",
        "ints",
        "list the digits of {x} in base {k}, the last digit first (none for 0)",
        """
digits = []
rest = {x}
while rest > 0:
    digits.append(rest % {k})
    rest = rest // {k}
digits""",
        k=(2, 3, 5, 7),
    ),
    piece(
        "count",
        "ints",
        "list the prime factors of {x} in ascending order, repeated as often as they divide it (none below 2)",
        """
factors = []
rest = {x}
factor = 2
while factor <= rest:
    if rest % factor == 0:
        factors.append(factor)
        rest = rest // factor
    else:
        factor += 1
factors""",
    ),
    piece(
        "count",
        "ints",
        "list the numbers from 1 to {x} whose decimal digits add up to a multiple of {k}",
        """
[i for i in range(1, {x} + 1) if sum(int(c) for c in str(i)) % {k} == 0]""",
        k=(3, 4, 5, 7),
    ),
    piece(
        "count",
        "ints",
        "list the numbers from {x} + 1 on that you get by halving an even number and replacing an odd one by 3 times it plus 1, up to and including the first 1",
        """
sequence = [{x} + 1]
while sequence[-1] != 1:
    value = sequence[-1]
    sequence.append(value // 2 if value % 2 == 0 else 3 * value + 1)
sequence""",
    ),
)
"""On a number that is not negative."""

ON_GRIDS = (
    piece("grid", "grid", "swap rows and columns", "[[row[i] for row in {x}] for i in range(len({x}[0]))]"),
    piece(
        "grid",
        "grid",
        "turn the grid a quarter clockwise",
        "[[row[i] for row in {x}[::-1]] for i in range(len({x}[0]))]",
    ),
    piece("grid", "grid", "reverse each row", "[row[::-1] for row in {x}]"),
    piece("grid", "grid", "reverse the order of the rows", "{x}[::-1]"),
    piece("grid", "grid", "multiply each number by {k}", "[[n * {k} for n in row] for row in {x}]", k=range(2, 7)),
    piece("grid", "grid", "add {k} to each number", "[[n + {k} for n in row] for row in {x}]", k=range(1, 8)),
    piece("grid", "grid", "replace the negative numbers by 0", "[[max(n, 0) for n in row] for row in {x}]"),
    piece("grid", "grid", "sort each row in ascending order", "[sorted(row) for row in {x}]"),
    piece(
        "grid",
        "grid",
        "replace each number by its remainder when divided by {k}",
        "[[n % {k} for n in row] for row in {x}]",
        k=range(3, 8),
    ),
    piece(
        "grid",
        "grid",
        "add to each number its row and its column, counting from 0",
        "[[n + i + j for j, n in enumerate(row)] for i, row in enumerate({x})]",
    ),
    piece("grid", "grid", "append to each row its sum", "[row + [sum(row)] for row in {x}]"),
    piece("grid", "ints", "add up each row", "[sum(row) for row in {x}]"),
    piece("grid", "ints", "add up each column", "[sum(row[i] for row in {x}) for i in range(len({x}[0]))]"),
    piece("grid", "ints", "take the largest number of each row", "[max(row) for row in {x}]"),
    piece(
        "grid",
        "ints",
        "take the smallest number of each column",
        "[min(row[i] for row in {x}) for i in range(len({x}[0]))]",
    ),
    piece(
        "grid",
        "ints",
        "take the numbers whose row and column are equal",
        "[{x}[i][i] for i in range(min(len({x}), len({x}[0])))]",
    ),
    piece("grid", "ints", "take the numbers row by row", "[n for row in {x} for n in row]"),
    piece(
        "grid",
        "ints",
        "take the numbers in a spiral: clockwise from the top left to the middle",
        """
spiral = []
rest = {x}
while rest:
    spiral = spiral + rest[0]
    rest = [[row[-i] for row in rest[1:]] for i in range(1, len(rest[0]) + 1)] if len(rest) > 1 else []
spiral""",
    ),
    piece(
        "grid",
        "int",
        "take the smallest sum along a way from the top left to the bottom right that goes only right or down",
        """
costs = []
for row in {x}:
    line = []
    for j in range(len(row)):
        before = costs[j:j + 1] + line[-1:]
        line.append(row[j] + min(before or [0]))
    costs = line
costs[-1]""",
    ),
    piece(
        "grid",
        "int",
        "take the largest sum along a way that begins in the top row and goes down one row at a time, to the same column or a neighbouring one, to the bottom row",
        """
best = {x}[0]
for row in {x}[1:]:
    best = [n + max(best[max(j - 1, 0):j + 2]) for j, n in enumerate(row)]
max(best)""",
    ),
    piece(
        "grid",
        "int",
        "count the numbers that are greater than all their neighbours to the left, right, above and below",
        """
found = 0
for i in range(len({x})):
    for j in range(len({x}[0])):
        around = [[i - 1, j], [i + 1, j], [i, j - 1], [i, j + 1]]
        inside = [{x}[r][c] for r, c in around if 0 <= r and r < len({x}) and 0 <= c and c < len({x}[0])]
        if all(n < {x}[i][j] for n in inside):
            found += 1
found""",
    ),
)
"""On grids with at least one row and one column."""

ON_TEXTS = (
    piece(
        "text",
        "int",
        "take the length of the longest subsequence that reads the same backwards (not necessarily neighbours)",
        """
before = [0] * (len({x}) + 1)
for c in {x}:
    line = [0]
    for j, d in enumerate({x}[::-1]):
        line.append(before[j] + 1 if c == d else max(before[j + 1], line[j]))
    before = line
before[-1]""",
    ),
    piece(
        "text",
        "int",
        "take the length of the longest contiguous part in which no character occurs twice",
        """
longest = 0
for i in range(len({x})):
    for j in range(i, len({x})):
        if len(set({x}[i:j + 1])) == j - i + 1:
            longest = max(longest, j - i + 1)
longest""",
    ),
    piece(
        "text",
        "int",
        "count the contiguous parts of at least two characters that read the same backwards",
        """
found = 0
for i in range(len({x})):
    for j in range(i + 2, len({x}) + 1):
        part = {x}[i:j]
        if part == part[::-1]:
            found += 1
found""",
    ),
    piece(
        "text",
        "int",
        "take the smallest number of insertions, deletions and replacements of a character that turn the text into '{w}'",
        """
before = list(range(len('{w}') + 1))
for i, c in enumerate({x}):
    line = [i + 1]
    for j, d in enumerate('{w}'):
        line.append(min(before[j] + (0 if c == d else 1), before[j + 1] + 1, line[j] + 1))
    before = line
before[-1]""",
        w=("table", "banana", "stone", "level", "radio", "code"),
    ),
    piece(
        "text",
        "ints",
        "replace each character by the number of characters since it last occurred (0 if it has not occurred before)",
        """
last = {}
gaps = []
for i, c in enumerate({x}):
    gaps.append(i - last.get(c, i))
    last[c] = i
gaps""",
    ),
)
"""On texts."""
