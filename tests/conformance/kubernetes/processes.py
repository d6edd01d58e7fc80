"""Starts, freezes and ends the programs of a cluster; what they are for is others' matter.

Only processes that were started here are ended. They die with the test run that started them,
however that ends, because the kernel sees to it.
"""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

STOP_TIMEOUT_S = 20.0
_FREEZE_S = 10.0
POLL_S = 0.05
LOG_TAIL = 3_000  # characters

# A program in between, for a function of Python's would have the tests' process forked, and one
# that holds gRPC does not survive that each time (GRPC_ENABLE_FORK_SUPPORT).
_DYING_WITH_ITS_STARTER = ("setpriv", "--pdeathsig", "KILL")


@dataclass(slots=True, kw_only=True)
class Program:
    """A program that runs, is frozen, or is stopped.

    Attributes:
        command: Its command line.
        log: File that gets its output, over all of its lives.
    """

    command: Sequence[str]
    log: Path
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def pid(self) -> int:
        """Process id.

        Raises:
            RuntimeError: It does not run.
        """
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError(f"{self.command[0]} does not run")
        return self._process.pid

    def start(self, is_ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Start it and wait until it is ready.

        Args:
            is_ready: Asks it once.
            timeout_s: Longest wait, seconds.

        Raises:
            RuntimeError: It ended or was not ready in time; the text holds the end of its log.
        """
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*_DYING_WITH_ITS_STARTER, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            ended = self._process.poll()
            if ended is not None or time.monotonic() > deadline:
                self.kill()
                tail = self.log.read_text(errors="replace")[-LOG_TAIL:]
                raise RuntimeError(f"{self.command[0]} not ready, status {ended}:\n{tail}")
            time.sleep(POLL_S)

    def freeze(self) -> None:
        """Let it stand still with all its connections open (SIGSTOP), all of its threads."""
        self._send(signal.SIGSTOP)
        ends_s = time.monotonic() + _FREEZE_S
        while not self._stands_still():
            if time.monotonic() > ends_s:
                msg = f"{self.command[0]} goes on after SIGSTOP"
                raise TimeoutError(msg)
            time.sleep(0.01)

    def _stands_still(self) -> bool:
        if self._process is None:
            return True
        tasks = Path(f"/proc/{self._process.pid}/task").iterdir()
        states = {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks}
        return states == {"T"}

    def thaw(self) -> None:
        """Let it go on after a freeze."""
        self._send(signal.SIGCONT)

    def stop(self) -> None:
        """End it: kindly, and after 20 s by force. Nothing happens if it has ended."""
        if self._process is None:
            return
        self._send(signal.SIGCONT)
        self._send(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._send(signal.SIGKILL)
            self._process.wait(STOP_TIMEOUT_S)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)  # does nothing once it was waited for
