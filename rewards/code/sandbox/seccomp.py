"""The system calls that a candidate may not make, as a filter for the kernel. Runs inside the jail.

A list of what is denied: Python's standard library and the C library's choices of calls are too many for a list of what
is allowed. Of the calls with many commands (fcntl, ioctl, prctl, getsockopt), only the commands listed are allowed.
Calls that are newer than this file do not exist (ENOSYS). The filter searches the sorted numbers in a binary tree, as
every call of the candidate goes through it and the kernel translates it for every completion.

A call is also denied if another completion or the host could see that it was made, if the kernel holds memory for it
that no limit counts, or if a count that the kernel keeps for the whole user or machine shows it.
"""

from __future__ import annotations

import errno
import struct
from ctypes import addressof, create_string_buffer

from rewards.code.sandbox import linux

# name: number on x86_64, number on aarch64; None where there is no such call
_DENIED: dict[str, tuple[int | None, int | None]] = {
    # other programs and processes
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_open": (434, 434),  # its inode is a count of all processes and threads of the machine
    "pidfd_getfd": (438, 438),
    # the network; socketpair stays, asyncio needs it. Messages with descriptors count for the whole user; options give
    # a socket a name that others find, larger buffers or filters
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "bind": (49, 200),
    "listen": (50, 201),
    "setsockopt": (54, 208),
    "sendmsg": (46, 211),
    "sendmmsg": (307, 269),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    # large and rarely used parts of the kernel
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "fanotify_init": (300, 262),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "seccomp": (317, 277),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "iopl": (172, None),
    "ioperm": (173, None),
    "uselib": (134, None),
    # what others do: page caches, the free space of other file systems, memory and load of the machine
    "mincore": (27, 232),
    "cachestat": (451, 451),
    "ustat": (136, None),
    "sysinfo": (99, 179),
    # memory that RLIMIT_AS does not see or that outlives the process: a pipe or a socket keeps the whole huge page
    # of which it was given a part
    "vmsplice": (278, 75),
    "tee": (276, 77),
    "splice": (275, 76),
    "sendfile": (40, 71),
    "io_setup": (206, 0),
    "io_submit": (209, 2),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "mlock": (149, 228),
    "mlock2": (325, 284),
    "mlockall": (151, 230),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "set_mempolicy_home_node": (450, 450),
    # priorities: what runs only when nobody else does makes its wait for a core look like others' load
    "setpriority": (141, 140),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    # the machine
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    "lookup_dcookie": (212, 18),
}
# calls that succeed and do nothing. A completion is one process and its files are its own, so that nobody else's lock
# is ever in its way; locks on what completions share would be seen, and the kernel limits their number nowhere
_WITHOUT_EFFECT: dict[str, tuple[int | None, int | None]] = {
    "flock": (73, 32),
    "fadvise64": (221, 223),  # would drop pages of a shared file
    "readahead": (187, 213),
    "sync": (162, 81),
    "syncfs": (306, 267),
}
# calls that the C library replaces by others where they do not exist
_MISSING: dict[str, tuple[int | None, int | None]] = {
    "clone3": (435, 435),  # its flags cannot be seen
    "openat2": (437, 437),  # it can tell which names others have looked up
    "futex_waitv": (449, 449),
    "futex_wake": (454, 454),
    "futex_wait": (455, 455),
    "futex_requeue": (456, 456),
}
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_NEWEST = 456

_LOAD, _JUMP, _EQUAL, _GREATER_EQUAL, _SET, _AND, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x54, 0x06
_NR, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_DENY = _ERRNO | errno.EPERM
_ABSENT = _ERRNO | errno.ENOSYS
_NOTHING = _ERRNO  # with no error: the call returns 0 and is not made

Instruction = tuple[int, int, int, int]


def supported() -> bool:
    """Return whether there are numbers for this machine."""
    return linux.MACHINE in _ARCHITECTURES


