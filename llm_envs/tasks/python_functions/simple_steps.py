"""Steps on lists of numbers, texts, lists of words and tables of counts; levels 2 to 4 chain them."""

# ruff: noqa: E501 (a description and its code are each one line)
from __future__ import annotations

from llm_envs.tasks.python_functions.program import piece

_LETTERS = tuple("aeost")
_MARKS = ("-", "_", "+", "*", "/")

NUMBERS = (
    piece("ints", "ints", "keep only the even numbers", "[n for n in {x} if n % 2 == 0]"),
    piece("ints", "ints", "keep only the odd numbers", "[n for n in {x} if n % 2 == 1]"),
    piece("ints", "ints", "keep only the numbers divisible by {k}", "[n for n in {x} if n % {k} == 0]", k=(3, 4, 5)),
    piece("ints", "ints", "drop the numbers divisible by {k}", "[n for n in {x} if n % {k} != 0]", k=(3, 4, 5)),
    piece("ints", "ints", "keep only the numbers greater than {k}", "[n for n in {x} if n > {k}]", k=range(-5, 6)),
    piece("ints", "ints", "keep only the numbers less than {k}", "[n for n in {x} if n < {k}]", k=range(-3, 9)),
    piece("ints", "ints", "add {k} to each number", "[n + {k} for n in {x}]", k=range(1, 10)),
    piece("ints", "ints", "subtract {k} from each number", "[n - {k} for n in {x}]", k=range(1, 10)),
    piece("ints", "ints", "multiply each number by {k}", "[n * {k} for n in {x}]", k=range(2, 10)),
    piece("ints", "ints", "square each number", "[n * n for n in {x}]"),
    piece("ints", "ints", "replace each number by its absolute value", "[abs(n) for n in {x}]"),
    piece(
        "ints",
        "ints",
        "replace each number by its remainder when divided by {k}",
        "[n % {k} for n in {x}]",
        k=range(3, 10),
    ),
    piece("ints", "ints", "divide each number by {k}, rounding down", "[n // {k} for n in {x}]", k=range(2, 6)),
    piece("ints", "ints", "replace the negative numbers by 0", "[max(n, 0) for n in {x}]"),
    piece("ints", "ints", "replace the numbers greater than {k} by {k}", "[min(n, {k}) for n in {x}]", k=range(1, 9)),
    piece("ints", "ints", "sort the numbers in ascending order", "sorted({x})"),
    piece("ints", "ints", "sort the numbers in descending order", "sorted({x}, reverse=True)"),
    piece(
        "ints",
        "ints",
        "sort the numbers by absolute value, the smaller number first if equal",
        "sorted({x}, key=lambda n: (abs(n), n))",
    ),
    piece(
        "ints",
        "ints",
        "sort the numbers by their remainder when divided by {k}, the smaller number first if equal",
        "sorted({x}, key=lambda n: (n % {k}, n))",
        k=range(3, 8),
    ),
    piece("ints", "ints", "reverse the order of the numbers", "{x}[::-1]"),
    piece("ints", "ints", "drop the first {k} numbers", "{x}[{k}:]", k=(1, 2)),
    piece("ints", "ints", "drop the last {k} numbers", "{x}[:-{k}]", k=(1, 2)),
    piece("ints", "ints", "keep the first {k} numbers", "{x}[:{k}]", k=(2, 3, 4)),
    piece("ints", "ints", "keep every {k} number, beginning with the first", "{x}[::{k}]", k=(2,)),
    piece("ints", "ints", "move the first number to the end", "{x}[1:] + {x}[:1]"),
    piece("ints", "ints", "append the sum of the numbers", "{x} + [sum({x})]"),
    piece(
        "ints",
        "ints",
        "multiply each number by its position, counting from {k}",
        "[i * n for i, n in enumerate({x}, {k})]",
        k=(1, 2, 3),
    ),
    piece(
        "ints",
        "ints",
        "replace the numbers by the differences between each number and the one before it",
        "[b - a for a, b in zip({x}, {x}[1:])]",
    ),
    piece(
        "ints",
        "ints",
        "replace the numbers by the sums of every {k} neighbouring numbers",
        "[sum({x}[i:i + {k}]) for i in range(len({x}) - {m})]",
        k=(2,),
        m=(1,),
    ),
    piece(
        "ints",
        "ints",
        "replace the numbers by the largest of every {k} neighbouring numbers",
        "[max({x}[i:i + {k}]) for i in range(len({x}) - {m})]",
        k=(3,),
        m=(2,),
    ),
    piece(
        "ints",
        "ints",
        "remove repeated numbers, keeping the first of each",
        "unique = []\nfor value in {x}:\n    if value not in unique:\n        unique.append(value)\nunique",
    ),
    piece(
        "ints",
        "ints",
        "replace each number by the sum of it and all numbers before it",
        "sums = []\ntotal = 0\nfor value in {x}:\n    total += value\n    sums.append(total)\nsums",
    ),
    piece(
        "ints",
        "ints",
        "replace each number by the largest number up to there",
        "highest = []\nfor value in {x}:\n    highest.append(max(highest[-1:] + [value]))\nhighest",
    ),
    piece(
        "ints",
        "ints",
        "replace each run of equal neighbours by its length",
        "runs = []\nlast = None\nfor value in {x}:\n    if value != last:\n        runs.append(0)\n    runs[-1] += 1\n    last = value\nruns",
    ),
)
"""A list of numbers becomes another."""

