"""The grammar of faults, when they strike, and how they change a reply."""

import gzip
import json
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.emulator.bodies import Shown, spoil
from sandbox.emulator.faults import FAULT_KINDS, HOSTILE, Fault, FaultPlan, FaultSyntaxError, parse_fault
from sandbox.emulator.replies import Reply, json_reply

PAGE = {"page": 1, "results": [{"id": movie_id, "title": "T"} for movie_id in range(1, 21)]}
PAGE |= {"total_pages": 9, "total_results": 180}

ASCII = st.characters(min_codepoint=32, max_codepoint=126)
kinds_with_values = st.sampled_from(sorted(FAULT_KINDS)).flatmap(
    lambda kind: st.tuples(
        st.just(kind), st.from_regex(FAULT_KINDS[kind].pattern, fullmatch=True, alphabet=ASCII)
    )
)
seconds = st.floats(0, 1e9)
faults = st.builds(
    lambda kind_and_value, **conditions: Fault(*kind_and_value, **conditions),
    kinds_with_values,
    probability=st.floats(0, 1),
    share=st.floats(0, 1),
    every=st.integers(1, 10**6),
    from_s=seconds,
    for_s=st.none() | seconds,
    count=st.none() | st.integers(1, 10**6),
    match=st.sampled_from(["", "page=2$", "[?&]page=(2|3):match=:p=1", "movie/\\d+"]),
)


def spoiled(spec: str, page: dict[str, Any] | None = None, shown: Shown | None = None) -> Reply:
    return spoil(json_reply(page or PAGE), parse_fault(spec), shown or Shown())


def strikes(
    spec: str, requests: int, *, target: str = "/3/discover/movie?page=1", seed: int = 7
) -> list[int]:
    """The numbers of the requests, one per second, that it strikes."""
    plan = FaultPlan([parse_fault(spec)], seed, began_s=100.0)
    return [
        number
        for number in range(requests)
        if plan.pick(target, is_page=True, now_s=100.0 + number) is not None
    ]


@given(faults)
def test_a_fault_parses_from_its_own_text(fault: Fault) -> None:
    assert parse_fault(str(fault)) == fault


def test_the_text_of_a_fault_is_the_shortest() -> None:
    assert str(parse_fault("429=none:p=1:every=1:from=0")) == "429"
    assert (
        str(parse_fault("status=503/html:count=2:p=0.5:match=a:b"))
        == "status=503/html:p=0.5:count=2:match=a:b"
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "unknown kind ''"),
        ("teapot", "unknown kind 'teapot'; known are 429, status"),
        ("status", "status takes 201 to 599"),
        ("status=200", "got '200'"),
        ("error=25", "error takes a TMDB status code"),
        ("hang=5", "hang takes no value, got '5'"),
        ("redirect=200", "redirect takes 300 to 399, got '200'"),
        ("hang:share=half", "share must be 0 to 1, got 'half'"),
        ("hang:p=2", "p must be 0 to 1, got '2'"),
        ("hang:p=nan", "p must be 0 to 1, got 'nan'"),
        ("hang:every=0", "every must be an integer above 0"),
        ("hang:for=-1", "for must be a number, 0 or more"),
        ("hang:often=1", "unknown condition 'often'; known are p, share"),
        ("hang:match=[", "match must be a regular expression"),
    ],
)
def test_an_invalid_fault_is_a_one_line_error(spec: str, message: str) -> None:
    with pytest.raises(FaultSyntaxError) as caught:
        parse_fault(spec)
    assert message in str(caught.value)
    assert repr(spec) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_conditions() -> None:
    assert strikes("hang", 3) == [0, 1, 2]
    assert strikes("hang:every=3", 9) == [2, 5, 8]
    assert strikes("hang:count=2", 9) == [0, 1]
    assert strikes("hang:from=2:for=3", 9) == [2, 3, 4]
    assert strikes("hang:every=2:count=2:from=4", 20) == [5, 7]
    assert strikes("hang:match=page=2", 3) == []
    assert strikes("hang:match=page=2", 3, target="/3/discover/movie?page=2") == [0, 1, 2]
    assert strikes("hang:p=0", 50) == []


def test_the_seed_determines_probabilities() -> None:
    some = strikes("hang:p=0.3", 200)
    assert some == strikes("hang:p=0.3", 200)
    assert some != strikes("hang:p=0.3", 200, seed=8)
    assert 30 < len(some) < 90


def test_a_share_strikes_the_same_requests_each_time() -> None:
    targets = [f"/3/discover/movie?with_genres=18&page={page}" for page in range(1, 201)]
    struck = [target for target in targets if strikes("hang:share=0.5", 1, target=target)]
    assert 70 < len(struck) < 130
    assert all(strikes("hang:share=0.5", 3, target=target) == [0, 1, 2] for target in struck[:20])
    assert struck != [target for target in targets if strikes("hang:share=0.5", 1, target=target, seed=8)]
    assert strikes("hang:share=0", 3) == []


def test_the_first_fault_that_applies_strikes_and_each_counts_its_matches() -> None:
    plan = FaultPlan([parse_fault("hang:every=2"), parse_fault("close:every=2"), parse_fault("html")], 7, 0.0)
    picked = [plan.pick("/3/movie/1?", is_page=False, now_s=1.0) for _ in range(4)]
    assert [fault.kind for fault in picked if fault] == ["html", "hang", "html", "hang"]


def test_faults_of_a_page_strike_no_other_requests() -> None:
    plan = FaultPlan([parse_fault("wrong-page")], 7, 0.0)
    assert plan.pick("/3/genre/movie/list?", is_page=False, now_s=1.0) is None