def _load(argument: int, high: bool = False) -> Instruction:
    """Load the lower half of an argument, or the higher one; both machines have the lower one first."""
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * argument + 4 * high)


def _by_value(argument: int, results: dict[int, tuple[int, ...]], otherwise: int) -> list[Instruction]:
    """Decide by an argument's value: the values of each result, and the result for all others."""
    code = [_load(argument)]
    for result, values in results.items():
        for value in values:
            code += [(_EQUAL, 0, 1, value), (_RETURN, 0, 0, result)]
    return [*code, (_RETURN, 0, 0, otherwise)]


def _if_set(argument: int, bits: int, then: int, otherwise: int) -> list[Instruction]:
    return [_load(argument), (_SET, 0, 1, bits), (_RETURN, 0, 0, then), (_RETURN, 0, 0, otherwise)]


# a thread that has its descriptors in common with the others: limits of descriptors are those of one table
_CLONE_THREAD_AND_FILES = 0x10000 | 0x400
_CLOSE_RANGE = (0, 4)  # closes, or marks to be closed; another flag makes a table of the thread's own
_CLONE_NEW = 0x7E020080 | 0x1000  # all namespaces; CLONE_PIDFD
# duplicates, flags, F_GETLK, owner, signal, F_OFD_GETLK, lease, size of a pipe, seals, hints: they look, or change what
# is one's own
_FCNTL = (0, 1, 2, 3, 4, 5, 9, 11, 16, 36, 1025, 1027, 1030, 1032, 1033, 1034, 1035, 1037)
_FCNTL_LOCKS = (6, 7, 37, 38)  # F_SETLK, F_SETLKW and those of open files
# TCGETS, TIOCGWINSZ, TIOCGPGRP, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, TCGETS2
_IOCTL = (0x5401, 0x5413, 0x540F, 0x541B, 0x5421, 0x5450, 0x5451, 0x802C542A)
# reading: death signal, dumpable, name, seccomp, security bits, timer slack, subreaper, no new privileges, huge pages;
# setting what harms nobody: name, timer slack, subreaper, no new privileges, ambient capabilities (it has none), names
# of memory, who may trace (nobody can)
_PRCTL = (2, 3, 15, 16, 21, 27, 29, 30, 36, 37, 38, 39, 42, 47, 0x53564D41, 0x59616D61)
_AF_UNIX = 1
# what a socket is and what went wrong: REUSEADDR, TYPE, ERROR, sizes of buffers, KEEPALIVE, LINGER, PASSCRED, PEERCRED,
# time limits, ACCEPTCONN, PROTOCOL, DOMAIN. Others are counts of the machine (of sockets, of network namespaces) or a
# descriptor of the process on the other side, which may be the program
_GETSOCKOPT = (2, 3, 4, 7, 8, 9, 13, 16, 17, 20, 21, 30, 38, 39)
_MAP_HUGETLB = 0x40000  # of a pool that all share
_FUTEX_PRIVATE = 128
# advice about huge or equal pages and about what may leave memory; collapse, and memory errors
_MADVISE_NOTHING, _MADVISE_DENIED = (12, 14, 20, 21), (25, 100, 101)