SUMMARIES = (
    piece("ints", "int", "add the numbers up", "sum({x})"),
    piece("ints", "int", "add up the squares of the numbers", "sum(n * n for n in {x})"),
    piece("ints", "int", "take the largest number (0 if there is none)", "max({x} or [0])"),
    piece("ints", "int", "take the smallest number (0 if there is none)", "min({x} or [0])"),
    piece(
        "ints",
        "int",
        "take the difference between the largest and the smallest number (0 if there is none)",
        "max({x} or [0]) - min({x} or [0])",
    ),
    piece(
        "ints",
        "int",
        "take the second largest of the different numbers (0 if there are fewer than two)",
        "sorted(set({x}))[-2] if len(set({x})) > 1 else 0",
    ),
    piece("ints", "int", "count the different numbers", "len(set({x}))"),
    piece("ints", "int", "count the numbers greater than {k}", "sum(1 for n in {x} if n > {k})", k=range(-3, 9)),
    piece(
        "ints",
        "int",
        "count the numbers that are greater than the number before them",
        "sum(1 for a, b in zip({x}, {x}[1:]) if b > a)",
    ),
    piece(
        "ints",
        "int",
        "add up the numbers at positions 0, 2, 4, ... and subtract the others",
        "sum({x}[::2]) - sum({x}[1::2])",
    ),
    piece("ints", "int", "add up the numbers divisible by {k}", "sum(n for n in {x} if n % {k} == 0)", k=(2, 3, 4)),
    piece(
        "ints",
        "int",
        "take the position of the first largest number, counting from 0 (-1 if there is none)",
        "{x}.index(max({x})) if {x} else -1",
    ),
    piece(
        "ints",
        "int",
        "take the middle one of the sorted numbers, the left one of two (0 if there is none)",
        "sorted({x})[(len({x}) - 1) // 2] if {x} else 0",
    ),
    piece(
        "ints",
        "int",
        "take the most frequent number, the smallest if several are (0 if there is none)",
        "max(sorted({x}), key=lambda n: {x}.count(n)) if {x} else 0",
    ),
    piece(
        "ints",
        "int",
        "multiply the numbers that are not 0 (1 if there is none) and take the remainder when divided by {k}",
        "product = 1\nfor value in {x}:\n    if value != 0:\n        product = product * value % {k}\nproduct",
        k=(97, 101, 1009),
    ),
    piece(
        "ints",
        "int",
        "take the greatest common divisor of the numbers (0 if there is none)",
        "divisor = 0\nfor value in {x}:\n    value = abs(value)\n    while value:\n        divisor, value = value, divisor % value\ndivisor",
    ),
    piece(
        "ints",
        "int",
        "take the length of the longest run of equal neighbours",
        "longest = 0\nlength = 0\nlast = None\nfor value in {x}:\n    length = length + 1 if value == last else 1\n    longest = max(longest, length)\n    last = value\nlongest",
    ),
    piece(
        "ints",
        "int",
        "take the length of the longest strictly increasing run of neighbours",
        "longest = 0\nlength = 0\nlast = None\nfor value in {x}:\n    length = length + 1 if length > 0 and value > last else 1\n    longest = max(longest, length)\n    last = value\nlongest",
    ),
    piece(
        "ints", "bool", "say whether there is a number greater than {k}", "any(n > {k} for n in {x})", k=range(3, 20)
    ),
    piece("ints", "bool", "say whether the sum of the numbers is divisible by {k}", "sum({x}) % {k} == 0", k=(2, 3)),
    piece("ints", "bool", "say whether no number occurs twice", "len(set({x})) == len({x})"),
    piece(
        "ints",
        "bool",
        "say whether the numbers are in ascending order (equal neighbours allowed)",
        "all(a <= b for a, b in zip({x}, {x}[1:]))",
    ),
    piece("ints", "tally", "count how often each number occurs, as a dictionary", "{n: {x}.count(n) for n in {x}}"),
    piece(
        "ints",
        "tally",
        "map each number to the position where it occurs last, counting from 0, as a dictionary",
        "{n: i for i, n in enumerate({x})}",
    ),
)
"""A list of numbers becomes one value."""

TABLES = (
    piece(
        "tally",
        "ints",
        "take the keys, the one with the largest value first and the smaller key first if equal",
        "sorted({x}, key=lambda n: (-{x}[n], n))",
    ),
    piece("tally", "ints", "take the values in ascending order", "sorted({x}.values())"),
    piece(
        "tally",
        "tally",
        "keep only the entries whose value is at least {k}",
        "{n: {x}[n] for n in {x} if {x}[n] >= {k}}",
        k=(2,),
    ),
    piece(
        "tally",
        "tally",
        "keep only the entries whose key is greater than {k}",
        "{n: {x}[n] for n in {x} if n > {k}}",
        k=range(6),
    ),
    piece("tally", "int", "add up each key multiplied by its value", "sum(n * m for n, m in {x}.items())"),
    piece(
        "counts",
        "words",
        "take the keys, the one with the largest value first and in alphabetical order if equal",
        "sorted({x}, key=lambda w: (-{x}[w], w))",
    ),
    piece("counts", "words", "take the keys in alphabetical order", "sorted({x})"),
    piece(
        "counts",
        "counts",
        "keep only the entries whose value is at least {k}",
        "{w: {x}[w] for w in {x} if {x}[w] >= {k}}",
        k=(2,),
    ),
    piece("counts", "counts", "multiply each value by {k}", "{w: {x}[w] * {k} for w in {x}}", k=range(2, 6)),
    piece("counts", "ints", "take the values in ascending order", "sorted({x}.values())"),
    piece("counts", "int", "take the largest value (0 if there is none)", "max(list({x}.values()) or [0])"),
    piece("counts", "int", "count the entries whose value is 1", "sum(1 for w in {x} if {x}[w] == 1)"),
)
"""Dictionaries become something else."""

TEXTS = (
    piece("text", "text", "reverse the text", "{x}[::-1]"),
    piece("text", "text", "swap upper and lower case", "{x}.swapcase()"),
    piece("text", "text", "make all letters upper case", "{x}.upper()"),
    piece("text", "text", "make all letters lower case", "{x}.lower()"),
    piece(
        "text", "text", "remove the vowels (aeiou in either case)", "''.join([c for c in {x} if c not in 'aeiouAEIOU'])"
    ),
    piece("text", "text", "keep only the letters", "''.join([c for c in {x} if c.isalpha()])"),
    piece(
        "text",
        "text",
        "keep only the upper-case letters and the spaces",
        "''.join([c for c in {x} if c.isupper() or c == ' '])",
    ),
    piece("text", "text", "replace each space by '{c}'", "{x}.replace(' ', '{c}')", c=_MARKS),
    piece("text", "text", "replace each '{a}' by '{c}'", "{x}.replace('{a}', '{c}')", a=_LETTERS, c=_MARKS),
    piece("text", "text", "write each character {k} times", "''.join([c * {k} for c in {x}])", k=(2, 3)),
    piece("text", "text", "drop the first {k} characters", "{x}[{k}:]", k=(1, 2, 3)),
    piece("text", "text", "drop the last {k} characters", "{x}[:-{k}]", k=(1, 2, 3)),
    piece("text", "text", "keep every {k} character, beginning with the first", "{x}[::{k}]", k=(2,)),
    piece("text", "text", "sort the characters", "''.join(sorted({x}))"),
    piece("text", "text", "append the reversed text", "{x} + {x}[::-1]"),
    piece("text", "text", "put '{c}' between the characters", "'{c}'.join({x})", c=_MARKS),
    piece(
        "text",
        "text",
        "replace each lower-case letter from a to z by the one {k} places later in the alphabet, going on with a after z",
        "''.join([chr((ord(c) - 97 + {k}) % 26 + 97) if 'a' <= c and c <= 'z' else c for c in {x}])",
        k=range(1, 8),
    ),
    piece(
        "text",
        "text",
        "remove repeated characters, keeping the first of each",
        "unique = ''\nfor c in {x}:\n    if c not in unique:\n        unique += c\nunique",
    ),
    piece(
        "text",
        "text",
        "replace each run of a character by the character and the length of the run (aab becomes a2b1)",
        "runs = []\nlast = ''\nfor c in {x}:\n    if c != last:\n        runs.append([c, 0])\n    runs[-1][1] += 1\n    last = c\n''.join([c + str(length) for c, length in runs])",
    ),
    piece("text", "words", "split the text at white space", "{x}.split()"),
    piece(
        "text",
        "words",
        "take the pieces of {k} neighbouring characters, in order",
        "[{x}[i:i + {k}] for i in range(len({x}) - {m})]",
        k=(2,),
        m=(1,),
    ),
    piece("text", "int", "count the vowels (aeiou in either case)", "sum(1 for c in {x} if c in 'aeiouAEIOU')"),
    piece("text", "int", "count the upper-case letters", "sum(1 for c in {x} if c.isupper())"),
    piece("text", "int", "count the different characters", "len(set({x}))"),
    piece("text", "int", "count how often '{a}' occurs", "{x}.count('{a}')", a=_LETTERS),
    piece("text", "int", "add up the digits in it", "sum(int(c) for c in {x} if c.isdigit())"),
    piece("text", "bool", "say whether it reads the same backwards", "{x} == {x}[::-1]"),
    piece(
        "text",
        "ints",
        "take the position in the alphabet of each letter (1 for a or A, 26 for z or Z), leaving out the other characters",
        "[ord(c) - 96 for c in {x}.lower() if 'a' <= c and c <= 'z']",
    ),
    piece(
        "text",
        "counts",
        "count how often each letter occurs, in lower case, as a dictionary",
        "letters = {}\nfor c in {x}.lower():\n    if c.isalpha():\n        letters[c] = letters.get(c, 0) + 1\nletters",
    ),
)
"""A text becomes something else."""

