"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Genres = Annotated[str, typer.Option(help="all, or names and ids: Drama,35", metavar="all|NAME|ID,...")]
Years = Annotated[str, typer.Option(help="Years of first release.", metavar="FIRST..LAST")]
MaxAge = Annotated[
    str | None,
    typer.Option(
        help="Fetch again what is older: 12h, 30d.", metavar="LENGTH", show_default="REELHAUL_RETENTION"
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Enqueue and return; workers go on.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