# by a call's arguments: number on x86_64, number on aarch64, what is decided
_BY_ARGUMENTS: dict[str, tuple[int, int, list[Instruction]]] = {
    "clone": (56, 220, [
        _load(0), (_AND, 0, 0, _CLONE_THREAD_AND_FILES), (_EQUAL, 1, 0, _CLONE_THREAD_AND_FILES),
        (_RETURN, 0, 0, _DENY),
        *_if_set(0, _CLONE_NEW, _DENY, _ALLOW),
    ]),
    "fcntl": (72, 25, _by_value(1, {_ALLOW: _FCNTL, _NOTHING: _FCNTL_LOCKS}, _DENY)),
    "ioctl": (16, 29, _by_value(1, {_ALLOW: _IOCTL}, _ERRNO | errno.ENOTTY)),
    "prctl": (157, 167, _by_value(0, {_ALLOW: _PRCTL}, _DENY)),
    "socketpair": (53, 199, _by_value(0, {_ALLOW: (_AF_UNIX,)}, _DENY)),
    "close_range": (436, 436, _by_value(2, {_ALLOW: _CLOSE_RANGE}, _DENY)),
    "getsockopt": (55, 209, _by_value(2, {_ALLOW: _GETSOCKOPT}, _DENY)),
    # no address: the sockets of a pair have no name, and may not write to those that have one
    "sendto": (44, 206, [
        _load(4, high=True), (_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _DENY), *_by_value(4, {_ALLOW: (0,)}, _DENY),
    ]),
    "mmap": (9, 222, _if_set(3, _MAP_HUGETLB, _DENY, _ALLOW)),
    "madvise": (28, 233, _by_value(2, {_NOTHING: _MADVISE_NOTHING, _DENY: _MADVISE_DENIED}, _ALLOW)),
    # flags: RWF_NOWAIT tells what others have read of a file
    "preadv2": (327, 286, _by_value(5, {_ALLOW: (0,)}, _DENY)),
    "pwritev2": (328, 287, _by_value(5, {_ALLOW: (0,)}, _DENY)),
    # A waiter on a page of a file could be woken by another completion. So FUTEX_WAIT, FUTEX_WAIT_BITSET and
    # FUTEX_WAIT_REQUEUE_PI return at once, as if the value had changed; the C library then looks at it again
    "futex": (202, 98, [
        _load(1), (_SET, 0, 1, _FUTEX_PRIVATE), (_RETURN, 0, 0, _ALLOW), (_AND, 0, 0, 127),
        *_by_value(1, {_ERRNO | errno.EAGAIN: (0, 9, 11)}, _ALLOW)[1:],
    ]),
}  # fmt: skip


def program() -> bytes:
    """Return the filter for this machine."""
    column = list(_ARCHITECTURES).index(linux.MACHINE)
    rules: dict[int, list[Instruction]] = {}
    for calls, result in ((_DENIED, _DENY), (_WITHOUT_EFFECT, _NOTHING), (_MISSING, _ABSENT)):
        for numbers in calls.values():
            number = numbers[column]
            if number is not None:
                rules[number] = [(_RETURN, 0, 0, result)]
    for *both, decision in _BY_ARGUMENTS.values():
        rules[both[column]] = decision
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _ARCHITECTURES[linux.MACHINE]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NR),
        (_GREATER_EQUAL, 0, 1, _NEWEST + 1),  # also the x32 numbers of x86_64
        (_RETURN, 0, 0, _ABSENT),
        *_search(sorted(rules), rules),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _search(numbers: list[int], rules: dict[int, list[Instruction]]) -> list[Instruction]:
    """Find the accumulator among the numbers and follow its rule, or allow."""
    if len(numbers) == 1:
        rule = rules[numbers[0]]
        return [(_EQUAL, 0, len(rule), numbers[0]), *rule, (_RETURN, 0, 0, _ALLOW)]
    middle = len(numbers) // 2
    low, high = _search(numbers[:middle], rules), _search(numbers[middle:], rules)
    # a conditional jump reaches 255 instructions, an unconditional one any number
    return [(_GREATER_EQUAL, 0, 1, numbers[middle]), (_JUMP, 0, 0, len(low)), *low, *high]


class Filter:
    """The filter, in memory that every forked child shares."""

    def __init__(self) -> None:
        code = program()
        self._code = create_string_buffer(code, len(code))
        self._fprog = struct.pack("HxxxxxxQ", len(code) // 8, addressof(self._code))

    def add_to(self, calls: linux.SystemCalls) -> None:
        """Apply it to a process, which must have PR_SET_NO_NEW_PRIVS."""
        calls.add("seccomp", 1, 1, self._fprog)  # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC
