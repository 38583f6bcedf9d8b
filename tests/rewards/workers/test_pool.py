"""A WorkerPool answers each job for itself, whatever the others do, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import math
import multiprocessing
import os
import pickle
import random
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
import warnings
from importlib import import_module
from pathlib import Path

import pytest

from rewards.workers import fleet
from rewards.workers import pool as pool_module
from rewards.workers.pool import JobResult, JobStatus, WorkerPool, WorkerPoolError, shared_pool

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a WorkerPool needs POSIX")

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
if str(HERE) not in sys.path:
    sys.path.append(str(HERE))  # the workers import the functions by name, and get this path
functions = import_module("pool_functions")

SLOW = 30.0
"""A deadline that nothing here reaches."""


def statuses(results):
    return [result.status.value for result in results]


def values(results):
    assert set(statuses(results)) == {"done"}, results
    return [result.value for result in results]


def marked(mark: str) -> list[int]:
    """The processes that have `mark` in their environment."""
    if os.path.isdir("/proc"):
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                if mark.encode() in Path("/proc", entry, "environ").read_bytes():
                    found.append(int(entry))
            except OSError:
                continue
        return found
    lines = subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [int(line.split()[0]) for line in lines if mark in line and " Z" not in line]


def wait_until_gone(mark: str, seconds: float = 5.0) -> float:
    start = time.monotonic()
    while marked(mark):
        assert time.monotonic() - start < seconds, f"left over: {marked(mark)}"
        time.sleep(0.02)
    return time.monotonic() - start


def is_gone(pid: int) -> bool:
    """Whether a process that is nobody's child any more ends within a moment."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
        if not state.strip() or state.startswith("Z"):
            return True
        time.sleep(0.02)
    return False


def fds() -> int:
    return len(os.listdir("/dev/fd"))


class Program:
    """A script, in a process group of its own, with a mark that its descendants inherit."""

    def __init__(self, path: Path, code: str):
        self.mark = f"MARK={uuid.uuid4().hex}"
        path.write_text("from pool_functions import *\nfrom rewards.workers.pool import *\nimport sys\n" + code)
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}", "MARK": self.mark[5:]}
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", str(path)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self) -> tuple[int, str, str]:
        out, err = self.process.communicate("typed", timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def program(tmp_path):
    programs = []

    def start(code: str) -> Program:
        programs.append(Program(tmp_path / f"script{len(programs)}.py", code))
        return programs[-1]

    yield start
    for one in programs:
        one.process.kill()
        one.process.communicate()


# answers


def test_results_are_in_order_whatever_the_jobs_take():
    generator = random.Random(0)
    jobs = [(generator.random() / 100,) for _ in range(40)]
    with WorkerPool(functions.sleep, workers=3, deadline=SLOW) as pool:
        assert values(pool.map(job for job in jobs)) == [seconds for (seconds,) in jobs]
        assert pool.map([]) == []


def test_an_exception_is_an_answer_and_the_worker_stays():
    with WorkerPool(functions.fail, workers=1, deadline=SLOW) as pool:
        assert pool.map([("no",)]) == [JobResult(JobStatus.RAISED, None, "ValueError: no")]
        (result,) = pool.map([("x" * 10_000,)])
        assert result.error.startswith("ValueError: xxx")
        assert len(result.error) == 500
    with WorkerPool(functions.exit_politely, workers=1, deadline=SLOW) as pool:
        assert pool.map([()])[0].error == "SystemExit: 4"
    with WorkerPool(functions.recurse, workers=1, deadline=SLOW) as pool:
        assert pool.map([()])[0].error.startswith("RecursionError: ")
    with WorkerPool(functions.fail_silently, workers=1, deadline=SLOW) as pool:
        assert pool.map([()])[0].error.startswith("SilentError: ")
    with WorkerPool(functions.double, workers=1, deadline=SLOW) as pool:
        assert pool.map([(1, 2)])[0].error.startswith("TypeError: ")


def test_special_values_survive_both_ways():
    texts = ["\ud800", "\ud83d\ude00", "😀", "\0", "é", "\udc80abc", ""]
    with WorkerPool(functions.echo, workers=1, deadline=SLOW) as pool:
        assert values(pool.map([tuple(texts)])) == [texts]
        (numbers,) = values(pool.map([(math.nan, math.inf, -math.inf, -0.0, 10**100, None, True)]))
        assert math.isnan(numbers[0])
        assert numbers[1:] == [math.inf, -math.inf, 0.0, 10**100, None, True]
        assert math.copysign(1, numbers[3]) == -1
    with WorkerPool(functions.fail, workers=1, deadline=SLOW) as pool:
        assert pool.map([("\ud800",)])[0].error == "ValueError: \ud800"


def test_results_cross_as_json_or_not_at_all():
    with WorkerPool(functions.special, workers=1, deadline=SLOW) as pool:
        unwritable, lists, big, fine = pool.map([("set",), ("tuple",), ("big",), ("nan",)])
        assert unwritable.status == JobStatus.RAISED
        assert unwritable.error.startswith("the result cannot be written as JSON: TypeError")
        assert lists.value == [1, [2]]
        assert big.status == JobStatus.RAISED
        assert "at most 16777216" in big.error
        assert math.isnan(fine.value)
    with WorkerPool(functions.nested, workers=1, deadline=SLOW) as pool:
        assert statuses(pool.map([(100_000,), (3,)])) == ["raised", "done"]


def test_arguments_that_cannot_be_sent_are_their_own_jobs_fault():
    with WorkerPool(functions.echo, workers=1, deadline=SLOW) as pool:
        nobody, unreadable, fine = pool.map([(lambda: 1,), (functions.Unreadable(),), (1,)])
    assert nobody.status == unreadable.status == JobStatus.RAISED
    assert nobody.error.startswith("the arguments cannot be pickled: ")
    assert unreadable.error == "the arguments cannot be unpickled: ValueError: unreadable"
    assert fine.value == [1]


def test_megabytes_cross_both_ways_at_once():
    text = "x" * (15 * 2**20)
    with WorkerPool(functions.echo, workers=2, deadline=SLOW) as pool:
        for (value,) in values(pool.map([(text,)] * 4)):
            assert value == text
    with WorkerPool(functions.size, workers=1, deadline=SLOW) as pool:
        assert values(pool.map([("é" * 40_000_000,), ("x",)])) == [40_000_000, 1]


def test_what_a_function_prints_goes_nowhere(capfd):
    with WorkerPool(functions.shout, workers=1, deadline=SLOW) as pool:
        assert values(pool.map([("PRINTED",), ("PRINTED",)])) == ["", ""]
    assert capfd.readouterr() == ("", "")


# limits


@pytest.mark.parametrize(("function", "arguments"), [("spin", ()), ("power", ()), ("sleep", (60,))])
def test_a_hanging_job_times_out_alone(function, arguments):
    """Pure Python, a loop in C that holds the interpreter, and waiting."""
    with WorkerPool(functions.run, workers=2, deadline=0.3) as pool:
        values(pool.map([("pid",)] * 4))
        start = time.monotonic()
        jobs = [("double", i) if i % 4 else (function, *arguments) for i in range(12)]
        results = pool.map(jobs)
        assert time.monotonic() - start < 3 * 0.3 + 3
    assert statuses(results) == ["done" if i % 4 else "timeout" for i in range(12)]
    assert [result.value for result in results] == [2 * i if i % 4 else None for i in range(12)]
    assert results[0].error == "no answer within 0.3 s"


def test_a_late_answer_is_never_another_jobs():
    """Jobs that end about when the deadline does."""
    generator = random.Random(1)
    with WorkerPool(functions.sleep_and_echo, workers=2, deadline=0.02) as pool:
        results = pool.map([(generator.uniform(0.01, 0.03), i) for i in range(60)])
    assert {"done", "timeout"} == set(statuses(results))
    assert all(result.value in (None, i) for i, result in enumerate(results))


def test_a_memory_bomb_is_stopped_and_the_next_job_is_fine():
    with WorkerPool(functions.run, workers=1, deadline=SLOW, memory=100 * 2**20) as pool:
        jobs = [("bomb",), ("double", 1), ("allocate", 60 * 2**20), ("allocate", 2**40), ("double", 2)]
        results = pool.map(jobs)
        assert statuses(results) == ["memory", "done", "done", "memory", "done"]
        assert [result.value for result in results] == [None, 2, 60 * 2**20, None, 4]
        # an argument that is larger than the limit; what remains of it is never read
        assert statuses(pool.map([("size", "x" * (150 * 2**20)), ("double", 2)])) == ["memory", "done"]


def test_memory_errors_replace_the_worker():
    with WorkerPool(functions.run, workers=1, deadline=SLOW) as pool:
        before, _, after = pool.map([("pid",), ("allocate", 2**40), ("pid",)])
    assert before.value != after.value


def test_a_process_that_dies_takes_only_its_own_job_along():
    with WorkerPool(functions.run, workers=2, deadline=SLOW) as pool:
        jobs = [("segfault",), ("double", 1), ("leave", 3), ("double", 2), ("cpu_limit",), ("double", 3)]
        results = pool.map(jobs)
    assert statuses(results) == ["crashed", "done", "crashed", "done", "timeout", "done"]
    assert "SIGSEGV" in results[0].error
    assert "exit code 3" in results[2].error
    assert [result.value for result in results[1::2]] == [2, 4, 6]


def test_workers_have_their_limits_and_nothing_of_the_program():
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        with WorkerPool(functions.about, workers=1, deadline=2.0) as pool:
            (about,) = values(pool.map([()]))
    finally:
        os.close(reader)
        os.close(writer)
    assert about["core"] == 0
    assert about["used"] + 2 + 1 <= about["cpu"] <= about["used"] + 2 + 3
    assert about["session"] not in (os.getsid(0), about["pid"])
    assert about["parent"] != os.getpid()
    # standard streams, its own socket, and what the module keeps open
    assert len([fd for fd in about["fds"] if fd > 2]) == 2
    assert about["open"] in about["fds"]


def test_a_copy_of_the_worker_does_not_answer():
    with WorkerPool(functions.run, workers=1, deadline=SLOW) as pool:
        for _ in range(3):
            assert values(pool.map([("fork_and_return",), ("double", 1), ("double", 2)])) == ["worker", 2, 4]


def test_garbage_is_no_answer():
    with WorkerPool(functions.run, workers=1, deadline=SLOW) as pool:
        results = pool.map([("write_garbage",), ("double", 1), ("forge",), ("double", 2)])
        assert statuses(results) == ["crashed", "done", "crashed", "done"]
        assert values(pool.map([("talk_later",)])) == ["fine"]
        time.sleep(0.3)
        assert values(pool.map([("double", 2), ("double", 3)])) == [4, 6]


def test_what_a_job_has_started_ends_with_its_worker():
    with WorkerPool(functions.run, workers=1, deadline=SLOW) as pool:
        (child,) = values(pool.map([("leave_child",)]))
        os.kill(child, 0)
    assert is_gone(child)


# the life of a pool


def test_workers_are_recycled():
    with WorkerPool(functions.pid, workers=1, deadline=SLOW, max_jobs=3) as pool:
        pids = values(pool.map([()] * 7)) + values(pool.map([()] * 2))
    assert len(set(pids)) == 3
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 3]


