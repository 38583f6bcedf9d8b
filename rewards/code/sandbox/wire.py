"""What the two sides of the sandbox say to each other. Runs on both, so it imports nothing but the standard library."""

from __future__ import annotations

from struct import Struct

REQUEST = Struct("!dQQQ")
"""To the zygote, with the three descriptors of one completion (channel, output, lifeline): seconds of CPU time, bytes
of memory, bytes of one value, bytes of scratch."""

STATUS = Struct("!cidQ")
"""On the lifeline, from the zygote: `ENDED` or `FAULT`, exit code (negative: a signal), seconds of CPU time, the
most memory in bytes. The text of a fault follows."""
ENDED, CPU_LIMIT, FAULT, STARVED = b"E", b"C", b"F", b"S"
STARVED_QUESTION = b"?"
"""To the zygote: how long was it ready to run and got no core? The answer is a `STATUS` of `STARVED`, with seconds."""

HEADER = Struct("!cQI")
"""On the channel: one of the kinds below, a number and the length of what follows. The program draws the number of each
question, the answer repeats it: so nothing is an answer that was said before the question. `HELLO` has 0."""
SOURCE, PROGRAM, CALL = b"S", b"P", b"C"
"""To the candidate: (source, prelude); (source, standard input); (function, arguments, keyword arguments)."""
HELLO, DONE, VALUE, RAISED, SYNTAX, MEMORY = b"H", b"D", b"V", b"R", b"X", b"M"
"""From the candidate: the jail is closed; the source has run; a value; (type, message, forbidden); messages."""

CHUNK = 2**16
MAX_ERROR = 500
"""Characters of an error message."""
