# ruff: noqa: E501 (a program a line)
"""Kernel objects that two completions, or a completion and the host, may have in common.

`CHANNELS`: `put(n)` leaves something in an object and returns what an accomplice would know anyway; `get(known)` looks for
it in another completion. `HOARDS`: `hold()` has the kernel keep memory that is not in the address space, and returns
how many bytes it believes to hold.
"""

from __future__ import annotations

SYSTEM = """
import ctypes, fcntl, mmap, os, resource, signal, socket, stat, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
kept = []
LIBRARIES = sorted(f"{os.path.dirname(os.__file__)}/{name}" for name in os.listdir(os.path.dirname(os.__file__)) if name.endswith(".py"))
def call(number, *arguments):
    result = libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def opened(path, flags=os.O_RDONLY):
    kept.append(os.open(path, flags))
    return kept[-1]
def lock(command, kind, start):
    return struct.pack("hhqqi", kind, 0, start, 1, 0) if command >= 36 else struct.pack("hhqqi4x", kind, 0, start, 1, 0)
def put_lock(path, n, command=6, kind=fcntl.F_RDLCK, flags=os.O_RDONLY):
    fcntl.fcntl(opened(path, flags), command, lock(command, kind, 1000 + n))
def get_lock(path, command=5):
    answer = fcntl.fcntl(opened(path), command, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
    kind, _, start, *_ = struct.unpack("hhqqi4x", answer)
    return None if kind == fcntl.F_UNLCK else start
def put_flock(paths, n):
    for i, path in enumerate(paths[:8]):
        if n >> i & 1: fcntl.flock(opened(path), fcntl.LOCK_EX)
def get_flock(paths):
    found = 0
    for i, path in enumerate(paths[:8]):
        try: fcntl.flock(opened(path), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError: found |= 1 << i
    return found
def page(path=os.__file__):
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    return libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_SHARED, opened(path), 0)
def until(count, most):
    done = 0
    try:
        while done < most: count(); done += 1
    except OSError: pass
    return done
"""


def _channel(put: str, get: str) -> str:
    def body(text: str) -> str:
        return "".join(f"    {line}\n" for line in text.strip("\n").split("\n"))

    return f"{SYSTEM}\ndef put(n):\n{body(put)}\ndef get(known):\n{body(get)}"


CHANNELS = {
    "a lock on /dev/null": _channel("put_lock('/dev/null', n, kind=fcntl.F_WRLCK, flags=os.O_RDWR)", "return get_lock('/dev/null')"),
    "a lock on /dev/urandom that waits": _channel("put_lock('/dev/urandom', n, command=7)", "return get_lock('/dev/urandom')"),
    "a lock on a library": _channel("put_lock(os.__file__, n)", "return get_lock(os.__file__)"),
    "a lock on the interpreter": _channel("put_lock(sys.executable, n)", "return get_lock(sys.executable)"),
    "a lock on a folder": _channel("put_lock('/usr', n)", "return get_lock('/usr')"),
    "a lock on root": _channel("put_lock('/', n)", "return get_lock('/')"),
    "a lock of an open file": _channel("put_lock('/dev/zero', n, command=37)", "return get_lock('/dev/zero', 36)"),
    "a lock of an open file that waits": _channel("put_lock(os.__file__, n, command=38)", "return get_lock(os.__file__, 36)"),
    "a lock of an open file seen by F_GETLK": _channel("put_lock('/dev/full', n, command=37)", "return get_lock('/dev/full')"),
    "a lock tried and not asked for": _channel("put_lock('/dev/null', n, kind=fcntl.F_WRLCK, flags=os.O_RDWR)", """
for i in range(256):
    try: put_lock('/dev/null', i, kind=fcntl.F_WRLCK, flags=os.O_RDWR)
    except BlockingIOError: return i
    finally: os.close(kept.pop())"""),
    "lockf": _channel("fcntl.lockf(opened('/dev/null', os.O_RDWR), fcntl.LOCK_EX, 1, n)", "return get_lock('/dev/null')"),
    "flock on libraries": _channel("put_flock(LIBRARIES, n)", "return get_flock(LIBRARIES)"),
    "flock on devices": _channel("put_flock(['/dev/null', '/dev/zero', '/dev/full', '/dev/random', '/dev/urandom'], n)", "return get_flock(['/dev/null', '/dev/zero', '/dev/full', '/dev/random', '/dev/urandom'])"),
    "flock on folders": _channel("put_flock(['/', '/usr', '/usr/lib', '/dev', '/etc'], n)", "return get_flock(['/', '/usr', '/usr/lib', '/dev', '/etc'])"),
    "waiters on a page of a library": _channel("""
address = page()
value = ctypes.c_uint.from_address(address).value
for _ in range(n % 32 or 1): threading.Thread(target=call, args=(202, address, 0, value, 0), daemon=True).start()
time.sleep(0.3)""", "return call(202, page(), 1, 2**30, 0)"),
    "waiters with a bit set": _channel("""
address = page()
value = ctypes.c_uint.from_address(address).value
for _ in range(n % 32 or 1): threading.Thread(target=call, args=(202, address, 9, value, 0, 0, 0xFFFF), daemon=True).start()
time.sleep(0.3)""", "return call(202, page(), 10, 2**30, 0, 0, 0xFF)"),
    "waiters that are moved": _channel("""
address = page()
value = ctypes.c_uint.from_address(address).value
for _ in range(n % 32 or 1): threading.Thread(target=call, args=(202, address, 0, value, 0), daemon=True).start()
time.sleep(0.3)""", "address = page()\nreturn call(202, address, 3, 0, 2**30, address + 64)"),
    "waiters by futex_wait": _channel("""
address = page()
value = ctypes.c_uint.from_address(address).value
def wait(): call(455, address, value, 2**32 - 1, 2, 0, 0)
for _ in range(n % 32 or 1): threading.Thread(target=wait, daemon=True).start()
time.sleep(0.3)""", "return call(202, page(), 1, 2**30, 0)"),
    "a name given by SO_PASSCRED": _channel("""
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
a.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
a.send(b'x')
kept.extend((a, b))
return a.getsockname()""", """
a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
kept.extend((a, b))
try: a.sendto(b'x', known or b'\\x0000000')
except ConnectionRefusedError: return None
return True"""),
    "times of a device": _channel("os.utime('/dev/null')\nreturn None", "return os.stat('/dev/null').st_mtime_ns"),
    "times of an open device": _channel("os.utime(opened('/dev/zero', os.O_RDWR))\nreturn None", "return os.stat('/dev/zero').st_mtime_ns"),
    "times of a device by touch": _channel("import pathlib\npathlib.Path('/dev/full').touch()", "return os.stat('/dev/full').st_mtime_ns"),
    "mode of a device": _channel("os.chmod('/dev/null', 0o600 + n % 8)", "return os.stat('/dev/null').st_mode"),
    "owner of a device": _channel("os.chown('/dev/null', os.getuid(), -1)", "return os.stat('/dev/null').st_uid"),
    "an attribute of a device": _channel("os.setxattr('/dev/null', 'user.n', str(n).encode())", "return os.listxattr('/dev/null')"),
    "times of a library": _channel("os.utime(os.__file__, (n, n))", "return os.stat(os.__file__).st_mtime_ns"),
    "access times of libraries": _channel("for path in LIBRARIES[:50]: open(path).read()", "return [os.stat(path).st_atime_ns for path in LIBRARIES[:50]]"),
    "an attribute of a library": _channel("os.setxattr(os.__file__, 'user.n', str(n).encode())", "return os.listxattr(os.__file__)"),
    "a hint of a library": _channel("call(72, opened(os.__file__), 1036, ctypes.byref(ctypes.c_uint64(2 + n % 3)))", "hint = ctypes.c_uint64()\ncall(72, opened(os.__file__), 1035, ctypes.byref(hint))\nreturn hint.value"),
    "a lease": _channel("fcntl.fcntl(opened(os.__file__), 1024, fcntl.F_RDLCK)", "return fcntl.fcntl(opened(os.__file__), 1025)"),
    "room in a neighbour's scratch": _channel("""
for i in range(n): open(str(i), 'w').close()
return os.stat('.').st_dev""", """
found = (ctypes.c_char * 64)()
call(136, known or os.stat('.').st_dev, found)
return struct.unpack_from('<i4xQ', found)[1]"""),
    "names that were looked up": _channel("os.path.exists(f'{os.path.dirname(os.__file__)}/nothing.{n}')", """
found = []
for i in range(256):
    try: call(437, -100, f'{os.path.dirname(os.__file__)}/nothing.{i}'.encode(), (ctypes.c_uint64 * 3)(0, 0, 0x20), 24)
    except FileNotFoundError: found.append(i)
    except BlockingIOError: pass
return found"""),
    "pages of a library in memory": _channel("os.posix_fadvise(opened(os.__file__), 0, 0, os.POSIX_FADV_DONTNEED)", """
try: return os.preadv(opened(os.__file__), [bytearray(1)], 2**14, os.RWF_NOWAIT)
except BlockingIOError: return 0"""),
    "pages of a library in memory, by mincore": _channel("os.posix_fadvise(opened(LIBRARIES[3]), 0, 0, os.POSIX_FADV_DONTNEED)", "found = (ctypes.c_char * 1)()\ncall(27, page(LIBRARIES[3]), 4096, found)\nreturn found.raw"),
    "descriptors on their way": _channel("""
a, b = socket.socketpair()
kept.extend((a, b))
until(lambda: socket.send_fds(a, [b'x'], [0]), n)""", "a, b = socket.socketpair()\nkept.extend((a, b))\nreturn until(lambda: socket.send_fds(a, [b'x'], [0]), 200)"),
    "signals that wait": _channel("""
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
information = (ctypes.c_int * 32)(signal.SIGRTMIN, 0, -1)
return until(lambda: call(129, os.getpid(), int(signal.SIGRTMIN), information), 10**6)""", """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
information = (ctypes.c_int * 32)(signal.SIGRTMIN, 0, -1)
found = until(lambda: call(129, os.getpid(), int(signal.SIGRTMIN), information), 10**6)
while signal.sigtimedwait([signal.SIGRTMIN], 0): pass
return found"""),
    "requests of asynchronous I/O": _channel("call(206, 20000 + n, ctypes.byref(ctypes.c_ulong()))", """
done = []
def one():
    done.append(ctypes.c_ulong())
    call(206, 1000, ctypes.byref(done[-1]))
found = until(one, 100)
for context in done[:found]: call(207, context)
return found"""),
    "a count of sockets": _channel("""
for _ in range(n):
    a, b = socket.socketpair()
    a.getsockopt(socket.SOL_SOCKET, 57, 8)""", "a, b = socket.socketpair()\nreturn a.getsockopt(socket.SOL_SOCKET, 57, 8)"),
    "a count of processes by a socket": _channel("for _ in range(n): threading.Thread(target=int).start()", """
found = []
def own():
    a, b = socket.socketpair()
    found.append(os.fstat(a.getsockopt(socket.SOL_SOCKET, 77)).st_ino)
own()
return found"""),
    "a count of networks": _channel("return None", "a, b = socket.socketpair()\nreturn a.getsockopt(socket.SOL_SOCKET, 71, 8)"),
    "the process on the other side": _channel("return None", "return call(55, 3, 1, 77, (ctypes.c_int * 1)(), ctypes.byref(ctypes.c_int(4)))"),
    "a count of processes": _channel("for _ in range(n): threading.Thread(target=int).start()", """
def own():
    call(39)
    found.append(os.fstat(call(434, threading.get_native_id(), 0o200)).st_ino)
found = []
thread = threading.Thread(target=own)
thread.start(); thread.join()
if not found: raise PermissionError
return found"""),
    "the load of the machine": _channel("kept.append(bytearray(2**25))", "found = (ctypes.c_long * 20)()\ncall(99, found)\nreturn list(found)"),
    "a file in /tmp": _channel("open(f'/tmp/{n}', 'w').close()", "return os.listdir('/tmp')"),
    "a file in /dev/shm": _channel("open(f'/dev/shm/{n}', 'w').close()", "return os.listdir('/dev/shm')"),
    "a semaphore": _channel("libc.sem_open.restype = ctypes.c_void_p\nassert libc.sem_open(b'/n', os.O_CREAT, 0o666, n)", "libc.sem_open.restype = ctypes.c_void_p\nreturn libc.sem_open(b'/n', 0)"),
    "memory of System V": _channel("call(29, 1234, 4096 * n, 0o1666)", "return call(29, 1234, 0, 0)"),
    "a queue of messages": _channel("call(240, b'n', os.O_CREAT | os.O_RDWR, 0o666, 0)", "return call(240, b'n', os.O_RDWR, 0, 0)"),
    "a key": _channel("call(248, b'user', b'n', b'x', 1, -4)", "return call(250, 10, -4, b'user', b'n', 0)"),
    "a signal": _channel("for pid in range(2, 100):\n    try: os.kill(pid, signal.SIGURG)\n    except ProcessLookupError: pass", "return signal.sigpending() and 1"),
    "priority of the user": _channel("os.setpriority(os.PRIO_USER, 0, 1 + n % 19)", "return os.getpriority(os.PRIO_USER, 0)"),
    "a name of the host": _channel("socket.sethostname(f'n{n}')", "return socket.gethostname()"),
    "watches of files": _channel("call(294, 0)", "return call(294, 0)"),
}  # fmt: skip