def test_workers_start_when_they_are_needed_and_stay_warm():
    with WorkerPool(functions.run, workers=4, deadline=SLOW) as pool:
        first = values(pool.map([("pid",)]))
        assert values(pool.map([("pid",)])) == first
        assert len(pool._fleet._all) == 1
        pids = set(values(pool.map([("sleep_pid", 0.1)] * 12)))
        assert len(pids) == 4
        assert first[0] in pids


def test_an_idle_worker_that_died_costs_no_job():
    with WorkerPool(functions.pid, workers=1, deadline=SLOW) as pool:
        (first,) = values(pool.map([()]))
        os.kill(first, signal.SIGKILL)
        until = time.monotonic() + 10
        while pool._fleet._all[0].is_alive():
            assert time.monotonic() < until
        (second,) = values(pool.map([()]))
        assert first != second
        assert [worker.pid for worker in pool._fleet._all] == [second]


def test_processes_start_with_the_first_job_and_end_with_close():
    before = fds()
    pool = WorkerPool(functions.pid, workers=2, deadline=SLOW)
    assert fds() == before
    pool.close()
    (first,) = values(pool.map([()]))
    pool.close()
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert fds() == before
    (second,) = values(pool.map([()]))
    assert first != second
    pool.close()
    assert fds() == before


def test_close_in_one_thread_does_not_fail_the_map_of_another():
    answers = []
    pool = WorkerPool(functions.sleep, workers=1, deadline=SLOW)
    thread = threading.Thread(target=lambda: answers.extend(values(pool.map([(0.15,)] * 4))))
    thread.start()
    for _ in range(3):  # more often than a host may die
        time.sleep(0.2)
        pool.close()
    thread.join(60)
    pool.close()
    assert answers == [0.15] * 4


def test_a_forgotten_pool_ends_without_a_warning():
    before = fds()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pool = WorkerPool(functions.pid, workers=1, deadline=SLOW)
        (worker,) = values(pool.map([()]))
        del pool
        gc.collect()
    assert not [str(warning.message) for warning in caught]
    assert fds() == before
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_fifty_kills_leave_nothing_open():
    before = fds()
    with WorkerPool(functions.run, workers=2, deadline=SLOW) as pool:
        values(pool.map([("sleep_pid", 0.05)] * 8))
        during = fds()
        results = pool.map([("leave", 1), ("double", 1)] * 40 + [("sleep_pid", 0.05)] * 8)
        assert statuses(results[:80]) == ["crashed", "done"] * 40
        pool.deadline = 0.03
        assert statuses(pool.map([("spin",)] * 10)) == ["timeout"] * 10
        pool.deadline = SLOW
        values(pool.map([("sleep_pid", 0.05)] * 8))
        assert fds() == during
        assert len(pool._fleet._all) == 2
    assert fds() == before


def test_a_pool_is_copied_without_its_processes():
    with WorkerPool(functions.pid, workers=1, deadline=SLOW, memory=2**28, max_jobs=7) as pool:
        first = values(pool.map([()]))
        for twin in (pickle.loads(pickle.dumps(pool)), copy.copy(pool), copy.deepcopy(pool)):  # noqa: S301
            assert (twin.function, twin.workers, twin.deadline) == (functions.pid, 1, SLOW)
            assert (twin.memory, twin.max_jobs) == (2**28, 7)
            with twin:
                assert values(twin.map([()])) != first
        assert values(pool.map([()])) == first


def test_one_shared_pool_per_function_and_options():
    pool = shared_pool(functions.double, workers=1, deadline=SLOW)
    try:
        assert shared_pool(functions.double, deadline=SLOW, workers=1) is pool
        assert shared_pool(functions.double, workers=2, deadline=SLOW) is not pool
        assert shared_pool(functions.echo, workers=1, deadline=SLOW) is not pool
        assert values(pool.map([(4,)])) == [8]
    finally:
        pool.close()


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 0},
        {"workers": 1.5},
        {"workers": True},
        {"deadline": 0},
        {"deadline": -1.0},
        {"deadline": math.nan},
        {"deadline": math.inf},
        {"deadline": "1"},
        {"memory": 0},
        {"memory": 1e9},
        {"max_jobs": 0},
    ],
    ids=str,
)
def test_options_are_checked(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name} must be .*{value!r}"):
        WorkerPool(functions.double, **options)


def main_function():
    return 1


main_function.__module__ = "__main__"