WORDS = (
    piece("words", "words", "make all words upper case", "[w.upper() for w in {x}]"),
    piece("words", "words", "reverse each word", "[w[::-1] for w in {x}]"),
    piece("words", "words", "reverse the order of the words", "{x}[::-1]"),
    piece(
        "words",
        "words",
        "sort the words by length, in alphabetical order if equal (as Python compares strings)",
        "sorted({x}, key=lambda w: (len(w), w))",
    ),
    piece(
        "words", "words", "sort the words in descending order (as Python compares strings)", "sorted({x}, reverse=True)"
    ),
    piece(
        "words",
        "words",
        "keep only the words with more than {k} characters",
        "[w for w in {x} if len(w) > {k}]",
        k=(2, 3, 4),
    ),
    piece(
        "words",
        "words",
        "keep only the words with at most {k} characters",
        "[w for w in {x} if len(w) <= {k}]",
        k=(3, 4, 5),
    ),
    piece("words", "words", "keep only the words that contain '{a}'", "[w for w in {x} if '{a}' in w]", a=_LETTERS),
    piece("words", "words", "drop the words that contain '{a}'", "[w for w in {x} if '{a}' not in w]", a=_LETTERS),
    piece("words", "words", "keep the first {k} characters of each word", "[w[:{k}] for w in {x}]", k=(2, 3)),
    piece("words", "words", "drop the first character of each word", "[w[1:] for w in {x}]"),
    piece(
        "words", "words", "append '{c}' and its length to each word", "[w + '{c}' + str(len(w)) for w in {x}]", c=_MARKS
    ),
    piece(
        "words",
        "words",
        "put the position of each word in front of it, counting from {k}",
        "[str(i) + w for i, w in enumerate({x}, {k})]",
        k=(0, 1, 2),
    ),
    piece(
        "words",
        "words",
        "drop every word that is equal to the one before it",
        "[w for i, w in enumerate({x}) if i == 0 or w != {x}[i - 1]]",
    ),
    piece("words", "text", "join the words with '{c}' between them", "'{c}'.join({x})", c=_MARKS),
    piece("words", "text", "join the last characters of the words", "''.join([w[-1:] for w in {x}])"),
    piece(
        "words",
        "text",
        "take the longest word, the first if several are ('' if there is none)",
        "max({x}, key=lambda w: len(w)) if {x} else ''",
    ),
    piece("words", "ints", "replace each word by its length", "[len(w) for w in {x}]"),
    piece(
        "words",
        "ints",
        "replace each word by its number of vowels (aeiou in either case)",
        "[sum(1 for c in w if c in 'aeiouAEIOU') for w in {x}]",
    ),
    piece("words", "int", "add up the lengths of the words", "sum(len(w) for w in {x})"),
    piece("words", "int", "count the different words", "len(set({x}))"),
    piece("words", "counts", "count how often each word occurs, as a dictionary", "{w: {x}.count(w) for w in {x}}"),
    piece("words", "counts", "map each word to its length, as a dictionary", "{w: len(w) for w in {x}}"),
)
"""A list of words becomes something else."""

RESULTS = (
    piece("int", "int", "add {k}", "{x} + {k}", k=range(1, 10)),
    piece("int", "int", "multiply by {k}", "{x} * {k}", k=range(2, 10)),
    piece("int", "int", "subtract it from {k}", "{k} - {x}", k=range(1, 30)),
    piece("int", "int", "take the remainder when divided by {k}", "{x} % {k}", k=range(5, 20)),
    piece("int", "int", "square it", "{x} ** 2"),
    piece("int", "text", "write it as a text", "str({x})"),
)
"""A number becomes another."""
