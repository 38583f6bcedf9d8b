# ruff: noqa: E501 (a completion a line)
"""Where the program of a completion is."""

import ast
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.code.extraction import WINDOW, Form, extract_code

F = "def f(x):\n    return x\n"
G = "def g(x):\n    return x + 1\n"


def fenced(source, language="python", marks="```"):
    return f"{marks}{language}\n{source}{marks}\n"


# name: completion, source
FOUND = {
    "python": (fenced(F), F),
    "py": (fenced(F, "py"), F),
    "python3": (fenced(F, "python3"), F),
    "capitals": (fenced(F, "Python"), F),
    "space": (fenced(F, " python "), F),
    "attributes": (fenced(F, 'python title="f.py"'), F),
    "pandoc": (fenced(F, " {.python}"), F),
    "no language": (fenced(F, ""), F),
    "tildes": (fenced(F, "python", "~~~"), F),
    "tildes without a language": (fenced(F, "", "~~~"), F),
    "four backticks": (fenced(F, "python", "````"), F),
    "prose around": (f"Here it's:\n\n{fenced(F)}\nIt's `f(x)` that works.", F),
    "not closed": (f"Sure:\n```python\n{F}", F),
    "not closed, no end of line": (f"Sure:\n```python\n{F[:-1]}", F[:-1]),
    "longer closing fence": (f"```python\n{F}`````\n", F),
    "windows": (fenced(F).replace("\n", "\r\n"), F),
    "after thinking": (f"<think>{fenced(G)}</think>{fenced(F)}", F),
    "thinking twice": (f"<think>{fenced(G)}</think>{fenced(G)}</think>{fenced(F)}", F),
    "only the end of thinking": (f"hm {fenced(G)}</think>\n\n{F}", F),
    "last that defines": (fenced(F) + fenced("print(f(1))\n"), F),
    "last of two": (fenced("def f(x):\n    return 0\n") + "Better:\n" + fenced(F) + fenced(G), F),
    "another language after": (fenced(F) + fenced("f(1)\n", "text"), F),
    "another language that defines": (fenced("f(1)\n") + fenced(F, "starlark"), F),
    "another language defines too": (fenced(F) + fenced("def f(x):\n    no\n", "ruby"), F),
    "only calls": (fenced("print(f(1))\n"), "print(f(1))\n"),
    "longer name": (fenced(F) + fenced("def ff(x):\n    pass\n"), F),
    "method of that name": (fenced(F) + fenced("class A:\n    def f(self):\n        pass\n"), F),
    "comparison": (fenced(F) + fenced("f == 1\n"), F),
    "lambda": (fenced("f = lambda x: x\n"), "f = lambda x: x\n"),
    "annotated": (fenced("f: object = abs\n") + fenced("1\n"), "f: object = abs\n"),
    "class": (fenced("class f:\n    pass\n") + fenced("1\n"), "class f:\n    pass\n"),
    "async": (fenced("async def f(x):\n    pass\n") + fenced("1\n"), "async def f(x):\n    pass\n"),
    "odd spaces": (fenced("def  f  (x): return x\n") + fenced("1\n"), "def  f  (x): return x\n"),
    "type parameters": (fenced("def f[T](x: T): return x\n") + fenced("1\n"), "def f[T](x: T): return x\n"),
    "in a list": ("1. So:\n   ```python\n   def f(x):\n       return x\n   ```\n", F),
    "in a list, flush": ("1. So:\n   ```python\ndef f(x):\n    return x\n   ```\n", F),
    "indented in the block": ("```python\n    def f(x):\n        return x\n```", "def f(x):\n    return x\n"),
    "second opens while the first is open": ("```python\ndef f(x):\n    retur\nOops.\n```python\n" + F + "```\n", F),
    "inline block": ("Use ```x``` or\n```f(x)```\n" + fenced(F), F),
    "fence in a docstring": (
        fenced('def f(x):\n    """Do.\n\n```python\nf(1)\n```\n    """\n    return x\n') + "Bye.",
        'def f(x):\n    """Do.\n\n```python\nf(1)\n```\n    """\n    return x\n',
    ),
    "indented fence in a docstring": (
        fenced("def f(x):\n    '''\n    ```\n    f(1)\n    ```\n    '''\n") + "Bye.",
        "def f(x):\n    '''\n    ```\n    f(1)\n    ```\n    '''\n",
    ),
    "fence in a string": (fenced("def f(x):\n    return '```\\n' + x\n"), "def f(x):\n    return '```\\n' + x\n"),
    "fence in a comment": (fenced("# ```\n" + F), "# ```\n" + F),
    "quotes in a comment": (fenced('# it\'s """ odd\n' + F) + fenced("f(1)\n"), '# it\'s """ odd\n' + F),
    "quotes in a string": (fenced('q = \'"""\'\n' + F) + fenced('"""a"""\n'), 'q = \'"""\'\n' + F),
    "escaped quotes": (
        fenced('s = """\\"""\n```\n"""\n' + F) + fenced("f(1)\n"),
        's = """\\"""\n```\n"""\n' + F,
    ),
    "string not closed": (fenced('"""\n' + F) + "Bye.", '"""\n' + F),
    "string runs over the end": (fenced('"""\n' + F) + 'Bye """quoted""".', '"""\n' + F),
    "whole text": (F, F),
    "whole text after prose": ("# my solution\nimport math\n\n" + F, "# my solution\nimport math\n\n" + F),
    "whole text indented": ("    def f(x):\n        return x\n", F),
    "whole text without the entry point": ("import math\nprint(math.pi)", "import math\nprint(math.pi)"),
    "empty block before": ("```python\n```\n" + fenced(F), F),
    "lone surrogate": (fenced("def f(x):\n    return '\ud800'\n"), "def f(x):\n    return '\ud800'\n"),
    "nul": (fenced("def f(x):\n    return '\0'\n"), "def f(x):\n    return '\0'\n"),
    "form feed is no line end": (fenced("a = 1\x0c```\n" + F), "a = 1\x0c```\n" + F),
}


