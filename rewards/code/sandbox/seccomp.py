"""The system calls that a candidate may not make, as a filter for the kernel. Runs inside the jail.

A list of what is denied: Python's standard library and the C library's choices of calls are too many for a list of what
is allowed. Calls that are newer than this file do not exist (ENOSYS). The filter searches the sorted numbers in a
binary tree, as every call of the candidate goes through it and the kernel translates it for every completion.
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
    "pidfd_getfd": (438, 438),
    # the network; socketpair stays, asyncio needs it
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "accept4": (288, 242),
    "bind": (49, 200),
    "listen": (50, 201),
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
    # memory that RLIMIT_AS does not see or that outlives the process
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
_NUMBERS = {
    # machine: (audit architecture, clone, clone3, fcntl, prctl, socketpair)
    "x86_64": (0xC000003E, 56, 435, 72, 157, 53),
    "aarch64": (0xC00000B7, 220, 435, 25, 167, 199),
}
_NEWEST = 456
_CLONE_THREAD = 0x10000
_CLONE_NEW = 0x7E020080  # all namespaces
_F_SIGNALS = (8, 10, 15, 1024, 1026)  # F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY
_AF_UNIX = 1

_LOAD, _JUMP, _EQUAL, _GREATER_EQUAL, _SET, _AND, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x54, 0x06
_NR, _ARCH, _ARG0, _ARG1 = 0, 4, 16, 24  # offsets in struct seccomp_data; the low halves of the arguments
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_DENY = _ERRNO | errno.EPERM
_ABSENT = _ERRNO | errno.ENOSYS

Instruction = tuple[int, int, int, int]


def supported() -> bool:
    """Return whether there are numbers for this machine."""
    return linux.MACHINE in _NUMBERS


def program() -> bytes:
    """Return the filter for this machine."""
    arch, clone, clone3, fcntl, prctl, socketpair = _NUMBERS[linux.MACHINE]
    column = 0 if linux.MACHINE == "x86_64" else 1
    rules: dict[int, list[Instruction]] = {}
    for numbers in _DENIED.values():
        number = numbers[column]
        if number is not None:
            rules[number] = [(_RETURN, 0, 0, _DENY)]
    rules[clone3] = [(_RETURN, 0, 0, _ABSENT)]  # the C library then takes clone, whose flags can be seen
    rules[clone] = [
        (_LOAD, 0, 0, _ARG0),
        (_SET, 0, 2, _CLONE_THREAD),
        (_SET, 1, 0, _CLONE_NEW),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _DENY),
    ]
    rules[fcntl] = _deny_values(_ARG1, [*_F_SIGNALS])
    rules[prctl] = _deny_values(_ARG0, [linux.PR_SET_PDEATHSIG, 22, 23, 24, 35])  # seccomp, capabilities, PR_SET_MM
    rules[socketpair] = [
        (_LOAD, 0, 0, _ARG0),
        (_EQUAL, 0, 1, _AF_UNIX),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _DENY),
    ]
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NR),
        (_GREATER_EQUAL, 0, 1, _NEWEST + 1),  # also the x32 numbers of x86_64
        (_RETURN, 0, 0, _ABSENT),
        *_search(sorted(rules), rules),
    ]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _deny_values(offset: int, values: list[int]) -> list[Instruction]:
    code: list[Instruction] = [(_LOAD, 0, 0, offset)]
    for position, value in enumerate(values):
        code.append((_EQUAL, len(values) - position, 0, value))
    return [*code, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _DENY)]


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