def retry_after(spec: str) -> str | None:
    return dict(spoiled(spec).headers).get(b"retry-after", b"").decode() or None


def test_every_form_of_retry_after() -> None:
    assert spoiled("429").status == 429
    assert json.loads(spoiled("429").body)["status_code"] == 25
    assert retry_after("429") is None
    assert retry_after("429=0") == "0"
    assert retry_after("429=3") == "3"
    assert retry_after("429=-1") == "-1"
    assert retry_after("429=absurd") == "90000000000"
    assert retry_after("429=garbage") == "soon, maybe"
    late, early = (parsedate_to_datetime(retry_after(spec) or "") for spec in ("429=date+30", "429=date-30"))
    assert 59 <= (late - early).total_seconds() <= 61


def test_statuses_and_error_bodies() -> None:
    assert (spoiled("status=503").status, json.loads(spoiled("status=503").body)["status_code"]) == (503, 9)
    assert spoiled("status=502/html").body.startswith(b"<html>")
    assert spoiled("status=504/empty") == Reply(504, b"", ())
    assert json.loads(spoiled("status=418").body) == {"success": False, "status_message": "418"}
    assert (spoiled("error=10").status, spoiled("error-200").status) == (401, 200)
    assert json.loads(spoiled("error-200").body)["status_code"] == 11


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("spec", ["status={}/html", "echo={}"])
def test_statuses_without_a_body_have_none(spec: str, status: int) -> None:
    assert (spoiled(spec.format(status)).status, spoiled(spec.format(status)).body) == (status, b"")


SHOWN = Shown("/3/discover/movie?page=1&api_key=secret", "Bearer token")


def test_a_redirect_quotes_the_request() -> None:
    assert spoiled("redirect").status == 302
    answer = spoiled("redirect=307", shown=SHOWN)
    assert (answer.status, answer.body.startswith(b"<html>")) == (307, True)
    location = dict(answer.headers)[b"location"]
    assert location == b"/3/portal?from=%2F3%2Fdiscover%2Fmovie%3Fpage%3D1%26api_key%3Dsecret"


def test_an_echo_shows_the_request_in_headers_and_in_an_errors_text() -> None:
    page, error = spoiled("echo", shown=SHOWN), spoiled("echo=400", shown=SHOWN)
    assert (page.status, json.loads(page.body)) == (200, PAGE)
    assert (error.status, error.headers) == (400, page.headers)
    assert json.loads(error.body)["status_message"] == f"{SHOWN.target} {SHOWN.authorization}"
    headers = dict(page.headers)
    assert headers[b"content-location"] == headers[b"location"] == SHOWN.target.encode()
    assert headers[b"x-cache-key"] == b"GET tmdb" + SHOWN.target.encode()
    assert headers[b"x-authorization"] == b"Bearer token"


def test_bodies_that_are_not_a_page() -> None:
    whole = json_reply(PAGE).body
    assert spoiled("html").status == 200
    assert spoiled("empty").body == b""
    assert spoiled("gzip").body[:2] == b"\x1f\x8b"
    assert gzip.decompress(spoiled("gzip").body) == whole
    with pytest.raises(json.JSONDecodeError):
        json.loads(spoiled("not-json").body)


def page(spec: str) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(spoiled(spec).body)
    return changed


def test_wrong_pages() -> None:
    assert page("results")["results"] is None
    assert isinstance(page("results=object")["results"], dict)
    assert "results" not in page("results=missing")
    assert page("wrong-page")["page"] == 2
    assert page("wrong-page=7")["page"] == 7
    assert (page("totals=0/0")["total_pages"], page("totals=0/0")["total_results"]) == (0, 0)
    assert (page("totals=+1/-7")["total_pages"], page("totals=+1/-7")["total_results"]) == (10, 173)
    assert page("totals=-99/+0")["total_pages"] == 0
    assert page("no-results") == {**PAGE, "results": [], "total_pages": 1, "total_results": 0}
    assert page("no-results=0/0")["total_pages"] == 0
    assert len(page("short=3")["results"]) == 17
    assert spoiled("short=99").status == 200


def first_row(spec: str) -> dict[str, Any]:
    row: dict[str, Any] = page(spec)["results"][0]
    return row


def test_hostile_pages() -> None:
    assert first_row("hostile=bigint")["vote_count"] > 2**64
    assert first_row("hostile=big-id")["id"] > 2**64
    assert {"a.b", "$set", ""} <= first_row("hostile=keys").keys()
    assert {"_id", "_meta"} <= first_row("hostile=reserved").keys()
    assert len(first_row("hostile=megabyte")["overview"]) == 1_000_000
    assert len(spoiled("hostile=oversize").body) > 16 * 2**20
    assert "\0" in first_row("hostile=nul")["title"]
    assert [row["id"] for row in page("hostile=bad-ids")["results"][:3]] == ["603", 1.5, None]
    assert page("hostile=bad-rows")["results"][0] is None
    assert page("hostile=duplicates")["results"][-1] == first_row("hostile=duplicates")
    assert b"NaN" in spoiled("hostile=nan").body
    assert rb"\ud83d" in spoiled("hostile=surrogate").body
    assert spoiled("hostile=nesting").body.count(b"[") > 200
    with pytest.raises(RecursionError):
        json.loads(spoiled("hostile=abyss").body)


@pytest.mark.parametrize("payload", HOSTILE)
def test_hostile_faults_change_neither_an_empty_page_nor_an_error(payload: str) -> None:
    fault = parse_fault(f"hostile={payload}")
    empty = json_reply({"page": 1, "results": [], "total_pages": 1, "total_results": 0})
    assert spoil(empty, fault) == empty
    refused = json_reply({"success": False}, 401)
    assert spoil(refused, fault) == refused