@pytest.mark.parametrize(("completion", "source"), FOUND.values(), ids=FOUND)
def test_found(completion, source):
    code = extract_code(completion, entry_point="f")
    assert code is not None
    assert code.source == source


NOTHING = {
    "nothing": "",
    "blank": " \n\t\n",
    "prose": "I cannot do that.",
    "prose with the name": "The function f returns x if it is large.",
    "only thinking": f"<think>{fenced(F)}",
    "thinking again": f"<think></think>{fenced(F)}<think>{fenced(F)}",
    "empty block": "```python\n```",
    "another language": fenced('{"a": 1}\n', "json"),
    "inline code": "Use `f(x)`.",
    "before the window": fenced(F) + "a" * WINDOW,
}


@pytest.mark.parametrize("completion", NOTHING.values(), ids=NOTHING)
def test_nothing_is_found(completion):
    assert extract_code(completion, entry_point="f") is None


# without an entry point
PROGRAMS = {
    "last": (fenced("print(1)\n") + fenced("print(2)\n"), "print(2)\n"),
    "marked before unmarked": (fenced("print(1)\n") + "Output:\n" + fenced("1\n", ""), "print(1)\n"),
    "unmarked": (fenced("print(1)\n", ""), "print(1)\n"),
    "text": (fenced("print(1)\n") + fenced("1\n", "text"), "print(1)\n"),
    "whole": ("n = int(input())\nprint(n)\n", "n = int(input())\nprint(n)\n"),
    "one line": ("print(input())", "print(input())"),
    "loop": ("for i in range(3):\n    pass", "for i in range(3):\n    pass"),
}


