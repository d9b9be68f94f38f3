"""Write a file whole or not at all. Standard library only: `reelhaul health` imports this."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any


@contextmanager
def replace_file(path: Path, mode: str = "wb", permissions: int = 0o666) -> Iterator[IO[Any]]:
    """Yield a new file ("w": text, "wb": bytes) that takes the place of `path` when the block ends.

    If the block raises, `path` keeps what it had. `permissions` are subject to the umask. Raises OSError.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)  # left by a killed process with the same pid
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW  # never write through somebody else's link
    descriptor = os.open(partial, flags, permissions)
    try:
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise
