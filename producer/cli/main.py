"""The entry point `reelhaul`: every expected error is one line on stderr and exit code 2."""

import os
import sys

from producer.cli.health import health
from worker.errors import MongoUnavailable, RedisUnavailable, ReelhaulError

#: Modules of the extra `fleet`, without which the data can be read and nothing else.
FLEET = {
    "celery", "kombu", "redis", "requests", "flower", "pydantic", "pydantic_settings", "dotenv", "typer",
    "rich", "structlog", "prometheus_client",
}  # fmt: skip


def main() -> None:
    """Run the command line."""
    try:
        match sys.argv[1:]:
            case ["health", role] if not role.startswith("-"):
                health(role)  # as the registry would, half a second of imports sooner
            case _:
                from producer.cli.registry import run

                run()
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in FLEET:
            raise
        sys.stderr.write(f"reelhaul: the module {package} is missing: pip install 'reelhaul[fleet]'\n")
        sys.exit(2)
    except ReelhaulError as error:
        from worker.settings import redacted

        unavailable = isinstance(error, RedisUnavailable | MongoUnavailable)
        hint = "; `reelhaul doctor` says more" if unavailable else ""
        sys.stderr.write(f"reelhaul: {redacted(str(error))}{hint}\n")
        sys.exit(2)
    except OSError as error:
        # Most likely standard output's: a full disk, for instance.
        reason = error.strerror or type(error).__name__
        sys.stderr.write(f"reelhaul: {reason}{f': {error.filename}' if error.filename else ''}\n")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # flushing the rest at exit would fail again
        sys.exit(2)
