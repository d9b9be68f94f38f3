"""Tracing by OpenTelemetry's stock instrumentation: docs/tracing.md."""

import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from sandbox.fleet import REELHAUL
from tests.support.collector import Collector, collector
from tests.support.receiver import SECRETS, receiver
from tests.support.stage import PATIENCE_S, Stage, wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(150)]

#: `opentelemetry-instrument`.
INSTRUMENT = (
    sys.executable,
    "-c",
    "from opentelemetry.instrumentation.auto_instrumentation import run; run()",
)
CELERY = (
    sys.executable,
    "-m",
    "celery",
    "-A",
    "worker.app",
    "worker",
    "--without-gossip",
    "--without-mingle",
)
KEYS = {
    "a key": {"TMDB_TOKEN": "", "TMDB_API_KEY": 'canary+0f/key=of "nobody"'},
    "a token": {"TMDB_TOKEN": "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJub2JvZHkifQ.canary-_token"},
}


@pytest.fixture
def collected() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.mark.parametrize("name", KEYS)
def test_a_page_is_one_trace_and_no_span_holds_the_key(stage: Stage, collected: Collector, name: str) -> None:
    stage.environment |= KEYS[name] | collected.environment
    # Whoever asks for all headers gets no token either.
    stage.environment["OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST"] = ".*"
    secret = stage.environment["TMDB_TOKEN"] or stage.environment["TMDB_API_KEY"]
    server = stage.emulator("--movies", "1000", "--key", secret)
    # Spans of failures hold the errors' texts.
    server.configure(faults=["reset=start:count=1", "html:count=1", "error=34:match=gte=2019-"])
    worker = stage.start(*INSTRUMENT, *CELERY, name="worker", OTEL_SERVICE_NAME="worker")
    backfill = ("backfill", "--genres", "War", "--years", "2018..2019", "--quiet")
    command = stage.start(*INSTRUMENT, *REELHAUL, *backfill, OTEL_SERVICE_NAME="command")
    assert command.wait(PATIENCE_S) == 1, command.log_text()  # 2019 is in quarantine
    assert list(stage.stored_pages()) == ["10752:2018:1"]

    wait_for(lambda: bool(trace_of_page(collected)), watching=[worker])
    forms = {secret, quote(secret, safe=""), quote_plus(secret)}
    assert not [form for form in forms for body in collected.bodies if form.encode() in body]
    addresses = [url for span in collected.spans() if (url := attribute(span, "http.url"))]
    assert any("/3/discover/movie?with_genres=10752&" in url for url in addresses)


def trace_of_page(collected: Collector) -> list[Any]:
    """The spans from the command to the store, each the parent of the next, once all have arrived."""
    spans = {span.span_id: span for span in collected.spans()}
    for stored in spans.values():
        if (
            stored.name.endswith((".insert", ".update"))
            and attribute(stored, "db.mongodb.collection") == "pages"
        ):
            run = spans.get(stored.parent_span_id)
            sent = run and spans.get(run.parent_span_id)
            beside = {span.name for span in spans.values() if run and span.parent_span_id == run.span_id}
            if (
                run
                and sent
                and sent.name == "apply_async/reelhaul.fetch_page"
                and {"GET", "EVALSHA"} <= beside
            ):
                assert run.name == "run/reelhaul.fetch_page"
                assert {span.trace_id for span in (stored, run)} == {sent.trace_id}
                return [sent, run, stored]
    return []


def attribute(span: Any, name: str) -> str:
    return next((str(one.value.string_value) for one in span.attributes if one.key == name), "")


def test_no_span_holds_the_path_of_the_webhook(stage: Stage, collected: Collector) -> None:
    """The instrumentation of requests is installed here, and sees the POST."""
    with receiver() as receives:
        script = f"from producer.webhook import Webhook; Webhook({receives.url!r}).post({{}})"
        posting = stage.start(*INSTRUMENT, sys.executable, "-c", script, **collected.environment)
        assert posting.wait(PATIENCE_S) == 0, posting.log_text()
        assert receives.arrived == 1
    wait_for(lambda: any(span.name == "POST" for span in collected.spans()))
    assert not [secret for secret in SECRETS for body in collected.bodies if secret.encode() in body]
