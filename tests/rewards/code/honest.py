# ruff: noqa: E501 (a program a line)
"""Programs that solve f(x) = x * x with all that a solution may use; each is paid."""

HONEST: dict[str, str] = {
    "plain": "def f(x):\n    return x * x",
    "recursion": "def f(x, n=None):\n    n = x if n is None else n\n    return 0 if n == 0 else x + f(x, n - 1)",
    "deep recursion": "import sys\nsys.setrecursionlimit(10000)\ndef depth(n): return 0 if n == 0 else 1 + depth(n - 1)\ndef f(x): return x * x if depth(5000) == 5000 else 0",
    "class": "class Square:\n    def __init__(self, x): self.x = x\n    def area(self): return self.x * self.x\ndef f(x): return Square(x).area()",
    "callable object": "class F:\n    def __call__(self, x): return x * x\nf = F()",
    "lambda": "f = lambda x: x * x",
    "partial": "import functools, operator\ndef mul(a, b): return a * b\ndef f(x): return functools.partial(mul, x)(x)",
    "generator": "def odd():\n    n = 1\n    while True:\n        yield n\n        n += 2\ndef f(x):\n    return sum(v for v, _ in zip(odd(), range(x)))",
    "dataclass": "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass P:\n    x: int\n    def square(self): return self.x ** 2\ndef f(x: int) -> int: return P(x).square()",
    "enum": "import enum\nclass E(enum.IntEnum):\n    TWO = 2\ndef f(x): return x ** E.TWO",
    "int enum returned": "import enum\ndef f(x): return enum.IntEnum('E', {'A': x * x}).A",
    "namedtuple": "from collections import namedtuple\nP = namedtuple('P', 'a b')\ndef f(x):\n    p = P(x, x)\n    return p.a * p.b",
    "typing": "from typing import Generic, TypeVar, Protocol, Optional, List\nT = TypeVar('T')\nclass Box(Generic[T]):\n    def __init__(self, v: T): self.v = v\ndef f(x: int) -> Optional[int]: return Box[int](x).v * x",
    "asyncio": "import asyncio\nasync def g(x):\n    await asyncio.sleep(0)\n    return x * x\ndef f(x): return asyncio.run(g(x))",
    "asyncio gather": "import asyncio\nasync def one(): return 1\nasync def g(x): return sum(await asyncio.gather(*(one() for _ in range(x * x))))\ndef f(x): return asyncio.run(g(x))",
    "threads": "import threading\ndef f(x):\n    out = []\n    ts = [threading.Thread(target=out.append, args=(x,)) for _ in range(x)]\n    [t.start() for t in ts]; [t.join() for t in ts]\n    return sum(out)",
    "thread pool": "from concurrent.futures import ThreadPoolExecutor\ndef f(x):\n    with ThreadPoolExecutor(4) as e: return sum(e.map(lambda _: x, range(x)))",
    "queue": "import queue, threading\ndef f(x):\n    q = queue.Queue()\n    threading.Thread(target=lambda: q.put(x * x)).start()\n    return q.get(timeout=5)",
    "printing": "def f(x):\n    print('x =', x, flush=True)\n    return x * x",
    "much printing": "def f(x):\n    print('y' * 3_000_000)\n    return x * x",
    "stderr": "import sys\ndef f(x):\n    print('note', file=sys.stderr)\n    return x * x",
    "unicode": "# Quadrat: x²\ndef f(größe):\n    text = 'ä€😀'\n    assert len(text) == 3\n    return größe * größe",
    "big work": "def f(x):\n    v = list(range(200_000))\n    v.sort(key=lambda i: -i)\n    return x * x",
    "temporary file": "import tempfile, os\ndef f(x):\n    with tempfile.TemporaryDirectory() as d:\n        p = os.path.join(d, 'a')\n        open(p, 'w').write(str(x * x))\n        return int(open(p).read())",
    "file in the working folder": "from pathlib import Path\ndef f(x):\n    Path('a.txt').write_text(str(x))\n    return int(Path('a.txt').read_text()) ** 2",
    "regex": "import re\ndef f(x): return int(re.sub(r'\\D', '', f'a{x * x}b'))",
    "json": "import json\ndef f(x): return json.loads(json.dumps({'a': [x * x]}))['a'][0]",
    "pickle": "import pickle\nclass A:\n    def __init__(self, v): self.v = v\ndef f(x): return pickle.loads(pickle.dumps(A(x * x))).v",
    "copy": "import copy\ndef f(x): return copy.deepcopy([[x]])[0][0] * x",
    "datetime": "import datetime\ndef f(x): return (datetime.timedelta(days=x) * x).days",
    "decimal": "from decimal import Decimal\ndef f(x): return int(Decimal(x) ** 2)",
    "fractions": "from fractions import Fraction\ndef f(x): return int(Fraction(x, 3) * 3 * x)",
    "statistics": "import statistics\ndef f(x): return statistics.mean([x, x]) * x",
    "heapq and bisect": "import heapq, bisect\ndef f(x):\n    h = [x * x, 10**9]\n    heapq.heapify(h)\n    v = [heapq.heappop(h)]\n    bisect.insort(v, 10**9)\n    return v[0]",
    "itertools": "import itertools\ndef f(x): return sum(1 for _ in itertools.product(range(x), repeat=2))",
    "lru_cache": "from functools import lru_cache, reduce\n@lru_cache(None)\ndef f(x): return reduce(lambda a, b: a + b, [x] * x)",
    "collections": "from collections import Counter, defaultdict, OrderedDict, deque\ndef f(x):\n    c = Counter('a' * x)\n    d = defaultdict(int)\n    d['a'] += c['a'] * x\n    return deque([d['a']]).pop()",
    "math": "import math, cmath\ndef f(x): return math.isqrt(x**4)",
    "random": "import random\ndef f(x):\n    random.Random(0).shuffle(list(range(x)))\n    return x * x",
    "string and textwrap": "import string, textwrap\ndef f(x): return x * x if string.digits and textwrap.dedent(' a') == 'a' else 0",
    "struct and array": "import struct, array\ndef f(x): return struct.unpack('<q', struct.pack('<q', x * x))[0] + array.array('i', [0])[0]",
    "hashlib and base64": "import hashlib, base64, zlib\ndef f(x):\n    assert len(hashlib.sha256(b'a').digest()) == 32\n    return int(base64.b64decode(base64.b64encode(zlib.decompress(zlib.compress(str(x * x).encode())))))",
    "csv and io": "import csv, io\ndef f(x): return int(next(csv.reader(io.StringIO(f'{x * x},2')))[0])",
    "sqlite in memory": "import sqlite3\ndef f(x): return sqlite3.connect(':memory:').execute('select ? * ?', (x, x)).fetchone()[0]",
    "time and calendar": "import time, calendar\ndef f(x):\n    time.sleep(0.01)\n    return x * x if calendar.isleap(2000) else 0",
    "uuid and secrets": "import uuid, secrets\ndef f(x): return x * x if uuid.uuid4() and secrets.token_hex(4) else 0",
    "contextlib": "import contextlib\n@contextlib.contextmanager\ndef c(v): yield v\ndef f(x):\n    with c(x) as v: return v * x",
    "abc": "import abc\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def g(self): ...\nclass B(A):\n    def __init__(self, x): self.x = x\n    def g(self): return self.x ** 2\ndef f(x): return B(x).g()",
    "exec and eval": "exec('def g(x): return x * x')\ndef f(x): return eval('g(x)', {'g': g, 'x': x})",
    "state between calls": "calls = []\ndef f(x):\n    calls.append(x)\n    return calls[-1] * x",
    "exceptions inside": "def f(x):\n    try: raise ValueError(x)\n    except ValueError as e: return e.args[0] * x",
    "main guard": "def f(x):\n    return x * x\n\nif __name__ == '__main__':\n    print(f(3))",
    "numbers and operator": "import numbers, operator\ndef f(x):\n    assert isinstance(x, numbers.Integral)\n    return operator.mul(x, x)",
    "match": "def f(x):\n    match x:\n        case 0: return 0\n        case int(): return x * x",
    "walrus and comprehension": "def f(x): return [y for _ in [0] if (y := x * x) is not None][0]",
    "type inspection": "import inspect\ndef f(x):\n    assert list(inspect.signature(f).parameters) == ['x']\n    return x * x",
    "weak references": "import weakref, gc\nclass A: pass\ndef f(x):\n    a = A()\n    r = weakref.ref(a)\n    del a\n    gc.collect()\n    return x * x if r() is None else 0",
    "warnings and logging": "import warnings, logging\ndef f(x):\n    warnings.warn('w')\n    logging.warning('w')\n    return x * x",
    "signal handler": "import signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\ndef f(x): return x * x",
    "bool returned for one": "def f(x): return x * x + False",
    "forty threads that wait for each other": "from concurrent.futures import ThreadPoolExecutor\nimport threading\ndef f(x):\n    b = threading.Barrier(40)\n    with ThreadPoolExecutor(40) as e: return x * x if sum(e.map(lambda i: b.wait() >= 0, range(40))) == 40 else 0",
    "pool of threads of multiprocessing": "from multiprocessing.pool import ThreadPool\ndef f(x):\n    with ThreadPool(3) as p: return sum(p.map(lambda _: x, range(x)))",
    "lock of multiprocessing": "import multiprocessing\ndef f(x):\n    with multiprocessing.Lock(): return x * x",
    "devnull": "import os, contextlib\ndef f(x):\n    with open(os.devnull, 'w') as n, contextlib.redirect_stdout(n): print(x)\n    return x * x",
    "urandom": "def f(x):\n    with open('/dev/urandom', 'rb') as r: return x * x if len(r.read(4)) == 4 else 0",
    "locale": "import locale\ndef f(x):\n    locale.setlocale(locale.LC_ALL, '')\n    return x * x",
    "name of the user": "import getpass\ndef f(x): return x * x if getpass.getuser() else 0",
    "its file": "import os\ndef f(x): return x * x if os.path.basename(__file__).endswith('.py') else 0",
    "main module": "import sys, pickle\nclass A: pass\ndef f(x): return x * x if type(pickle.loads(pickle.dumps(A()))) is A and sys.modules['__main__'] else 0",
    "sqlite in a file": "import sqlite3\ndef f(x):\n    with sqlite3.connect('a.db') as c: return c.execute('select ? * ?', (x, x)).fetchone()[0]",
    "unittest": "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(g(2), 4)\ndef g(x): return x * x\ndef f(x): return g(x) if unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(T)).wasSuccessful() else 0",
    "doctest": "import doctest\ndef f(x):\n    '''\n    >>> f(2)\n    4\n    '''\n    return x * x\ndoctest.testmod()",
    "time zones": "import zoneinfo, datetime\ndef f(x): return x * x if datetime.datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo('Asia/Tokyo')).utcoffset() else 0",
    "alarm": "import signal, time\ndef f(x):\n    seen = []\n    signal.signal(signal.SIGALRM, lambda *a: seen.append(1))\n    signal.setitimer(signal.ITIMER_REAL, 0.01)\n    time.sleep(0.1)\n    return x * x if seen else 0",
    "mmap": "import mmap\ndef f(x):\n    m = mmap.mmap(-1, 4096)\n    m[0] = x * x\n    return m[0]",
    "a stack of its own": "import threading, sys\nsys.setrecursionlimit(10**6)\nthreading.stack_size(2**26)\ndef d(n): return 0 if n == 0 else 1 + d(n - 1)\ndef f(x):\n    out = []\n    t = threading.Thread(target=lambda: out.append(d(20000)))\n    t.start(); t.join()\n    return x * x if out == [20000] else 0",
    "much memory": "def f(x):\n    v = list(range(10**6))\n    return x * x if v[-1] else 0",
    "a hundred thousand lines": "def f(x):\n    for i in range(10**5): print(i)\n    return x * x",
    # what works on a program's own files and descriptors, though the same on shared ones is denied or has no effect
    "sqlite on disk": "import sqlite3\ndef f(x):\n    for _ in range(2):\n        with sqlite3.connect('own.db') as c:\n            c.execute('create table if not exists t (x)')\n            c.execute('delete from t')\n            c.executemany('insert into t values (?)', [(x,)] * x)\n    return sqlite3.connect('own.db').execute('select sum(x) from t').fetchone()[0]",
    "sqlite on disk with a log": "import sqlite3\ndef f(x):\n    a, b = sqlite3.connect('log.db'), sqlite3.connect('log.db')\n    assert a.execute('pragma journal_mode=wal').fetchone() == ('wal',)\n    a.execute('create table if not exists t (x)')\n    a.execute('insert into t values (?)', (x * x,))\n    assert b.execute('select count(*) from t where x = ?', (x * x,)).fetchone() == (0,)\n    a.commit()\n    return b.execute('select x from t order by rowid desc').fetchone()[0]",
    "sqlite on disk, busy": "import sqlite3\ndef f(x):\n    a, b = (sqlite3.connect('busy.db', timeout=0, isolation_level=None) for _ in 'ab')\n    a.execute('create table if not exists t (x)')\n    a.execute('begin exclusive')\n    try:\n        b.execute('insert into t values (1)')\n    except sqlite3.OperationalError as e:\n        a.execute('commit')\n        return x * x if 'locked' in str(e) else 0",
    "sqlite on disk in threads": "import sqlite3, threading\ndef add(x):\n    with sqlite3.connect('threads.db', timeout=10) as c: c.execute('insert into t values (?)', (x,))\ndef f(x):\n    with sqlite3.connect('threads.db') as c:\n        c.execute('drop table if exists t')\n        c.execute('create table t (x)')\n    threads = [threading.Thread(target=add, args=(x,)) for _ in range(x)]\n    for t in threads: t.start()\n    for t in threads: t.join()\n    return sqlite3.connect('threads.db').execute('select sum(x) from t').fetchone()[0]",
    "sqlite on disk rolled back": "import sqlite3\ndef f(x):\n    c = sqlite3.connect('back.db')\n    c.execute('create table if not exists t (x)')\n    c.commit()\n    c.execute('insert into t values (1)')\n    c.rollback()\n    return x * x + c.execute('select count(*) from t').fetchone()[0]",
    "a lock of its own file": "import fcntl\ndef f(x):\n    with open('lock', 'w') as file:\n        fcntl.flock(file, fcntl.LOCK_EX)\n        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n        fcntl.flock(file, fcntl.LOCK_UN)\n    return x * x",
    "a shelf": "import shelve\ndef f(x):\n    with shelve.open('shelf') as s: s['x'] = x * x\n    with shelve.open('shelf') as s: return s['x']",
    "a mailbox": "import mailbox\ndef f(x):\n    box = mailbox.mbox('box')\n    box.lock()\n    box.add(str(x))\n    box.flush()\n    box.unlock()\n    return x * x if len(box) else 0",
    "times of its own file": "import os\ndef f(x):\n    open('mine', 'w').close()\n    os.utime('mine', (x, x))\n    os.chmod('mine', 0o600)\n    return int(os.stat('mine').st_mtime) * x",
    "copies of its own file": "import shutil\ndef f(x):\n    with open('a', 'w') as file: file.write(str(x * x) * 10**5)\n    shutil.copy2('a', 'b')\n    shutil.copyfile('b', 'c')\n    shutil.move('c', 'd')\n    with open('d') as file: return int(file.read()[: len(str(x * x))])",
    "a tree of folders": "import shutil, os\ndef f(x):\n    shutil.rmtree('t', ignore_errors=True)\n    shutil.rmtree('u', ignore_errors=True)\n    os.makedirs('t/a/b')\n    open('t/a/b/c', 'w').close()\n    shutil.copytree('t', 'u')\n    return x * x if os.path.exists('u/a/b/c') else 0",
    "archives": "import zipfile, tarfile, os\ndef f(x):\n    with open('n', 'w') as file: file.write(str(x * x))\n    with zipfile.ZipFile('z.zip', 'w') as z: z.write('n')\n    with tarfile.open('t.tgz', 'w:gz') as t: t.add('n')\n    os.unlink('n')\n    with zipfile.ZipFile('z.zip') as z: z.extractall()\n    with tarfile.open('t.tgz') as t: t.extractall('out')\n    with open('n') as a, open('out/n') as b: return int(a.read()) if b.read() else 0",
    "a file in memory of its own": "import mmap\ndef f(x):\n    with open('m', 'wb+') as file:\n        file.truncate(4096)\n        with mmap.mmap(file.fileno(), 4096) as m:\n            m[0] = x\n            m.flush()\n        return file.read(1)[0] * x",
    "advice": "import mmap, os\ndef f(x):\n    m = mmap.mmap(-1, 2**22)\n    m.madvise(mmap.MADV_HUGEPAGE)\n    m.madvise(mmap.MADV_DONTNEED)\n    with open('advice', 'wb') as file:\n        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)\n        os.fsync(file.fileno())\n    os.sync()\n    return x * x",
    "a lock of multiprocessing that is waited for": "import multiprocessing, threading, time\ndef f(x):\n    lock, total = multiprocessing.Lock(), []\n    def work():\n        with lock:\n            time.sleep(0.005)\n            total.append(x)\n    threads = [threading.Thread(target=work) for _ in range(x)]\n    for t in threads: t.start()\n    for t in threads: t.join()\n    return sum(total)",
    "values of multiprocessing": "import multiprocessing\ndef f(x):\n    v = multiprocessing.Value('i', x)\n    with v.get_lock(): v.value *= x\n    return v.value",
    "streams of asyncio": "import asyncio, socket\nasync def g(x):\n    a, b = socket.socketpair()\n    r, v = await asyncio.open_connection(sock=a)\n    q, w = await asyncio.open_connection(sock=b)\n    w.write(b'%d\\n' % (x * x) + b'x' * 10**5)\n    line = await r.readline()\n    return int(line) if v and q else 0\ndef f(x): return asyncio.run(g(x))",
    "pipes and poll": "import os, select\ndef f(x):\n    r, w = os.pipe()\n    os.write(w, bytes([x]))\n    p = select.poll()\n    p.register(r, select.POLLIN)\n    e = select.epoll()\n    e.register(r)\n    return os.read(r, 1)[0] * x if p.poll(1000) and e.poll(1) else 0",
    "size of the terminal": "import shutil, sys, os\ndef f(x): return x * x if shutil.get_terminal_size().columns and not sys.stdout.isatty() and os.cpu_count() else 0",
    "logs": "import logging.handlers\ndef f(x):\n    h = logging.handlers.RotatingFileHandler('log', maxBytes=100, backupCount=2)\n    log = logging.getLogger('a')\n    log.addHandler(h)\n    for _ in range(30): log.warning('message')\n    return x * x",
    "a temporary folder": "import tempfile, os\ndef f(x):\n    with tempfile.TemporaryDirectory() as d:\n        with open(os.path.join(d, 'n'), 'w') as file: file.write(str(x * x))\n        with open(os.path.join(d, 'n')) as file: return int(file.read())",
    "waiting with a limit": "import threading, queue\ndef f(x):\n    e = threading.Event()\n    q = queue.Queue()\n    assert not e.wait(0.01)\n    try: q.get(timeout=0.01)\n    except queue.Empty: return x * x",
    "ctypes": "import ctypes\ndef f(x): return ctypes.c_int(x * x).value",
}

FAST_IO = """
import os, sys
from io import BytesIO, IOBase
BUFSIZE = 8192
class FastIO(IOBase):
    newlines = 0
    def __init__(self, file):
        self._fd = file.fileno()
        self.buffer = BytesIO()
        self.writable = "x" in file.mode or "r" not in file.mode
        self.write = self.buffer.write if self.writable else None
    def read(self):
        while True:
            b = os.read(self._fd, max(os.fstat(self._fd).st_size, BUFSIZE))
            if not b: break
            ptr = self.buffer.tell()
            self.buffer.seek(0, 2), self.buffer.write(b), self.buffer.seek(ptr)
        self.newlines = 0
        return self.buffer.read()
    def readline(self):
        while self.newlines == 0:
            b = os.read(self._fd, max(os.fstat(self._fd).st_size, BUFSIZE))
            self.newlines = b.count(b"\\n") + (not b)
            ptr = self.buffer.tell()
            self.buffer.seek(0, 2), self.buffer.write(b), self.buffer.seek(ptr)
        self.newlines -= 1
        return self.buffer.readline()
    def flush(self):
        if self.writable:
            os.write(self._fd, self.buffer.getvalue())
            self.buffer.truncate(0), self.buffer.seek(0)
class IOWrapper(IOBase):
    def __init__(self, file):
        self.buffer = FastIO(file)
        self.flush = self.buffer.flush
        self.writable = self.buffer.writable
        self.write = lambda s: self.buffer.write(s.encode("ascii"))
        self.read = lambda: self.buffer.read().decode("ascii")
        self.readline = lambda: self.buffer.readline().decode("ascii")
"""
BOOTSTRAP = """
from types import GeneratorType
def bootstrap(f, stack=[]):
    def wrappedfunc(*args, **kwargs):
        if stack: return f(*args, **kwargs)
        to = f(*args, **kwargs)
        while True:
            if type(to) is GeneratorType:
                stack.append(to)
                to = next(to)
            else:
                stack.pop()
                if not stack: break
                to = stack[-1].send(to)
        return to
    return wrappedfunc
@bootstrap
def d(n):
    if n: yield 1 + (yield d(n - 1))
    yield 0
"""
DEEP = "def d(n): return 0 if n == 0 else 1 + d(n - 1)\n"
IN_A_THREAD = (
    DEEP
    + "def main():\n    assert d(20000) == 20000\n    print(int(input()) ** 2)\nt = threading.Thread(target=main)\nt.start()\nt.join()\n"
)

