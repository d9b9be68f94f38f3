"""`reelhaul verify --sample` and `--hashes`: compare with TMDB, and with what was saved."""

from dataclasses import asdict

import typer

from producer.cli.render import console, counted, print_json, progress_bar
from producer.cli.tmdb import checked_tmdb
from producer.queues import enqueue
from producer.sample import DAILY, PageCheck, compare_page
from worker.clients import fleet_now, storage
from worker.errors import NotEver, UsageError
from worker.keys import Fetch, MovieKey
from worker.retry import ask
from worker.settings import settings
from worker.storage.documents import PageRecord
from worker.tmdb import endpoints
from worker.tmdb.client import TmdbClient

#: Pages or movies that get a line each.
SHOWN = 40


def check_sample(number: int, *, as_json: bool, quiet: bool) -> None:
    """Fetch so many pages again, store nothing; exit code 1 when any is not as it was stored."""
    settings().require_key()
    records = storage().pages.sample(number)
    if not records:
        raise UsageError("no page is stored yet, so there is nothing to compare: `reelhaul backfill --help`")
    checks = []
    with checked_tmdb() as client, progress_bar("pages", len(records), quiet=quiet or as_json) as advance:
        for record in records:
            checks.append(_check(client, record))
            advance()
    differing = [check for check in checks if check.differs]
    if as_json:
        rows = [asdict(check) | {"differs": check.differs} for check in checks]
        print_json({"pages": len(checks), "differing": len(differing), "checks": rows})
    else:
        _print(checks, differing, quiet=quiet)
    if differing:
        raise typer.Exit(1)


def _check(client: TmdbClient, record: PageRecord) -> PageCheck:
    stored = {movie["_id"]: movie for movie in storage().movies.in_order(record.movie_ids)}
    try:
        now = ask(lambda deadline: client.get(record.key, endpoints.discover, deadline))
    except NotEver as error:
        check = compare_page(record, stored, None)
        check.rejected = str(error)
        return check
    return compare_page(record, stored, now)


def _print(checks: list[PageCheck], differing: list[PageCheck], *, quiet: bool) -> None:
    out = console(quiet=quiet)
    for check in differing[:SHOWN]:
        out.print(f"{check.page}: {_describe(check)}", soft_wrap=True)
    if len(differing) > SHOWN:
        out.print(f"and {len(differing) - SHOWN:,} more (--json has all)")
    movies = sum(len(check.changed) for check in checks if not check.differs)
    daily = f"; {counted(movies, 'movie')} with new {', '.join(sorted(DAILY))} alone" if movies else ""
    pages = f"{len(differing):,} of {counted(len(checks), 'page')} not as stored"
    out.print(f"{pages if differing else counted(len(checks), 'page') + ' as stored'}{daily}", soft_wrap=True)


def _describe(check: PageCheck) -> str:
    parts = [check.rejected, check.totals]
    for words, ids in (
        ("new on the page", check.more),
        ("not on the page any more", check.lacks),
        ("not stored", check.not_stored),
        ("not as saved", check.damaged),
    ):
        if ids:
            parts.append(f"{words}: {', '.join(map(str, ids))}")
    parts += [
        f"{id_} has another {', '.join(names)}"
        for id_, names in sorted(check.changed.items())
        if not DAILY.issuperset(names)
    ]
    return "; ".join(part for part in parts if part)


def check_hashes(*, repair: bool, as_json: bool, quiet: bool) -> None:
    """Compute the hash of every stored document; exit code 1 when one is not what was saved.

    `repair`: those movies are fetched again.
    """
    counts, damaged = {"movies": 0, "details": 0}, list[tuple[str, int]]()
    for collection in counts:
        total = storage().movies.count() if collection == "movies" else None
        with progress_bar(collection, total, quiet=quiet or as_json) as advance:
            hashes = storage().movies.hashes(details=collection == "details", on_movie=advance)
            for id_, _, is_as_saved in hashes:
                counts[collection] += 1
                if not is_as_saved:
                    damaged.append((collection, id_))
    damaged.sort()
    if as_json:
        rows = [{"collection": collection, "id": id_} for collection, id_ in damaged]
        print_json({**counts, "damaged": rows})
    else:
        out = console(quiet=quiet)
        for collection, id_ in damaged[:SHOWN]:
            out.print(f"{collection} {id_}: not as saved")
        if len(damaged) > SHOWN:
            out.print(f"and {len(damaged) - SHOWN:,} more (--json has all)")
        both = f"{counted(counts['movies'], 'movie')} and {counts['details']:,} details"
        again = " (`reelhaul verify --hashes --repair`)" if damaged and not repair else ""
        out.print(f"{both}, {len(damaged):,} not as saved{again}", soft_wrap=True)
    if repair and damaged:
        for collection in counts:
            ids = [id_ for of, id_ in damaged if of == collection]
            storage().movies.distrust(ids, details=collection == "details")
        movies = {id_ for _, id_ in damaged}
        sent = enqueue((Fetch(MovieKey(id_), fleet_now(), (None,)) for id_ in sorted(movies)), "refresh")
        console(quiet=quiet or as_json).print(f"{counted(sent, 'movie')} enqueued to be fetched again")
    if damaged:
        raise typer.Exit(1)