@pytest.mark.parametrize(
    "function",
    [
        lambda: 1,
        functions.maker(),
        functions.Holder().method,
        functions.Holder.method,
        functools.partial(functions.double, 1),
        [].append,
        None,
        "double",
    ],
    ids=["lambda", "nested", "bound", "method", "partial", "builtin-bound", "None", "name"],
)
def test_functions_that_cannot_be_imported_are_refused(function):
    with pytest.raises(ValueError, match="at the top level of a module"):
        WorkerPool(function)
    with pytest.raises(ValueError, match="move it to a module"):
        WorkerPool(main_function)


def test_builtin_functions_work():
    with WorkerPool(math.factorial, workers=1, deadline=SLOW) as pool:
        assert values(pool.map([(5,)])) == [120]


def test_a_function_may_be_given_by_its_name():
    with WorkerPool("pool_functions:double", workers=1, deadline=SLOW) as pool:
        assert values(pool.map([(4,)])) == [8]
        assert values(pickle.loads(pickle.dumps(pool)).map([(5,)])) == [10]  # noqa: S301
    assert shared_pool("pool_functions:double") is shared_pool("pool_functions:double")


@pytest.mark.parametrize(
    "name", ["__main__:double", "pool_functions.double", "pool functions:double", ":double", "a:b.c"]
)
def test_a_name_must_be_a_module_and_a_function(name):
    with pytest.raises(ValueError, match="cannot be imported"):
        WorkerPool(name)


def test_a_job_is_a_tuple():
    with WorkerPool(functions.double) as pool, pytest.raises(TypeError, match="'ab'"):
        pool.map([(1,), "ab"])


