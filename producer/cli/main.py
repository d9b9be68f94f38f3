"""The command line: each error is one line, and what is asked every few seconds imports little."""

from __future__ import annotations

import os
import sys

from producer.cli.health import health
from worker.errors import MongoUnavailable, RedisUnavailable, ReelhaulError


def main() -> None:
    """Run the command line; what goes wrong on purpose is one line on stderr and exit code 2."""
    try:
        match sys.argv[1:]:
            case ["health", role] if not role.startswith("-"):
                # What the menu does too, without half a second of imports for it.
                health(role)
            case _:
                _choose()
    except ReelhaulError as error:
        from worker.settings import redacted

        hint = (
            "; `reelhaul doctor` tells more" if isinstance(error, RedisUnavailable | MongoUnavailable) else ""
        )
        sys.stderr.write(f"reelhaul: {redacted(str(error))}{hint}\n")
        sys.exit(2)
    except OSError as error:
        # The machine's, and most likely standard output's: a full disk, say.
        what = error.strerror or type(error).__name__
        sys.stderr.write(f"reelhaul: {what}{f': {error.filename}' if error.filename else ''}\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still to be flushed would fail once more
        sys.exit(2)


def _choose() -> None:
    from producer.cli.registry import app
    from worker.monitoring import logs
    from worker.settings import redacted

    # Unconfigured, structlog writes to stdout. What a person needs to know, the commands say themselves.
    logs.configure("ERROR", redacted)
    app(prog_name="reelhaul")