READS = "n = int(input())\nprint(n * n)\n"
SOLVE = "def solve():\n    n = int(input())\n    print(n * n)\n\n\nsolve()\n"
INDENTED = "".join(f"    {line}\n" for line in ("```python", *READS.splitlines(), "```"))
# a whole program, and other blocks in the same reply
PROGRAMS |= {
    "example of use behind it": (fenced(READS) + "For example:\n" + fenced("print(3 * 3)  # 9\n"), READS),
    "a block that only calls": (fenced(SOLVE) + "Then:\n" + fenced("solve()\n"), SOLVE),
    "a block that names the input in a comment": (fenced(READS) + fenced("# input(): 3\nprint(9)\n"), READS),
    "example of use before it": ("As in\n" + fenced("assert 3 * 3 == 9\n") + fenced(READS), READS),
    "example of use, tildes": (fenced(READS, "py", "~~~") + fenced("print(9)\n"), READS),
    "shell": (fenced(READS) + fenced("python3 solution.py < input.txt\n", "bash"), READS),
    "shell without a language": (fenced(READS, "") + fenced("$ echo 3 | python3 a.py\n", ""), READS),
    "shell before it": (fenced("pip install numpy\n", "sh") + fenced(READS), READS),
    "output without a language": (fenced(READS, "") + "It prints\n" + fenced("9\n", ""), READS),
    "input and output": (fenced(READS, "") + "Input:\n" + fenced("3\n", "") + "Output:\n" + fenced("9\n", ""), READS),
    "text": (fenced(READS, "") + fenced("input(3) = 9\n", "text"), READS),
    "a marked example and a program without a language": (fenced("print(9)\n") + fenced(READS, ""), READS),
    "indented blocks": (f"1. Program:\n\n{INDENTED}\n2. Use:\n\n    ```python\n    print(9)\n    ```\n", READS),
    "the last block is cut off": (fenced(READS) + "For example:\n```python\nprint(3 *", READS),
    "a better one behind it": (fenced(READS) + "Faster:\n" + fenced(SOLVE), SOLVE),
    "another way to read": (fenced("import sys\nprint(sys.stdin.read())\n") + fenced("print(9)\n"), "import sys\nprint(sys.stdin.read())\n"),
    "open(0)": (fenced("x = open(0).read()\nprint(x)\n") + fenced("print(9)\n"), "x = open(0).read()\nprint(x)\n"),
    "nothing is read": (fenced("print(1)\n", "") + fenced("x = 2\nprint(x)\n", "") + fenced("2\n", ""), "x = 2\nprint(x)\n"),
    "no block has a statement": (fenced("1\n", "") + fenced("f(2)\n", ""), "f(2)\n"),
}  # fmt: skip


@pytest.mark.parametrize(("completion", "source"), PROGRAMS.values(), ids=PROGRAMS)
def test_programs(completion, source):
    code = extract_code(completion)
    assert code is not None
    assert code.source == source
    assert code.form is (Form.FENCED if "```" in completion else Form.WHOLE)