def test_a_module_that_cannot_be_imported_there_is_the_pools_error(tmp_path, monkeypatch):
    before = fds()
    path = tmp_path / "pool_breaks_elsewhere.py"
    path.write_text("def f():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = import_module("pool_breaks_elsewhere")
    for code, message in (("1 / 0", "ZeroDivisionError"), ("import sys; sys.exit(3)", "SystemExit: 3")):
        path.write_text(code + "\n")
        with pytest.raises(WorkerPoolError, match=f"pool_breaks_elsewhere.f cannot be imported.*{message}"):
            WorkerPool(module.f).map([()])
    path.write_text("import os; os._exit(9)\n")
    with pytest.raises(WorkerPoolError, match="exit code 9"):
        WorkerPool(module.f).map([()])
    monkeypatch.setattr(fleet, "START_LIMIT", 0.5)
    path.write_text("while True: pass\n")
    with pytest.raises(WorkerPoolError, match="more than"):
        WorkerPool(module.f).map([()])
    gc.collect()
    assert fds() == before


def test_the_host_may_die_once(tmp_path):
    with WorkerPool(functions.run, workers=2, deadline=SLOW) as pool:
        values(pool.map([("pid",)] * 4))
        pool._fleet._host.process.kill()
        assert values(pool.map([("double", i) for i in range(50)])) == list(range(0, 100, 2))
        # while jobs run
        results = pool.map(
            [("sleep", 0.05), ("leave_once", str(tmp_path / "flag")), *[("double", i) for i in range(9)]]
        )
        assert values(results) == [0.05, "second", *range(0, 18, 2)]
        with pytest.raises(WorkerPoolError, match="host process"):
            pool.map([("double", 1), ("kill_host",)])
        assert values(pool.map([("double", 1)])) == [2]


# where it runs


def test_several_threads_get_their_own_answers():
    generator = random.Random(2)
    seeds = [generator.randrange(1000) for _ in range(6)]
    answers = {}
    with WorkerPool(functions.run, workers=2, deadline=SLOW, max_jobs=20) as pool:

        def use(number):
            collected = []
            for start in range(seeds[number], seeds[number] + 5):
                jobs = [("leave", 1) if i % 10 == 0 else ("double", 1000 * start + i) for i in range(30)]
                collected.append([result.value for result in pool.map(jobs)])
            answers[number] = collected

        threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(pool._fleet._all) <= 2
        assert not pool._fleet.leased
        assert not pool._fleet.queue
    for number, seed in enumerate(seeds):
        expected = [
            [None if i % 10 == 0 else 2 * (1000 * start + i) for i in range(30)] for start in range(seed, seed + 5)
        ]
        assert answers[number] == expected


@pytest.mark.parametrize("workers", [1, 2])
def test_a_large_batch_does_not_keep_a_small_one_waiting(workers):
    with WorkerPool(functions.sleep, workers=workers, deadline=SLOW) as pool:
        values(pool.map([(0,)] * 3))
        large = threading.Thread(target=pool.map, args=([(0.02,)] * (50 * workers),))
        large.start()
        time.sleep(0.1)
        start = time.monotonic()
        values(pool.map([(0.01,)]))
        waited = time.monotonic() - start
        assert large.is_alive()
        large.join(60)
        assert not large.is_alive()
    assert waited < 0.5  # the large one takes a second


def test_a_batch_takes_up_workers_that_others_gave_back():
    with WorkerPool(functions.sleep_pid, workers=2, deadline=SLOW) as pool:
        first = threading.Thread(target=pool.map, args=([(0.1,)] * 2,))
        first.start()
        time.sleep(0.02)
        pids = values(pool.map([(0.02,)] * 30))
        first.join(60)
    assert len(set(pids)) == 2


def test_threads_together_use_no_more_workers_than_allowed():
    pids = []
    with WorkerPool(functions.sleep_pid, workers=2, deadline=SLOW) as pool:
        use = lambda: pids.extend(values(pool.map([(0.03,)] * 4)))  # noqa: E731
        threads = [threading.Thread(target=use) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(pids) == 20
    assert len(set(pids)) == 2


def test_in_a_running_event_loop():
    async def main(pool):
        direct = pool.map([(1,), (2,)])
        elsewhere = await asyncio.gather(*(asyncio.to_thread(pool.map, [(i,)]) for i in range(5)))
        return direct, elsewhere

    with WorkerPool(functions.double, workers=2, deadline=SLOW) as pool:
        direct, elsewhere = asyncio.run(main(pool))
    assert values(direct) == [2, 4]
    assert [values(results) for results in elsewhere] == [[2 * i] for i in range(5)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_daemonic_processes(method):
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    with WorkerPool(functions.double, workers=1, deadline=SLOW) as pool:
        values(pool.map([(1,)]))
        processes = [context.Process(target=functions.put_pool_result, args=(queue, i), daemon=True) for i in (10, 20)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0]
        assert sorted([queue.get(), queue.get()]) == [22, 42]
        assert values(pool.map([(1,)])) == [2]


def test_after_a_fork_the_child_starts_its_own():
    """Also while another thread holds the lock, and the program's own end is seen though the child lives on."""
    shared = shared_pool(functions.pid, workers=1, deadline=SLOW)
    try:
        (ours,) = values(shared.map([()]))
        host = shared._fleet._host.process
        inherited = [worker.fd for worker in shared._fleet._all] + [shared._fleet._host.control.fileno()]
        reader, writer = os.pipe()
        go, stop = os.pipe()
        shared._fleet._lock.acquire()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for fd in inherited:
                    with pytest.raises(OSError, match="Bad file"):
                        os.fstat(fd)
                assert shared_pool(functions.pid, workers=1, deadline=SLOW) is shared
                os.write(writer, str(values(shared.map([()]))[0]).encode())
                os.read(go, 1)
                code = 0
            finally:
                os._exit(code)
        shared._fleet._lock.release()
        answered = select.select([reader], [], [], 20)[0]
        if not answered:
            os.kill(child, signal.SIGKILL)
        assert answered
        theirs = int(os.read(reader, 100))
        assert theirs != ours
        assert values(shared.map([()])) == [ours]
        shared._fleet._host.control.close()  # as if this process had ended: no shutdown
        assert host.wait(5) == 0
        os.write(stop, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        for fd in (reader, writer, go, stop):
            os.close(fd)
    finally:
        shared.close()
        pool_module._shared.clear()


# programs: how they end


def test_a_script_without_a_main_guard(program):
    one = program(
        "print([r.value for r in WorkerPool(double, deadline=30).map([(i,) for i in range(5)])])\n"
        "print([r.value for r in WorkerPool(shout, deadline=30).map([('x',)])])\n"
    )
    assert one.finish() == (0, "[0, 2, 4, 6, 8]\n['']\n", "")
    assert wait_until_gone(one.mark) < 2


HANG = """
import threading, time, os, signal
pool = shared_pool(run, workers=2, deadline=60)
pool.map([("sleep_pid", 0.1)] * 4)
threading.Thread(target=pool.map, args=([("spin",), ("power",)],), daemon=True).start()
time.sleep(0.2)
print(pool._fleet._host.process.pid, flush=True)
"""


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("", 0),
        ("raise KeyError('the end')", 1),
        ("os._exit(5)", 5),
        ("os.kill(os.getpid(), 9)", -9),
        ("sys.exit(6)", 6),
    ],
)
def test_nothing_is_left_however_a_program_ends(program, ending, code):
    """With jobs that hang in another thread at the time."""
    one = program(HANG + ending + "\n")
    returncode, _, errors = one.finish()
    assert returncode == code
    assert errors.count("Traceback") == (code == 1), errors
    assert wait_until_gone(one.mark) < 2


def test_workers_end_with_their_host(program):
    if sys.platform != "linux":
        pytest.skip("on other systems idle workers end, and busy ones with their CPU time")
    one = program(
        HANG + "sys.stdin.close(); time.sleep(0.3); os.kill(pool._fleet._host.process.pid, 9)\ntime.sleep(60)"
    )
    host = int(one.process.stdout.readline())
    before = set(marked(one.mark))
    assert len(before) == 4  # the program, the host, two workers
    until = time.monotonic() + 5
    while (before - {one.process.pid}) & set(marked(one.mark)):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert host in before


def test_a_program_that_is_killed_while_its_host_imports(program, tmp_path):
    (tmp_path / "pool_slow_module.py").write_text(
        "import sys, time\nif sys.argv[0] == 'llm-envs-worker-pool': time.sleep(30)\ndef f(): pass\n"
    )
    if sys.platform != "linux":
        pytest.skip("elsewhere the host ends when its import has ended")
    one = program("import pool_slow_module\nWorkerPool(pool_slow_module.f).map([()])\n")
    until = time.monotonic() + 20
    while len(marked(one.mark)) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(0.3)
    one.process.kill()
    assert wait_until_gone(one.mark) < 2


def test_the_host_notices_a_dead_program_whose_socket_lives_on(program):
    """A child that was forked without the hook keeps the socket open."""
    one = program(
        "import os, time\nfrom rewards.workers import pool as pool_module\n"
        "pool = WorkerPool(pid, workers=1, deadline=30)\npool.map([()])\n"
        "pool_module._pools.clear()\n"
        "if os.fork() == 0:\n    os.environ.clear(); os.close(1); os.close(2); time.sleep(4); os._exit(0)\n"
        "print('ready', flush=True)\nos._exit(0)\n"
    )
    assert one.process.stdout.readline() == "ready\n"
    start = time.monotonic()
    while len(marked(one.mark)) > 1:
        assert time.monotonic() - start < 3
        time.sleep(0.05)


def test_close_ends_the_host_though_a_child_keeps_its_socket(program):
    one = program(
        "import os, time\nfrom rewards.workers import pool as pool_module\n"
        "pool = WorkerPool(pid, workers=1, deadline=30)\npool.map([()])\n"
        "pool_module._pools.clear()\n"
        "if os.fork() == 0:\n    os.close(1); os.close(2); time.sleep(5); os._exit(0)\n"
        "start = time.monotonic(); pool.close(); print(time.monotonic() - start)\n"
    )
    assert float(one.finish()[1]) < 1


def test_a_program_that_ignores_or_blocks_signals_gets_true_causes(program):
    one = program(
        "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGXCPU])\n"
        "with WorkerPool(run, workers=1, deadline=30) as pool:\n"
        "    for r in pool.map([('segfault',), ('cpu_limit',), ('leave', 3)]): print(r.status, r.error)\n"
    )
    _, out, errors = one.finish()
    assert out.splitlines() == [
        "crashed the process was ended by SIGSEGV",
        "timeout the limit of CPU time was reached",
        "crashed the process ended with exit code 3",
    ], errors


def test_ctrl_c_reaches_the_program_alone_and_the_pool_goes_on(program):
    one = program(
        "import os, time\npool = WorkerPool(run, workers=2, deadline=60)\n"
        "pids = {r.value for r in pool.map([('sleep_pid', 0.1)] * 4)}\n"
        "print('ready', flush=True)\n"
        "try:\n    pool.map([('sleep', 50), ('double', 1)] + [('sleep', 50)] * 5)\n"
        "except KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
        "assert not pool._fleet.leased\n"
        "results = pool.map([('double', i) for i in range(50)])\n"
        "print([r.value for r in results] == [2 * i for i in range(50)])\n"
        "pool.map([('sleep', 50)])\n"
    )
    assert one.process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    os.killpg(one.process.pid, signal.SIGINT)
    assert one.process.stdout.readline() == "interrupted\n"
    assert one.process.stdout.readline() == "True\n"
    time.sleep(0.2)
    os.killpg(one.process.pid, signal.SIGINT)
    _, _, errors = one.finish()
    assert errors.count("Traceback") == 1, errors
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert wait_until_gone(one.mark) < 2


def test_ctrl_c_at_any_moment_costs_nothing(program):
    """Interrupts while workers are started, used and killed, and while another thread uses the pool."""
    one = program(
        "import os, random, signal, threading, time\n"
        "random.seed(3)\nstop = []\npool = WorkerPool(run, workers=2, deadline=30, max_jobs=17)\n"
        "before = len(os.listdir('/dev/fd'))\n"
        "def background():\n"
        "    while not stop:\n"
        "        assert [r.value for r in pool.map([('double', i) for i in range(9)])] == list(range(0, 18, 2))\n"
        "thread = threading.Thread(target=background); thread.start()\n"
        "for _ in range(40):\n"
        "    timer = threading.Timer(random.random() * 0.03, os.kill, (os.getpid(), signal.SIGINT))\n"
        "    try:\n"
        "        timer.start()\n"
        "        while True:\n"
        "            jobs = [('double', i) if i % 8 else ('leave', 1) for i in range(random.randrange(99))]\n"
        "            for i, r in enumerate(pool.map(jobs)): assert r.value == (2 * i if i % 8 else None)\n"
        "    except KeyboardInterrupt:\n        timer.join()\n"
        "    assert pool.map([('double', 7)])[0].value == 14\n"
        "stop.append(1); thread.join(20); assert not thread.is_alive() and not pool._fleet.leased\n"
        "pool.close(); print(len(os.listdir('/dev/fd')) - before)\n"
    )
    returncode, out, errors = one.finish()
    assert (returncode, out) == (0, "0\n"), errors
    assert "Traceback" not in errors
    assert wait_until_gone(one.mark) < 2


def test_the_import_is_paid_once(tmp_path, monkeypatch):
    log = tmp_path / "log"
    (tmp_path / "pool_heavy_module.py").write_text(
        f"import os\nwith open({str(log)!r}, 'a') as file: file.write('x')\ndef f(): os._exit(1)\ndef g(): return 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = import_module("pool_heavy_module")
    with WorkerPool(module.f, workers=2, deadline=SLOW) as pool:
        assert statuses(pool.map([()] * 6)) == ["crashed"] * 6
    assert log.read_text() == "xx"  # here and in the host


def test_other_systems_get_one_clear_error(monkeypatch):
    pool = WorkerPool(functions.double)
    monkeypatch.setattr("rewards.workers.pool.os.name", "nt")
    with pytest.raises(WorkerPoolError, match="needs Linux or macOS"):
        pool.map([(1,)])
