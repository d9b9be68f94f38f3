"""Settings: what the environment sets, and errors of one line that name the variable and show no secret."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from pydantic import SecretStr
from redis import Redis

from worker.errors import UsageError
from worker.limiter.rate import Rate
from worker.settings import Settings, settings

SECRET = "s3cr3t-of-nobody"  # noqa: S105 -- made up
NAMES = [name.upper() for name in Settings.model_fields]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No variable of ours, no .env but the test's, no cached settings."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_defaults() -> None:
    chosen = settings()
    assert chosen.tmdb_base_url == "https://api.themoviedb.org/3"
    assert chosen.redis_url.get_secret_value() == "redis://127.0.0.1:6379/0"
    assert chosen.mongo_url.get_secret_value() == "mongodb://127.0.0.1:27017/reelhaul"
    assert chosen.reelhaul_rate == Rate(35, 1)
    assert chosen.reelhaul_rate.per_s + chosen.reelhaul_capacity <= 40
    assert chosen.reelhaul_ids_url == "https://files.tmdb.org/p/exports"
    assert chosen.key is None


@pytest.mark.parametrize(
    "url", ["mongodb://a:27017,b:27018/db", "mongodb+srv://c.test/db", "mongodb://[::1]:27017", "mongodb://a"]
)
def test_every_form_of_mongodb_address_is_valid(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("MONGO_URL", url)
    assert settings().mongo_url.get_secret_value() == url


def test_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELHAUL_RATE", "40/10s")
    monkeypatch.setenv("REELHAUL_CAPACITY", "7")
    monkeypatch.setenv("TMDB_BASE_URL", "http://127.0.0.1:8099/3/")
    chosen = settings()
    assert chosen.reelhaul_rate == Rate(4, 1)
    assert chosen.reelhaul_capacity == 7
    assert chosen.tmdb_base_url == "http://127.0.0.1:8099/3"


def test_environment_overrides_dot_env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        f"TMDB_TOKEN={SECRET}\nREELHAUL_RATE=20\nREELHAUL_CONCURRENCY=3\nOTHERS=1\n"
    )
    monkeypatch.setenv("REELHAUL_RATE", "30")
    chosen = settings()
    assert chosen.key is not None
    assert chosen.key.get_secret_value() == SECRET
    assert (chosen.reelhaul_rate, chosen.reelhaul_concurrency) == (Rate(30, 1), 3)


def test_env_example_sets_only_defaults(tmp_path: Path) -> None:
    example = Path(__file__).resolve().parents[2] / ".env.example"
    bare = settings()
    (tmp_path / ".env").write_text(example.read_text())
    settings.cache_clear()
    assert settings() == bare


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMDB_TOKEN", "")
    monkeypatch.setenv("REELHAUL_RATE", "")
    assert settings().key is None
    assert settings().reelhaul_rate == Rate(35, 1)


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"TMDB_TOKEN": SECRET, "TMDB_API_KEY": SECRET[::-1]}, SECRET),
        ({"TMDB_TOKEN": SECRET}, SECRET),
        ({"TMDB_API_KEY": SECRET[::-1]}, SECRET[::-1]),
    ],
)
def test_token_is_preferred_to_the_api_key(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], key: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    chosen = settings()
    chosen.require_key()
    assert chosen.key is not None
    assert chosen.key.get_secret_value() == key


def test_missing_key_is_one_line_that_says_where_to_get_one() -> None:
    with pytest.raises(UsageError, match=r"\Ano TMDB key: set TMDB_TOKEN .* or TMDB_API_KEY .*\.env.*\Z"):
        settings().require_key()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("REELHAUL_RATE", value) for value in ("0", "-1", "fast", "35/fortnight", "nan", "9" * 5000)),
        *(("REELHAUL_CAPACITY", value) for value in ("0", "-1", "1.5", "ten", "10001")),
        *(("REELHAUL_CONCURRENCY", value) for value in ("0", "257", "many")),
        *(("REELHAUL_TIMEOUT_S", value) for value in ("0", "-1", "12.1", "31", "soon", "nan", "inf")),
        *(("REELHAUL_LOG_LEVEL", value) for value in ("LOUD", "info", "INFO ")),
        *(("TMDB_BASE_URL", value) for value in ("api.themoviedb.org/3", "https://api.themoviedb.org", "ftp://a/3")),
        *(("REELHAUL_IDS_URL", value) for value in ("files", "ftp://a/b", "https:///b", "http://a:b/c", "https://a/?b")),
        *((name, "fifteen-letters") for name in ("TMDB_TOKEN", "TMDB_API_KEY")),
        *(("REDIS_URL", value) for value in ("127.0.0.1:6379", "http://127.0.0.1/", "mongodb://a")),
        *(("MONGO_URL", value) for value in ("127.0.0.1:27017", "redis://127.0.0.1/", "reelhaul")),
    ],
)  # fmt: skip
def test_invalid_setting_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as raised:
        settings()
    assert str(raised.value).startswith(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h1:6379,h2:6379/0", "expected one host, got 2; neither Sentinel nor Cluster is supported"),
        (f"redis://:{SECRET},@h1,h2,h3/0", "expected one host, got 3"),
        ("redis+sentinel://h:26379/0", "expected an address that begins with redis:// or rediss://"),
        ("unix:///run/redis.sock", "expected an address that begins with redis:// or rediss://"),
        ("redis://", "expected a host"),
        (f"redis://:{SECRET}@/0", "expected a host"),
        ("redis://h:99999/0", "expected digits after the host's colon"),
        ("redis://h/queue", "expected the database's number"),
        ("redis://h/-1", "expected the database's number"),
        ("redis://h/0/1", "expected the database's number"),
        ("redis://h/0?db=3", "unknown option 'db'; expected none with redis://"),
        ("redis://h/0?socket_timeout=3", "unknown option 'socket_timeout'"),
        ("redis://h/0?ssl_ca_certs=ca.pem", "unknown option 'ssl_ca_certs'; expected none with redis://"),
        ("rediss://h/0?ssl_cert_reqs=CERT_NONE", "option ssl_cert_reqs: expected one of required, optional"),
        ("rediss://h/0?tls=yes", "unknown option 'tls'; expected one of ssl_ca_certs, "),
        ("mongodb://", "expected mongodb://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("mongodb:///db", "expected mongodb://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("mongodb://h:99999/db", "expected digits after the host's colon"),
        ("mongodb://h/a$b", "expected mongodb://USER:PASSWORD@HOST:PORT/DATABASE"),
        ("mongodb://h/db?retryWites=true", "option not usable: Unknown option: retrywites"),
        ("mongodb://h/db?maxPoolSize=-1", "option not usable: The value of maxpoolsize must be"),
        ("mongodb://h/db?tls=true&tlsCAFile=/no/such.pem", "option not usable: .*No such file"),
        (f"mongodb://a,b/db?authMechanism={SECRET[:3]}", "option not usable: authmechanism must be in"),
    ],
)
def test_unusable_address_is_invalid(monkeypatch: pytest.MonkeyPatch, url: str, expected: str) -> None:
    """Each of these used to be a traceback at first use, or different addresses to kombu and redis-py."""
    name = "MONGO_URL" if url.startswith("mongo") else "REDIS_URL"
    monkeypatch.setenv(name, url)
    with pytest.raises(UsageError, match=rf"\A{name}: {expected}") as raised:
        settings()
    assert "\n" not in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:6380/",
        "redis://:p%40ss,word@h/15",
        "redis://[::1]:6379/0",
        "rediss://u:p@h:6379/0?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required&ssl_check_hostname=true",
    ],
)
def test_kombu_and_redis_py_agree_on_valid_addresses(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert settings().redis_url.get_secret_value() == url
    redis_py: Any = Redis.from_url(url).connection_pool.make_connection()
    kombu = Connection(url)
    database = int(kombu.virtual_host.strip("/") or 0)
    assert (redis_py.host, redis_py.port, redis_py.db) == (kombu.hostname, kombu.port or 6379, database)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", f"http://:{SECRET}@redis/0"),
        ("REDIS_URL", f"redis//:{SECRET}@redis/0"),
        ("MONGO_URL", f"http://user:{SECRET}@mongo/reelhaul"),
        ("TMDB_BASE_URL", f"https://user:{SECRET}@proxy"),
        ("REDIS_URL", f"redis://[{SECRET}"),
        ("REDIS_URL", f"redis://:{SECRET}/unescaped@redis/0"),
        ("REDIS_URL", f"redis://:1/{SECRET}@redis/0"),
        ("REDIS_URL", f"redis://{SECRET}@redis/0"),
        ("REDIS_URL", f"redis://redis/0?password={SECRET}"),
        ("MONGO_URL", f"mongodb://user:{SECRET}/unescaped@mongo/"),
        *(
            ("MONGO_URL", f"mongodb://{user}{end}{SECRET}@mongo/db")
            for user in ("u", "u:1", "u:1,u:1")
            for end in "/?#"
        ),
        ("TMDB_BASE_URL", f"https://user:{SECRET}@proxy/3"),
        ("REELHAUL_IDS_URL", f"https://user:{SECRET}@proxy/ids"),
        ("REELHAUL_WEBHOOK", f"https://user:{SECRET}@chat/hook"),
        ("REELHAUL_WEBHOOK", f"chat/hook/{SECRET}"),
        ("REELHAUL_WEBHOOK", f"https://chat:port/hook/{SECRET}"),
        ("REELHAUL_WEBHOOK", f"https://chat/hook {SECRET}"),
        ("TMDB_TOKEN", SECRET[:-1]),
        ("TMDB_API_KEY", f"{SECRET}\n{SECRET}"),
    ],
)
def test_no_error_shows_a_secret(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("TMDB_TOKEN", SECRET)
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError) as raised:
        settings()
    assert str(raised.value).startswith(name)
    assert SECRET[:-1] not in str(raised.value)
    assert raised.value.__suppress_context__, "a traceback would show what pydantic quotes"


@pytest.mark.parametrize("value", [f"{SECRET}\nX-Other: 1", f"{SECRET}…"])
def test_token_that_no_header_can_hold_is_invalid_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """http.client would refuse it later, with an error that quotes the whole header."""
    monkeypatch.setenv("TMDB_TOKEN", value)
    with pytest.raises(UsageError, match=r"\ATMDB_TOKEN") as raised:
        settings()
    assert SECRET not in str(raised.value)


def test_blanks_around_a_token_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMDB_TOKEN", f" {SECRET}\r")
    assert settings().tmdb_token == SecretStr(SECRET)


@pytest.mark.parametrize(
    "host", ["api.themoviedb.org", "emulator:8099", "10.0.0.1", "[2001:db8::1]", "127.0.0.1.example.org"]
)
def test_http_to_another_machine_is_invalid_unless_allowed(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("TMDB_BASE_URL", f"http://{host}/3")
    with pytest.raises(
        UsageError, match=r"\ATMDB_BASE_URL: .* unencrypted .* https://, or set REELHAUL_ALLOW_HTTP=1\Z"
    ):
        settings()
    monkeypatch.setenv("REELHAUL_ALLOW_HTTP", "1")
    assert settings().tmdb_base_url == f"http://{host}/3"


@pytest.mark.parametrize("host", ["127.0.0.1:8099", "127.9.9.9", "localhost:8099", "[::1]:8099"])
def test_http_to_this_machine_is_valid(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("TMDB_BASE_URL", f"http://{host}/3")
    assert settings().tmdb_base_url == f"http://{host}/3"


def test_secrets_are_unescaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMDB_API_KEY", SECRET)
    monkeypatch.setenv("REDIS_URL", "redis://:p%40ss-of-redis@127.0.0.1/0")
    monkeypatch.setenv("MONGO_URL", "mongodb://user:p%2Fss-of-mongo@a:1,b:2/reelhaul")
    assert settings().secrets == {SECRET, "p@ss-of-redis", "p/ss-of-mongo"}


def test_parts_of_the_webhook_are_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELHAUL_WEBHOOK", f"https://chat/hook/{SECRET}?token={SECRET[::-1]}")
    settings.cache_clear()
    assert {SECRET, SECRET[::-1]} <= settings().secrets
    assert not settings().secrets & {"chat", "hook", "token"}


def test_settings_print_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMDB_TOKEN", "TMDB_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("REDIS_URL", f"redis://:{SECRET}@127.0.0.1/0")
    monkeypatch.setenv("MONGO_URL", f"mongodb://user:{SECRET}@127.0.0.1/reelhaul")
    chosen = settings()
    for shown in (repr(chosen), str(chosen), str(chosen.model_dump()), chosen.model_dump_json()):
        assert SECRET not in shown


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        settings().reelhaul_concurrency = 2  # type: ignore[misc] # as mypy knows