READING = [
    "x = input()\n", "x = int(input ('?'))\n", "for x in iter(input, ''): print(x)\n", "read = input\nprint(read())\n",
    "x, y = map(int, input().split())\n", "def input(): return sys.stdin.readline()\n", "main(input)\n",
    "input = sys.stdin.readline\nprint(input())\n", "print(sys.stdin.buffer.read())\n", "rl = stdin.readlines\n",
    "for line in sys.stdin:\n    print(line)\n", "rows = [line for line in stdin if line.strip()]\n",
    "rows = [\n    line.split()\n    for line in sys.stdin  # all\n]\n", "x = json.load(sys.stdin)\n",
    "x = list(map(int, sys.stdin))\n", "for i, line in enumerate(sys.stdin, 1): print(i)\n", "print(*stdin)\n",
    "*rest, = sys.stdin\nprint(rest)\n", "f = sys.stdin\nprint(f.read())\n", "def main(f=sys.stdin): print(f.read())\n",
    "with sys.stdin as f: print(f.read())\n", "f = open(a) if a else sys.stdin\n", "x = os.read(0, 10)\n",
    "from sys import stdout, stdin as s\nprint(s.read())\n", "import sys as s\nprint(s.stdin.read())\n",
    "x = open(0).read()\n", "x = open(sys.stdin.fileno()).read()\n", "x = open('/dev/stdin').read()\n",
    'x = Path("/dev/fd/0").read_text()\n', "import fileinput\nfor line in fileinput.input(): print(line)\n",
]  # fmt: skip
NOT_READING = [
    "sys.stdin = io.StringIO('3\\n'); main()\n", "subprocess.run(['python', 'a.py'], stdin=open('in.txt'))\n",
    "sys.stdin=open('in.txt')\nsolve()\n", "old = sys.stdin\nsys.stdin = io.StringIO('3')\nmain()\nsys.stdin = old\n",
    "sys.stdin = sys.__stdin__\nmain()\n", "p = Popen(['a'], stdin=PIPE)\np.stdin.write(b'3')\np.stdin.close()\n",
    "with patch('sys.stdin', io.StringIO('3')): main()\n", "monkeypatch.setattr(sys, 'stdin', io.StringIO('3'))\n",
    "with patch('builtins.input', return_value='3'): main()\n", "builtins.input = lambda: '3'\nmain()\n",
    "def input(): return '3'\nmain()\n", "x = run(['a'], input='3\\n', text=True)\n", "input = '3'\nprint(solve(input))\n",
    "input = '3'\nrun(cmd, input=input)\n", "run(cmd, stdin=sys.stdin)\n", "print(9)  # sys.stdin.read(), input()\n",
    "print(sys.stdin.isatty())\n",
]  # fmt: skip


@pytest.mark.parametrize("block", READING)
def test_a_block_that_reads_is_the_program(block):
    assert extract_code(fenced(block) + fenced("x = 9\nprint(x)\n")).source == block


@pytest.mark.parametrize("block", NOT_READING)
@pytest.mark.parametrize("program", [READS, SOLVE, "for line in sys.stdin: print(line)\n"])
def test_a_block_that_only_sets_the_input_is_not_the_program(block, program):
    assert extract_code(fenced(program) + "To try it:\n" + fenced(block)).source == program


@pytest.mark.parametrize("line", [
    "stdin is read", "Input (stdin)", "3 in stdin", "It takes stdin, and writes stdout", "stdin: 3", "input: 3", "input, output",
    "$ python a.py < /dev/stdin", "3 (input)", "stdin",
])  # fmt: skip
def test_a_line_that_speaks_of_the_input_is_not_the_program(line):
    assert extract_code(fenced(READS, "") + fenced(f"{line}\n9\n", "")).source == READS


