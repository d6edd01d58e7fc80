"""A worker never outlives its supervisor, however that ended.

Two guards, each sufficient alone. The kernel kills the worker when the
supervisor's thread that started it ends (prctl). And a thread of the worker
reads from a pipe whose other end only the supervisor holds: its end is the
supervisor's end. Both end the worker at once, for a server without a supervisor
is one that has crashed: what was answered is on the disk, what was not is asked
again.

Source: prctl(2) PR_SET_PDEATHSIG.
"""

import ctypes
import os
import signal
import threading

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends.

    Args:
        parent: Process id of the parent; if it has ended already, so does this.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def end_with_pipe(descriptor: int) -> None:
    """End this process when nobody holds the writing end of a pipe any more.

    Args:
        descriptor: The reading end; nobody ever writes.
    """
    threading.Thread(target=_wait, args=(descriptor,), name="guard", daemon=True).start()


def _wait(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
