"""Run a command that cannot outlive the process that started it. Uses the standard library only:

    python -I -S lifeline.py LIFELINE_FD GRACE_S COMMAND [ARGUMENT...]

LIFELINE_FD is the read end of a pipe whose write end only the starter holds: end of file means that the
starter has ended, by SIGKILL too. A forked watcher waits for that, while this process becomes the command by
exec, so that its pid is the command's. Works on any POSIX system, without prctl or preexec_fn.
"""

import os
import select
import signal
import sys
import time

#: Seconds between two checks that the command still runs; the watcher ends with it.
WATCH_INTERVAL_S = 1.0


def watch(lifeline_fd: int, command_pid: int, grace_s: float) -> None:
    """Return when the command has ended; when the starter ends first, send SIGTERM, then SIGKILL.

    The command is this process's parent: while getppid() returns its pid, the pid is not another process's.
    """
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    starter_runs = True
    while starter_runs and os.getppid() == command_pid:
        readable, _, _ = select.select([lifeline_fd], [], [], WATCH_INTERVAL_S)
        starter_runs = not readable
    if os.getppid() != command_pid:
        return
    os.kill(command_pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while os.getppid() == command_pid and time.monotonic() < deadline:
        time.sleep(0.05)
    if os.getppid() == command_pid:
        os.kill(command_pid, signal.SIGKILL)


def main(lifeline_fd: int, grace_s: float, command: list[str]) -> None:
    command_pid = os.getpid()
    if os.fork() == 0:
        watch(lifeline_fd, command_pid, grace_s)
        os._exit(0)
    os.close(lifeline_fd)
    # Python ignores these two signals, and the command would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 -- exec without a shell is the point
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
