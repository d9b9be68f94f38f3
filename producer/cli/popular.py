"""`reelhaul popular`: fetch the most popular movies."""

from typing import Annotated

import typer

from producer.cli.follow import run_request
from producer.cli.options import AsJson, Detach, Quiet, parse_max_age
from producer.requests.popular import Popular
from worker.clients import fleet_now
from worker.keys import MAX_PAGE
from worker.settings import settings


def popular(
    pages: Annotated[int, typer.Option(help="Pages of 20 movies.", metavar="N", min=1, max=MAX_PAGE)] = 50,
    max_age: Annotated[str, typer.Option(help="Fetch pages again that are older.", metavar="LENGTH")] = "1d",
    detach: Detach = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fetch the most popular movies; their pages keep the order."""
    age = parse_max_age(max_age)
    settings().require_key()
    run_request(Popular(pages, age, fleet_now()), detach=detach, quiet=quiet, as_json=as_json)