def _hoard(body: str) -> str:
    return f"{SYSTEM}\ndef hold():\n" + "".join(f"    {line}\n" for line in body.strip("\n").split("\n"))


HUGE = 2 * 2**20
HOARDS = {
    "huge pages in pipes": _hoard(f"""
held = 0
for _ in range(60):
    reading, writing = os.pipe()
    for _ in range(16):
        area = mmap.mmap(-1, 2 * {HUGE}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        address = ctypes.addressof(ctypes.c_char.from_buffer(area))
        start = (address + {HUGE} - 1) // {HUGE} * {HUGE}
        libc.madvise(ctypes.c_void_p(start), {HUGE}, 14)
        ctypes.memset(start, 1, {HUGE})
        call(278, writing, (ctypes.c_uint64 * 2)(start, 4096), 1, 0)
        held += {HUGE}
return held"""),
    "pages given to pipes": _hoard("""
reading, writing = os.pipe()
area = mmap.mmap(-1, 2**20)
return call(278, writing, (ctypes.c_uint64 * 2)(ctypes.addressof(ctypes.c_char.from_buffer(area)), 2**16), 1, 8)"""),
    "pages of files in pipes": _hoard("""
with open('x', 'wb') as file: file.write(bytes(2**16))
fd, held = opened('x'), 0
for _ in range(50):
    kept.extend(os.pipe())
    held += os.splice(fd, kept[-1], 2**16, 0)
os.truncate('x', 0)
return held"""),
    "pages of files in pipes by sendfile": _hoard("""
with open('x', 'wb') as file: file.write(bytes(2**16))
fd, held = opened('x'), 0
for _ in range(50):
    kept.extend(os.pipe())
    held += os.sendfile(kept[-1], fd, 0, 2**16)
return held"""),
    "pages of files in sockets": _hoard("""
with open('x', 'wb') as file: file.write(bytes(2**16))
fd, held = opened('x'), 0
for _ in range(50):
    kept.extend(socket.socketpair())
    held += os.sendfile(kept[-1].fileno(), fd, 0, 2**16)
return held"""),
    "pipes copied by tee": _hoard("""
a, b = os.pipe(), os.pipe()
os.write(a[1], bytes(2**16))
return call(276, a[0], b[1], 2**16, 0)"""),
    "larger pipes": _hoard("""
held = 0
for _ in range(60):
    reading, writing = os.pipe()
    try: size = fcntl.fcntl(writing, 1031, 2**20)
    except OSError: size = 2**16
    os.set_blocking(writing, False)
    held += os.write(writing, bytes(size))
return held"""),
    "larger pipes with a name": _hoard("""
held = 0
for i in range(60):
    os.mkfifo(str(i))
    fd = opened(str(i), os.O_RDWR | os.O_NONBLOCK)
    try: fcntl.fcntl(fd, 1031, 2**20)
    except OSError: pass
    held += until(lambda: os.write(fd, bytes(2**12)), 10**4) * 2**12
return held"""),
    "larger buffers of sockets": _hoard("""
held = 0
for _ in range(50):
    for one in socket.socketpair():
        kept.append(one)
        one.setblocking(False)
        for option in (7, 32): one.setsockopt(socket.SOL_SOCKET, option, 2**30)
        held += until(lambda: one.send(bytes(2**14)), 10**5) * 2**14
return held"""),
    "buffers of sockets": _hoard("""
held = 0
for _ in range(55):
    for one in socket.socketpair():
        kept.append(one)
        one.setblocking(False)
        held += until(lambda: one.send(bytes(2**12)), 10**5) * 2**12
return held"""),
    "buffers of sockets on their way": _hoard("""
held = 0
a, b = socket.socketpair()
for _ in range(300):
    c, d = socket.socketpair()
    c.setblocking(False)
    held += until(lambda: c.send(bytes(2**12)), 10**5) * 2**12
    socket.send_fds(a, [b'x'], [c.fileno(), d.fileno()])
    c.close(); d.close()
return held"""),
    "buffers of sockets in tables of each thread": _hoard("""
held = []
threading.stack_size(2**16)
def work():
    call(436, 10**5, 10**5 + 1, 2)
    own = 0
    try:
        for _ in range(55):
            for one in socket.socketpair():
                kept.append(one)
                one.setblocking(False)
                own += until(lambda: one.send(bytes(2**14)), 10**5) * 2**14
    except OSError: pass
    held.append(own)
    time.sleep(60)
threads = [threading.Thread(target=work, daemon=True) for _ in range(10)]
for thread in threads: thread.start()
while len(held) < 10 and any(thread.is_alive() for thread in threads): time.sleep(0.01)
return sum(held)"""),
    "rules of Landlock": _hoard("""
held = 0
for _ in range(100):
    ruleset = call(444, (ctypes.c_uint64 * 2)(1, 3), 16, 0)
    for port in range(3000):
        call(445, ruleset, 2, (ctypes.c_uint64 * 2)(1, port), 0)
        held += 128
return held"""),
    "rings of asynchronous I/O": _hoard("return until(lambda: call(206, 1000, ctypes.byref(ctypes.c_ulong())), 60) * 32000"),
    "files in memory": _hoard("fd = os.memfd_create('x')\nreturn os.write(fd, bytes(2**26))"),
    "files in huge pages": _hoard("fd = os.memfd_create('x', 4)\nreturn os.write(fd, bytes(2**26))"),
    "files in secret memory": _hoard("fd = call(447, 0)\nos.truncate(fd, 2**26)\nreturn 2**26"),
    "memory of System V": _hoard("return until(lambda: call(29, 0, 2**24, 0o1600), 100) * 2**24"),
    "a hash of waiters": _hoard("call(157, 78, 1, 2**22, 0, 0)\nreturn 2**28"),
    "pages of the pool of huge ones": _hoard("mmap.mmap(-1, 2**21, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)\nreturn 2**30"),
    "messages": _hoard("queue = call(68, 0, 0o1600)\nreturn until(lambda: call(69, queue, (ctypes.c_char * 8192)(1), 8184, 2048), 100) * 8192"),
    "signals that wait": _hoard("""
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGRTMIN])
information = (ctypes.c_int * 32)(signal.SIGRTMIN, 0, -1)
return until(lambda: call(129, os.getpid(), int(signal.SIGRTMIN), information), 10**6) * 2**12"""),
    "timers": _hoard("return until(lambda: call(222, 1, 0, ctypes.byref(ctypes.c_int())), 10**6) * 2**12"),
    "files without bytes": _hoard("return until(lambda: open(f'{len(kept)}', 'w').close() or kept.append(1), 10**5) * 2**10"),
    "folders": _hoard("return until(lambda: os.mkdir(f'{len(kept)}') or kept.append(1), 10**5) * 2**10"),
    "links": _hoard("open('x', 'w').close()\nreturn until(lambda: os.link('x', f'{len(kept)}') or kept.append(1), 10**5) * 2**10"),
    "names of files": _hoard("return until(lambda: os.symlink('y' * 4000, 'x' * 200 + str(len(kept))) or kept.append(1), 10**5) * 2**12"),
    "attributes of files": _hoard("""
held = 0
for i in range(4000):
    open(str(i), 'w').close()
    held += until(lambda: os.setxattr(str(i), f'user.{len(kept)}', bytes(2**15)) or kept.append(1), 64) * 2**15
return held"""),
    "files": _hoard("return until(lambda: open('x', 'ab').write(bytes(2**16)) or kept.append(1), 10**5) * 2**16"),
    "files that were removed": _hoard("""
def one():
    fd = os.open('x', os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.unlink('x')
    kept.append(fd)
    os.posix_fallocate(fd, 0, 2**20)
return until(one, 100) * 2**20"""),
    "shared memory without a file": _hoard("""
def one(): kept.append(mmap.mmap(-1, 2**20)); kept[-1].write(bytes(2**20))
return until(one, 10**4) * 2**20"""),
    "locked memory": _hoard("area = mmap.mmap(-1, 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x2000)\nreturn 2**30"),
}  # fmt: skip
"""Each of those that are not denied holds at most what the documentation says."""