@pytest.mark.parametrize("piece", [
    "for ", "for x in ", "stdin", "stdin.", "stdin ", "a.stdin", "a(stdin", ",stdin", ", ", "from sys import ", "a(", "= ", "= stdin ",
    "input ", "input\n", "a" * 40, "a(input ", "else ", "\n", "#", "'/dev/", "in  ", "for  in\n",
])  # fmt: skip
def test_reading_is_looked_for_in_linear_time(piece):
    started = time.process_time()
    extract_code("```python\n" + piece * (WINDOW // len(piece)))
    assert time.process_time() - started < 5


# blocks beside the one that defines the function
FUNCTIONS = {
    "example of use": fenced(F) + fenced("x = f(input())\nprint(x)\n"),
    "a block that only calls": fenced(F) + "Then:\n" + fenced("assert f(1) == 1\n"),
    "shell": fenced(F) + fenced("python3 -m pytest f.py\n", "shell"),
    "output": fenced(F) + fenced("f(1) = 1\n", ""),
    "text": fenced(F) + fenced("def f(x): the function\n", "text"),
    "doctest": fenced(F) + fenced(">>> f(1)\n1\n", "pycon"),
    "indented": "1. So:\n   ```python\n   def f(x):\n       return x\n   ```\n2. Use:\n   ```python\n   f(1)\n   ```\n",
    "tildes": fenced(F, "python", "~~~") + fenced("f(1)\n", "python", "~~~"),
    "the last block is cut off": fenced(F) + "For example:\n```python\nprint(f(",
    "tests behind it": fenced(F) + fenced("import unittest\n\n\nclass T(unittest.TestCase):\n    def test_f(self): f(1)\n"),
}  # fmt: skip


@pytest.mark.parametrize("completion", FUNCTIONS.values(), ids=FUNCTIONS)
def test_another_block_is_not_taken_for_the_function(completion):
    code = extract_code(completion, entry_point="f")
    assert code is not None
    assert code.source == F


PREFIX = 'import math\n\n\ndef helper(x):\n    return x\n\n\ndef f(x: int) -> int:\n    """Return x."""\n'
BEFORE = "import math\n\n\ndef helper(x):\n    return x\n\n\n"
CONTINUED = {
    "body": ("    return x\n", PREFIX + "    return x\n"),
    "several lines": ("    y = x\n    return y", PREFIX + "    y = x\n    return y"),
    "blank line first": ("\n    return x\n", PREFIX + "\n    return x\n"),
    "indentation lost": ("return x\n", PREFIX + "    return x\n"),
    "lost everywhere": ("for i in x:\n    y = i\nreturn y", PREFIX + "    for i in x:\n        y = i\n    return y"),
    "lost everywhere, short": ("if x:\n    return y", PREFIX + "    if x:\n        return y"),
    "lost in the first line": ("y = x\n    return y", PREFIX + "    y = x\n    return y"),
    "lost before a block": ("if x:\n        y = 1\n    return y", PREFIX + "    if x:\n        y = 1\n    return y"),
    "function inside, lost in the first line": (
        "def g():\n        return x\n    return g()",
        PREFIX + "    def g():\n        return x\n    return g()",
    ),
    "function inside, lost everywhere": (
        "def g():\n    return x\nreturn g()",
        PREFIX + "    def g():\n        return x\n    return g()",
    ),
    "import inside, lost everywhere": ("import os\nreturn x", PREFIX + "    import os\n    return x"),
    "import inside, lost in the first line": ("import os\n    return x", PREFIX + "    import os\n    return x"),
    "more after it": ("    return x\n\n\ndef g():\n    pass\n", PREFIX + "    return x\n\n\ndef g():\n    pass\n"),
    "after thinking": ("<think>hm</think>\n\n    return x\n", PREFIX + "    return x\n"),
    "fenced body": ("Sure:\n```python\n    return x\n```\n", PREFIX + "    return x\n"),
    "fenced body, lost": ("```python\nreturn x\n```\n", PREFIX + "    return x\n"),
    "fence of the prompt": ("    return x\n```\nThis works: it's f(x).\n", PREFIX + "    return x\n"),
    "fence of the prompt and another": (
        "    return x\n```\nSo:\n```\nf(1)\n```\n",
        PREFIX + "    return x\n",
    ),
    "repeated": (fenced(F), BEFORE + F),
    "repeated after indented prose": ("  Sure:\n" + fenced(F, ""), BEFORE + F),
    "repeated without a fence": (F, BEFORE + F),
    "repeated with imports": (fenced("import os\n" + F), BEFORE + "import os\n" + F),
    "repeated with a future import": (
        fenced("from __future__ import annotations\n" + F),
        "from __future__ import annotations\n" + F,
    ),
}


@pytest.mark.parametrize(("completion", "source"), CONTINUED.values(), ids=CONTINUED)
def test_continuation_of_a_prefix(completion, source):
    code = extract_code(completion, entry_point="f", prefix=PREFIX)
    assert code is not None
    assert code.source == source
    ast.parse(code.source)
    assert (code.form is Form.CONTINUED) == source.startswith(PREFIX)


def test_prefixes_of_other_shapes():
    def source(completion, prefix):
        return extract_code(completion, entry_point="f", prefix=prefix).source

    assert source(" x", "def f(x): return") == "def f(x): return x"
    assert source("return x", "def f(x):\n    ") == "def f(x):\n    return x"
    assert source("    return x", "def f(x):") == "def f(x):\n    return x"
    assert source("return x", "def f(x):\n") == "def f(x):\n    return x"
    assert source(F, "@cache\n@other\ndef f(x):\n") == F
    assert source(F, "import a\n@cache\ndef f(x):\n") == "import a\n" + F
    assert source(F, "# no definition\n") == F
    assert source("def g():\n    pass\n", "def f(x):\n    pass\n") == "def f(x):\n    pass\ndef g():\n    pass\n"
    assert extract_code("  \n", entry_point="f", prefix=PREFIX) is None


SLOW = {
    "backticks": "`" * WINDOW,
    "tildes": "~" * WINDOW,
    "fences": "```\n" * (WINDOW // 4),
    "opening fences": "```python\n" * (WINDOW // 10),
    "growing fences": "".join("`" * i + "python\n" for i in range(3, 1400)),
    "shrinking fences": "".join("`" * i + "python\n" for i in range(1400, 3, -1)),
    "indented fences": "".join(" " * i + "```\n" for i in range(1400)),
    "quotes": "```python\n" + '"' * WINDOW,
    "triple quotes": "```python\n" + '""" ' * (WINDOW // 4),
    "unclosed triple quotes": '```python\n"""\n```\n' * (WINDOW // 20) + "'''",
    "mixed quotes": "```python\n" + "\"\"\"'''" * (WINDOW // 6),
    "apostrophes": "```python\n" + "'\n" * (WINDOW // 2),
    "backslashes": "```python\n'" + "\\" * WINDOW,
    "backslashes in a string": '```python\n"""' + "\\" * WINDOW,
    "hashes": "```python\n" + "#" * WINDOW,
    "spaces": "```python\n" + " " * WINDOW,
    "newlines": "\n" * WINDOW,
    "indented newlines": " \n" * (WINDOW // 2),
    "def": "def " * (WINDOW // 4),
    "def f": "def f\n" * (WINDOW // 6),
    "f:": "f:" * (WINDOW // 2),
    "f: lines": "f:\n" * (WINDOW // 3),
    "spaces after f": "f" + " " * WINDOW,
    "if colons": "if " + ": " * (WINDOW // 2),
    "if colons #": "if " + ":#" * (WINDOW // 2) + "\x00",
    "name": "a." * (WINDOW // 2),
    "brackets": "a[" * (WINDOW // 2),
    "think": "<think>" * (WINDOW // 7),
    "thought": "</think>" * (WINDOW // 8),
    "long": "a\n" * (4 * WINDOW),
}


@pytest.mark.parametrize("completion", SLOW.values(), ids=SLOW)
def test_linear_time(completion):
    for prefix in (None, PREFIX):
        started = time.process_time()
        extract_code(completion, entry_point="f", prefix=prefix)
        assert time.process_time() - started < 5


PIECES = [
    "```",
    "~~~",
    "python",
    "\n",
    " ",
    "    ",
    '"""',
    "'''",
    "'",
    '"',
    "\\",
    "#",
    "def f(x):",
    "return x",
    "f",
    "=",
]


@given(st.lists(st.sampled_from([*PIECES, "<think>", "</think>"]) | st.text(max_size=3), max_size=30).map("".join))
def test_every_text_gives_a_program_or_none(text):
    for entry_point in (None, "f"):
        for prefix in (None, PREFIX):
            code = extract_code(text, entry_point=entry_point, prefix=prefix)
            assert code is None or code.source.strip()
