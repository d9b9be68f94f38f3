"""Turns into a server that cannot outlive whoever started it. Run as a file, with the standard library only:

    python -I -S lifeline.py LIFELINE_FD GRACE_S COMMAND [ARGUMENT...]

LIFELINE_FD is the read end of a pipe whose write end only the starter holds: end of file means the starter is
gone, however it went, SIGKILL included. A forked watcher waits for that; this process itself turns into the
command by exec, so its pid is the server's own. No prctl, no preexec_fn: any POSIX system will do.
"""

import os
import select
import signal
import sys
import time

#: How often the watcher looks whether its server still lives, in seconds; a dead server ends the watcher too.
WATCH_INTERVAL_S = 1.0


def watch(lifeline_fd: int, server_pid: int, grace_s: float) -> None:
    """Return when the server has ended; end it, politely first, once the starter is gone.

    The server is this process's parent: while getppid() names it, that pid cannot belong to a stranger.
    """
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    starter_lives = True
    while starter_lives and os.getppid() == server_pid:
        readable, _, _ = select.select([lifeline_fd], [], [], WATCH_INTERVAL_S)
        starter_lives = not readable
    if os.getppid() != server_pid:
        return
    os.kill(server_pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while os.getppid() == server_pid and time.monotonic() < deadline:
        time.sleep(0.05)
    if os.getppid() == server_pid:
        os.kill(server_pid, signal.SIGKILL)


def main(lifeline_fd: int, grace_s: float, command: list[str]) -> None:
    server_pid = os.getpid()
    if os.fork() == 0:
        watch(lifeline_fd, server_pid, grace_s)
        os._exit(0)
    os.close(lifeline_fd)
    # Python ignores these two, and exec hands ignored signals on; the server shall start as from a shell.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 -- exec without a shell is the point
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