# Whole programs that read x and print x * x, in the ways that competitors read, recurse and print; each is paid.
HONEST_PROGRAMS: dict[str, str] = {
    # reading
    "input": "print(int(input()) ** 2)",
    "split": "x, = map(int, input().split())\nprint(x * x)",
    "sys.stdin": "import sys\nfor line in sys.stdin: print(int(line) ** 2)",
    "read": "import sys\nprint(int(sys.stdin.read()) ** 2)",
    "read and split": "import sys\nit = iter(sys.stdin.read().split())\nprint(int(next(it)) ** 2)",
    "readlines": "import sys\nprint(int(sys.stdin.readlines()[0]) ** 2)",
    "input is readline": "import sys\ninput = sys.stdin.readline\nprint(int(input()) ** 2)",
    "input is readline of bytes": "import sys\ninput = sys.stdin.buffer.readline\nprint(int(input()) ** 2)",
    "lambda over readline": "import sys\ninput = lambda: sys.stdin.readline().rstrip('\\r\\n')\nprint(int(input()) ** 2)",
    "buffer": "import sys\nprint(int(sys.stdin.buffer.read()) ** 2)",
    "buffer and split": "import sys\nprint(*[int(x) ** 2 for x in sys.stdin.buffer.read().split()])",
    "open(0)": "print(int(open(0).read()) ** 2)",
    "open(0) and split": "print(*(int(x) ** 2 for x in open(0).read().split()))",
    "open(0), line by line": "for line in open(0): print(int(line) ** 2)",
    "open(0) of bytes": "print(int(open(0, 'rb').read()) ** 2)",
    "open(0) unpacked": "x, *_ = open(0)\nprint(int(x) ** 2)",
    "os.read of a size": "import os\nprint(int(os.read(0, 100)) ** 2)",
    "os.read of the file's size": "import os, io\ninput = io.BytesIO(os.read(0, os.fstat(0).st_size)).readline\nprint(int(input()) ** 2)",
    "os.read until the end": "import os\ndata = b''\nwhile part := os.read(0, 2): data += part\nprint(int(data) ** 2)",
    "StringIO for standard input": "import io, sys\nsys.stdin = io.StringIO(sys.stdin.read())\nprint(int(input()) ** 2)",
    "TextIOWrapper": "import io, sys\nsys.stdin = io.TextIOWrapper(sys.stdin.buffer, encoding='utf-8')\nprint(int(input()) ** 2)",
    "mmap": "import mmap\nprint(int(mmap.mmap(0, 0, access=mmap.ACCESS_READ).read()) ** 2)",
    "fileinput": "import fileinput\nfor line in fileinput.input(): print(int(line) ** 2)",
    "PyRival's fast input and output": FAST_IO
    + "sys.stdin, sys.stdout = IOWrapper(sys.stdin), IOWrapper(sys.stdout)\ninput = lambda: sys.stdin.readline().rstrip('\\r\\n')\nprint(int(input()) ** 2)",
    "PyRival's, with a print of its own": FAST_IO
    + "sys.stdin, sys.stdout = IOWrapper(sys.stdin), IOWrapper(sys.stdout)\ndef print(*args, **kwargs):\n    file = kwargs.pop('file', sys.stdout)\n    file.write(' '.join(map(str, args)) + kwargs.pop('end', '\\n'))\n    if kwargs.pop('flush', False): file.flush()\nprint(int(sys.stdin.readline()) ** 2)",
    "reading until EOFError": "out = []\ntry:\n    while True: out.append(int(input()) ** 2)\nexcept EOFError: pass\nprint(*out)",
    "reading at the end": "import sys\nx = int(input())\nassert sys.stdin.readline() == '' and sys.stdin.read() == ''\nprint(x * x)",
    "input file if there is one": "import os, sys\nif os.path.exists('input.txt'): sys.stdin = open('input.txt')\nprint(int(input()) ** 2)",
    "open without an input file": "import sys\ntry: sys.stdin = open('input.txt')\nexcept FileNotFoundError: pass\nprint(int(input()) ** 2)",
    "/dev/stdin": "print(int(open('/dev/stdin').read()) ** 2)",
    "/dev/stdin for standard input": "import sys\nsys.stdin = open('/dev/stdin', 'r')\nprint(int(input()) ** 2)",
    "/dev/stdin by pathlib": "from pathlib import Path\nprint(int(Path('/dev/stdin').read_text()) ** 2)",
    "/dev/stdin by os.open": "import os\nprint(int(os.read(os.open('/dev/stdin', os.O_RDONLY), 99)) ** 2)",
    "/dev/stdin by fileinput": "import fileinput\nprint(*(int(line) ** 2 for line in fileinput.input('/dev/stdin')))",
    "/dev/fd/0": "with open('/dev/fd/0') as f: print(int(f.readline()) ** 2)",
    "/proc/self/fd/0": "print(int(open('/proc/self/fd/0', 'rb').read()) ** 2)",
    "what standard input says of itself": "import sys, io, stat, os\ns = sys.stdin\nassert s.mode == 'r' and s.fileno() == 0 and not s.isatty() and s.encoding.lower() == 'utf-8'\nassert s.name == '<stdin>' and s.buffer.name == '<stdin>' and not s.closed and s.readable() and not s.writable() and s.seekable() in (True, False)\nassert not s.line_buffering and s.newlines is None and s.errors and isinstance(s.buffer, io.BufferedReader)\nassert s is sys.__stdin__\nprint(int(input()) ** 2)",
    "what standard output says of itself": "import sys, io\ns = sys.stdout\nassert s.mode == 'w' and s.fileno() == 1 and not s.isatty() and s.encoding.lower() == 'utf-8' and s.name == '<stdout>'\nassert not s.closed and s.writable() and not s.readable() and not s.seekable() and s.line_buffering in (True, False)\nassert s is sys.__stdout__ and isinstance(s.buffer, io.BufferedWriter) and sys.stderr.mode == 'w'\nprint(int(input()) ** 2)",
    "reconfigure": "import sys\nsys.stdin.reconfigure(encoding='utf-8', errors='strict')\nsys.stdout.reconfigure(encoding='utf-8', line_buffering=True, newline='\\n')\nprint(int(input()) ** 2)",
    # printing
    "print is write": "import sys\nprint = sys.stdout.write\nprint(str(int(input()) ** 2))\nprint('\\n')",
    "print with flush": "from functools import partial\nprint = partial(print, flush=True)\nprint(int(input()) ** 2)",
    "writelines": "import sys\nsys.stdout.writelines([str(int(input()) ** 2), '\\n'])",
    "buffer of standard output": "import sys\nsys.stdout.buffer.write(b'%d\\n' % int(input()) ** 2)".replace(
        "% int(input()) ** 2", "% (int(input()) ** 2)"
    ),
    "os.write": "import os\nos.write(1, b'%d\\n' % (int(input()) ** 2))",
    "os.write to the number": "import os, sys\nos.write(sys.stdout.fileno(), str(int(input()) ** 2).encode())",
    "open(1) with a with": "with open(1, 'w') as out: out.write(str(int(input()) ** 2))",
    "open(1), flushed at the end": "out = open(1, 'w')\nout.write(str(int(input()) ** 2))",
    "open(1) with closefd=False": "out = open(1, 'w', closefd=False)\nprint(int(input()) ** 2, file=out)",
    "open(1) for standard output": "import sys\nsys.stdout = open(1, 'w', buffering=1 << 20)\nprint(int(input()) ** 2)",
    "open(1) in a function": "def main():\n    out = open(1, 'w')\n    out.write(str(int(input()) ** 2))\nmain()",
    "open(1) in an object in a circle": "class W:\n    def __init__(self): self.me, self.out = self, open(1, 'w')\nw = W()\nw.out.write(str(int(input()) ** 2))",
    "open(1) in an object": "class W:\n    def __init__(self): self.out = open(1, 'w')\nw = W()\nw.out.write(str(int(input()) ** 2))",
    "fdopen of a duplicate": "import os\nout = os.fdopen(os.dup(1), 'wb')\nout.write(str(int(input()) ** 2).encode())",
    "/dev/stdout": "with open('/dev/stdout', 'w') as out: print(int(input()) ** 2, file=out)",
    "/dev/fd/1, flushed at the end": "out = open('/dev/fd/1', 'w')\nprint(int(input()) ** 2, file=out)",
    "/dev/stderr": "print('note', file=open('/dev/stderr', 'w'))\nprint(int(input()) ** 2)",
    "atexit": "import atexit, sys\nout = []\natexit.register(lambda: sys.stdout.write('\\n'.join(out)))\nout.append(str(int(input()) ** 2))",
    "atexit with os.write": "import atexit, io, os\nb = io.BytesIO()\natexit.register(lambda: os.write(1, b.getvalue()))\nb.write(str(int(input()) ** 2).encode())",
    "__del__": "class Out:\n    def __init__(self): self.lines = []\n    def __del__(self): print('\\n'.join(self.lines))\nout = Out()\nout.lines.append(str(int(input()) ** 2))",
    "__del__ of what a circle holds": "import os\nclass Out:\n    def __init__(self): self.me, self.text = self, ''\n    def __del__(self): os.write(1, self.text.encode())\nout = Out()\nout.text = str(int(input()) ** 2)",
    "weakref.finalize": "import weakref, sys\nclass A: pass\na = A()\nx = int(input())\nweakref.finalize(a, lambda: sys.stdout.write(str(x * x)))",
    "StringIO, then sys.__stdout__": "import io, sys\nsys.stdout = io.StringIO()\nprint(int(input()) ** 2)\nsys.__stdout__.write(sys.stdout.getvalue())",
    "StringIO, then standard output again": "import io, sys\nold, sys.stdout = sys.stdout, io.StringIO()\nprint(int(input()) ** 2)\ntext = sys.stdout.getvalue()\nsys.stdout = old\nprint(text, end='')",
    "StringIO and atexit": "import atexit, io, sys\nb = io.StringIO()\nsys.stdout = b\natexit.register(lambda: sys.__stdout__.write(b.getvalue()))\nprint(int(input()) ** 2)",
    "redirect_stdout": "import contextlib, io\nb = io.StringIO()\nwith contextlib.redirect_stdout(b): print(int(input()) ** 2)\nprint(b.getvalue(), end='')",
    "a standard output that cannot be flushed": "import sys\nclass Out:\n    def __init__(self, out): self.out = out\n    def write(self, text): self.out.write(text)\nsys.stdout = Out(sys.stdout)\nprint(int(input()) ** 2)",
    "a standard output whose flush raises": "import sys\nclass Out:\n    def write(self, text): sys.__stdout__.write(text)\n    def flush(self): raise NotImplementedError\nsys.stdout = Out()\nprint(int(input()) ** 2)",
    "no standard output any more": "import sys\nprint(int(input()) ** 2)\nsys.stdout.flush()\nsys.stdout = None",
    "standard output closed": "import sys\nprint(int(input()) ** 2)\nsys.stdout.close()",
    "standard error closed": "import sys\nsys.stderr.close()\nprint(int(input()) ** 2)",
    "end of line of another system": "print(int(input()) ** 2, end='\\r\\n')",
    "output larger than a pipe": "x = int(input())\nprint(x * x, end=' ' * 200_000 + '\\n')",
    # ending
    "exit()": "print(int(input()) ** 2)\nexit()",
    "quit()": "print(int(input()) ** 2)\nquit()",
    "sys.exit()": "import sys\nprint(int(input()) ** 2)\nsys.exit()",
    "sys.exit(0) in a function": "import sys\ndef main():\n    print(int(input()) ** 2)\n    sys.exit(0)\nmain()",
    "raise SystemExit": "print(int(input()) ** 2)\nraise SystemExit",
    "os._exit after a flush": "import os\nprint(int(input()) ** 2, flush=True)\nos._exit(0)",
    "main guard": "def main(): print(int(input()) ** 2)\nif __name__ == '__main__': main()",
    "a thread that is not waited for": "import threading, time\ndef main():\n    time.sleep(0.05)\n    print(int(input()) ** 2)\nthreading.Thread(target=main).start()",
    "a thread that never ends": "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()\nprint(int(input()) ** 2)",
    # recursion and memory
    "recursion limit": "import sys\nsys.setrecursionlimit(10**6)\n"
    + DEEP
    + "assert d(50000) == 50000\nprint(int(input()) ** 2)",
    "recursion limit as large as it gets": "import sys\nsys.setrecursionlimit(2**31 - 1)\n"
    + DEEP
    + "assert d(20000)\nprint(int(input()) ** 2)",
    "a thread with a stack of 128 MiB": "import sys, threading\nsys.setrecursionlimit(1 << 20)\nthreading.stack_size(1 << 27)\n"
    + IN_A_THREAD,
    "a thread with a stack of 512 MiB": "import sys, threading\nsys.setrecursionlimit(10**9)\nthreading.stack_size(512 * 1024 * 1024)\n"
    + IN_A_THREAD,
    "a thread with a stack of almost 1 GiB": "import sys, threading\nthreading.stack_size(2**30 - 4096)\nsys.setrecursionlimit(10**6)\n"
    + IN_A_THREAD,
    "a larger stack": "import resource, sys\nresource.setrlimit(resource.RLIMIT_STACK, (2**29, resource.getrlimit(resource.RLIMIT_STACK)[1]))\nsys.setrecursionlimit(10**6)\n"
    + DEEP
    + "assert d(20000)\nprint(int(input()) ** 2)",
    "a larger stack, both limits": "import resource\nresource.setrlimit(resource.RLIMIT_STACK, (2**28, 2**28))\nprint(int(input()) ** 2)",
    "the largest stack": "import resource\nsoft, hard = resource.getrlimit(resource.RLIMIT_STACK)\nresource.setrlimit(resource.RLIMIT_STACK, (hard, hard))\nprint(int(input()) ** 2)",
    "the generator bootstrap": BOOTSTRAP + "assert d(20000) == 20000\nprint(int(input()) ** 2)",
    "a cached recursion": "import sys\nfrom functools import lru_cache\nsys.setrecursionlimit(10**5)\n@lru_cache(maxsize=None)\ndef d(n): return 0 if n == 0 else 1 + d(n - 1)\nassert d(5000) == 5000\nprint(int(input()) ** 2)",
    "less memory": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (resource.getrlimit(resource.RLIMIT_AS)[0],) * 2)\nprint(int(input()) ** 2)",
    # the rest
    "closing what may be open": "import os\nos.closerange(3, 256)\nprint(int(input()) ** 2)",
    "closing what may be open, one by one": "import os\nfor fd in range(3, 512):\n    try: os.close(fd)\n    except OSError: pass\nprint(int(input()) ** 2)",
    "closing all descriptors but the first three": "import os\nos.closerange(3, 2**16)\nprint(int(input()) ** 2)",
    "a flush that does nothing": "import sys\nsys.stdout.flush = lambda: None\nprint(int(input()) ** 2)",
    "its own source from another folder": "import os\nos.chdir('/')\nassert 'chdir' in open(__file__).read() and os.path.isabs(__file__)\nprint(int(input()) ** 2)",
    "standard output of another class": "import codecs, sys\nsys.stdout = codecs.getwriter('utf-8')(sys.stdout.buffer)\nprint(int(input()) ** 2)",
    "standard output detached": "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf-8')\nprint(int(input()) ** 2)",
    "fdopen for both streams": "import os, sys\nsys.stdin, sys.stdout = os.fdopen(0, 'r', 1024), os.fdopen(1, 'w', 10**6)\nprint(int(input()) ** 2)",
    "a generator that holds a file": "def lines():\n    out = open(1, 'w')\n    while True: out.write((yield))\ng = lines()\nnext(g)\ng.send(str(int(input()) ** 2))",
    "its own source": "assert 'int(input())' in open(__file__).read()\nprint(int(input()) ** 2)",
    "its own source by its argument": "import sys\nassert open(sys.argv[0]).readline().startswith('import sys')\nprint(int(input()) ** 2)",
    "its own source by inspect": "import inspect, sys\nassert 'inspect' in inspect.getsource(sys.modules[__name__])\nprint(int(input()) ** 2)",
    "line ends of another system": "x = int(input())\r\ny = '''\r\n'''\r\nassert len(y) == 1\r\nprint(x * x)\r\n",
    "a byte order mark": "\ufeffprint(int(input()) ** 2)",
    "an encoding cookie": "# -*- coding: utf-8 -*-\nprint(int(input()) ** 2)",
    "a shebang": "#!/usr/bin/env python3\nprint(int(input()) ** 2)",
    "future annotations": "from __future__ import annotations\ndef f(x: Number) -> Number: return x * x\nprint(f(int(input())))",
    "everything imported": "from typing import *\nfrom collections import *\nfrom itertools import *\nfrom functools import *\nfrom heapq import *\nfrom bisect import *\nfrom math import *\nfrom operator import *\nprint(int(input()) ** 2)",
    "dataclass": "from dataclasses import dataclass, field\n@dataclass(order=True)\nclass P:\n    x: int\n    seen: list = field(default_factory=list)\nprint(P(int(input())).x ** 2)",
    "asyncio": "import asyncio\nasync def main():\n    await asyncio.sleep(0)\n    print(int(input()) ** 2)\nasyncio.run(main())",
    "an executor for input": "import asyncio\nasync def main(): print(int(await asyncio.get_event_loop().run_in_executor(None, input)) ** 2)\nasyncio.run(main())",
    "no garbage collection": "import gc\ngc.disable()\ngc.freeze()\nprint(int(input()) ** 2)",
    "faulthandler": "import faulthandler\nfaulthandler.enable()\nprint(int(input()) ** 2)",
    "an alarm": "import signal\nsignal.alarm(60)\nprint(int(input()) ** 2)",
    "a pipe's signal": "import signal\nsignal.signal(signal.SIGPIPE, signal.SIG_DFL)\nprint(int(input()) ** 2)",
    "decimal": "from decimal import Decimal, getcontext\ngetcontext().prec = 50\nprint(int(Decimal(input()) ** 2))",
    "fractions": "from fractions import Fraction\nprint(Fraction(input().strip()) ** 2)",
    "a number of 5001 digits": "x = int(input())\nassert len(str(10**5000)) == 5001 and int('9' * 6000)\nprint(x * x)",
    "the limit of digits raised": "import sys\nsys.set_int_max_str_digits(0)\nassert len(str(10**5000)) == 5001\nprint(int(input()) ** 2)",
    "the time": "import time\nstart = time.time(), time.perf_counter(), time.process_time()\nprint(int(input()) ** 2)",
    "random with a seed of the clock": "import random, time\nrandom.seed(time.time_ns())\nrandom.shuffle(list(range(9)))\nprint(int(input()) ** 2)",
    "logging": "import logging, sys\nlogging.basicConfig(stream=sys.stderr, level=logging.DEBUG)\nlogging.debug('x')\nprint(int(input()) ** 2)",
    "online judge's flag": "import os, sys\nif 'ONLINE_JUDGE' not in os.environ and '--local' in sys.argv: sys.stdin = open('in')\nprint(int(input()) ** 2)",
    "numpy where it is installed": "try: import numpy as np\nexcept ImportError: np = None\nprint(int(input()) ** 2)",
    "pypyjit where it is there": "try:\n    import pypyjit\n    pypyjit.set_param('max_unroll_recursion=-1')\nexcept ImportError: pass\nprint(int(input()) ** 2)",
    "tracing off": "import sys\nsys.tracebacklimit = 0\nsys.setswitchinterval(10)\nprint(int(input()) ** 2)",
    "an exception hook": "import sys\nsys.excepthook = lambda *a: print(*a, file=sys.stderr)\nprint(int(input()) ** 2)",
    "a class of its own for input": "import sys\nclass Reader:\n    def __init__(self): self.it = self.tokens()\n    def tokens(self):\n        for line in sys.stdin: yield from line.split()\n    def int(self): return int(next(self.it))\nr = Reader()\nprint(r.int() ** 2)",
}

# The same for functions.
HONEST |= {
    "closing what may be open": "import os\nos.closerange(3, 256)\ndef f(x): return x * x",
    "its own source": "source = open(__file__).read()\ndef f(x): return x * x if 'def f' in source else 0",
    "a standard output that cannot be flushed": "import sys\nclass Out:\n    def write(self, text): pass\nsys.stdout = Out()\ndef f(x):\n    print(x)\n    return x * x",
    "a standard output whose flush raises": "import sys\nclass Out:\n    def write(self, text): pass\n    def flush(self): raise OSError(1, 'no')\nsys.stdout = Out()\ndef f(x):\n    print(x)\n    return x * x",
    "a standard output that is closed": "import sys\ndef f(x):\n    sys.stdout.close()\n    return x * x",
    "standard output opened again": "def f(x):\n    with open(1, 'w', closefd=False) as out: out.write('note')\n    return x * x",
    "a larger stack": "import resource, sys\nresource.setrlimit(resource.RLIMIT_STACK, (2**29, 2**29))\nsys.setrecursionlimit(10**6)\ndef d(n): return 0 if n == 0 else 1 + d(n - 1)\ndef f(x): return x * x if d(20000) == 20000 else 0",
    "a stack of half a GiB": "import threading\nthreading.stack_size(2**29)\ndef f(x):\n    out = []\n    t = threading.Thread(target=lambda: out.append(x * x))\n    t.start(); t.join()\n    return out[0]",
    "streams by their names": "def f(x):\n    assert open('/dev/stdin').read() == ''\n    with open('/dev/stderr', 'w') as e, open('/dev/stdout', 'w') as o: print(x, file=e), print(x, file=o)\n    return x * x",
    "what standard input says of itself": "import sys\nassert sys.stdin.mode == 'r' and sys.stdout.mode == 'w' and sys.stdin.read() == ''\ndef f(x): return x * x",
    "a number of 5001 digits": "def f(x): return x * x if len(str(10**5000)) == 5001 and int('9' * 5000) else 0",
    "line ends of another system": "def f(x):\r\n    return x * x\r\n",
    "a generator's recursion": BOOTSTRAP + "def f(x): return x * x if d(5000) == 5000 else 0",
    "shutil removes a folder": "import os, shutil\ndef f(x):\n    os.makedirs('a/b', exist_ok=True)\n    open('a/b/c', 'w').close()\n    shutil.rmtree('a')\n    return 0 if os.path.exists('a') else x * x",
}
