"""Settings from the environment and `.env`: frozen, validated when a process starts, read nowhere else."""

import re
from datetime import timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri, split_options

from worker.durations import parse_duration
from worker.errors import UsageError
from worker.limiter.rate import Rate
from worker.monitoring.redaction import Redactor

DEFAULT_DATABASE = "reelhaul"
#: TMDB's keys have 32 characters or more. No response contains 16 given characters by chance.
SHORTEST_KEY = 16
REDIS_FORM = "redis://:PASSWORD@HOST:PORT/DATABASE"
MONGO_FORM = "mongodb://USER:PASSWORD@HOST:PORT/DATABASE"
ESCAPE = "escape @ : / ? # in a password"
#: Options in a Redis URL that kombu and redis-py understand alike, and their values; None: a file's name.
TLS_OPTIONS = {
    "ssl_ca_certs": None,
    "ssl_certfile": None,
    "ssl_keyfile": None,
    "ssl_cert_reqs": ("required", "optional", "none"),
    "ssl_check_hostname": ("true", "false"),
}


def _parse_rate(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        return value
    try:
        return Rate.parse(str(value))
    except UsageError as error:
        raise ValueError(str(error).partition(": ")[2]) from None


def _parse_days(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        length = parse_duration(value, "")
    except UsageError as error:
        raise ValueError(str(error).partition(": ")[2]) from None
    if length < timedelta(days=1):
        raise ValueError("expected a day or more")
    return length


class Settings(BaseSettings):
    """Each field is the environment variable of that name in capitals.

    Keys and addresses are SecretStr, so that neither repr() nor a traceback shows them.
    """

    model_config = SettingsConfigDict(env_file=".env", frozen=True, extra="ignore", env_ignore_empty=True)

    #: TMDB's API read access token. Preferred to the API key, because it is not part of addresses.
    tmdb_token: SecretStr | None = None
    #: TMDB's v3 API key (32 hex digits). Used when there is no token.
    tmdb_api_key: SecretStr | None = None
    #: Allow http:// to another machine. The key is sent unencrypted: for an emulator in a private network.
    reelhaul_allow_http: bool = False
    #: TMDB's address, up to and including its version.
    tmdb_base_url: str = "https://api.themoviedb.org/3"
    #: Folder of TMDB's daily id exports, for `reelhaul ids load latest`. No key is sent there.
    reelhaul_ids_url: str = "https://files.tmdb.org/p/exports"
    #: Redis: the broker and the limiter.
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    #: MongoDB, with the name of the database.
    mongo_url: SecretStr = SecretStr(f"mongodb://127.0.0.1:27017/{DEFAULT_DATABASE}")
    #: Requests per second for the whole fleet: 35, 0.5, 40/10s. TMDB allows about 40 per second.
    reelhaul_rate: Annotated[Rate, NoDecode, BeforeValidator(_parse_rate)] = Rate(35, 1)
    #: Tokens in the limiter's bucket. At most rate + capacity requests (35 + 5 = 40) leave in any one second.
    reelhaul_capacity: int = Field(5, ge=1, le=10_000)
    #: Pages that one worker fetches at the same time: its threads or pool processes.
    reelhaul_concurrency: int = Field(16, ge=1, le=256)
    #: Connections to TMDB from one host, shared by all its workers. TMDB allows 20 (its staff, 2022).
    reelhaul_connections: int = Field(20, ge=1, le=1_000)
    #: Folder of locks, heartbeats and metrics that a host's processes share. Default: one folder per user.
    reelhaul_run_folder: Path | None = None
    #: Seconds to wait for TMDB to start or continue a response. A whole request may take 12.
    reelhaul_timeout_s: float = Field(8.0, gt=0, le=12)
    #: Seconds between two ticks of the schedule. At each tick the sweep brings back lost messages.
    reelhaul_tick_s: int = Field(60, ge=2, le=3_600)
    #: Age at which stored data counts as too old, whatever a command says. TMDB's terms allow six months.
    reelhaul_retention: Annotated[timedelta, NoDecode, BeforeValidator(_parse_days)] = timedelta(days=180)
    #: TOML file with the schedule. Default: what `reelhaul schedule --default` prints.
    reelhaul_schedule: Path | None = None
    #: Port at which a worker serves Prometheus metrics. 0: none.
    reelhaul_metrics_port: int = Field(0, ge=0, le=65_535)
    #: Address at which a worker serves Prometheus metrics.
    reelhaul_metrics_address: str = "127.0.0.1"
    #: Address that gets a JSON document by POST when something needs attention. It may hold a secret.
    reelhaul_webhook: SecretStr | None = None
    #: DEBUG, INFO, WARNING or ERROR.
    reelhaul_log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    @field_validator("tmdb_base_url")
    @classmethod
    def _check_tmdb(cls, value: str, info: ValidationInfo) -> str:
        value = value.rstrip("/")
        address = urlsplit(value)
        if address.scheme not in ("http", "https") or not value.endswith("/3") or "@" in address.netloc:
            raise ValueError("expected http(s)://HOST/3")
        if address.scheme == "http" and not (
            is_loopback(address.hostname) or info.data.get("reelhaul_allow_http")
        ):
            raise ValueError(
                "the key would go unencrypted to another machine: use https://, or set REELHAUL_ALLOW_HTTP=1"
            )
        return value

    @field_validator("reelhaul_ids_url")
    @classmethod
    def _check_ids(cls, value: str) -> str:
        try:
            address = urlsplit(value)
            valid = bool(address.scheme in ("http", "https") and address.hostname) and address.port != 0
        except ValueError:
            valid = False
        if not valid or "@" in address.netloc or address.query or address.fragment:
            raise ValueError("expected http(s)://HOST/FOLDER")
        return value.rstrip("/")

    @field_validator("tmdb_token", "tmdb_api_key")
    @classmethod
    def _check_key(cls, value: SecretStr | None) -> SecretStr | None:
        key = value.get_secret_value().strip() if value else ""
        # http.client would refuse such a header later, with an error that quotes it.
        if not key.isascii() or not key.isprintable():
            raise ValueError("holds characters that no HTTP header can; copy it anew")
        # A response that quotes the key is redacted; a shorter key could match other text.
        if 0 < len(key) < SHORTEST_KEY:
            raise ValueError(f"expected at least {SHORTEST_KEY} characters, as TMDB's have; copy it whole")
        return SecretStr(key) if key else None

    @field_validator("redis_url")
    @classmethod
    def _check_redis(cls, value: SecretStr) -> SecretStr:
        value = _check_scheme(value, "redis", "rediss")
        parts = urlsplit(value.get_secret_value())
        # Celery logs the user name, and fails on a password in the query.
        if (parts.username and not parts.password) or "password" in parse_qs(parts.query):
            raise ValueError("expected the password before the host, after a colon: redis://:PASSWORD@HOST")
        _check_redis_url(value.get_secret_value())
        return value

    @field_validator("mongo_url")
    @classmethod
    def _check_mongo(cls, value: SecretStr) -> SecretStr:
        value = _check_scheme(value, "mongodb", "mongodb+srv")
        _check_mongo_url(value.get_secret_value())
        return value

    @field_validator("reelhaul_webhook")
    @classmethod
    def _check_webhook(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        url = value.get_secret_value()
        try:
            address = urlsplit(url)
            valid = address.scheme in ("http", "https") and address.hostname and address.port != 0
        except ValueError:
            valid = False
        if not valid or not (url.isascii() and url.isprintable()) or " " in url:
            raise ValueError("expected http(s)://HOST/PATH")
        if "@" in address.netloc or address.fragment:
            raise ValueError("expected http(s)://HOST/PATH, without user, password and #")
        return value

    @property
    def secrets(self) -> set[str]:
        """TMDB's keys, the passwords in the addresses, and what of the webhook may be secret."""
        keys = {key.get_secret_value() for key in (self.tmdb_token, self.tmdb_api_key) if key}
        addresses = (self.redis_url.get_secret_value(), self.mongo_url.get_secret_value())
        passwords = {unquote(urlsplit(address).password or "") for address in addresses}
        return keys | passwords | _webhook_secrets(self.reelhaul_webhook)

    @property
    def key(self) -> SecretStr | None:
        """The token, else the API key, else None."""
        return self.tmdb_token or self.tmdb_api_key

    def require_key(self) -> None:
        """Raise UsageError when there is neither token nor API key."""
        if self.key is None:
            raise UsageError(
                "no TMDB key: set TMDB_TOKEN (API read access token) or TMDB_API_KEY in the environment "
                "or in .env; both are at themoviedb.org, Settings, API"
            )


def _webhook_secrets(webhook: SecretStr | None) -> set[str]:
    """The address, and the parts of its path and query that are long enough to be secrets."""
    if webhook is None:
        return set()
    url = webhook.get_secret_value()
    _, _, behind_host = url.partition("://")[2].partition("/")
    parts = {behind_host, *re.split(r"[/?&=]", behind_host)}
    return {url, *(unquote(part) for part in parts if len(part) >= SHORTEST_KEY)}


# The errors below quote nothing of an address but the names of options: the rest may be half a password.
def _check_scheme(value: SecretStr, *schemes: str) -> SecretStr:
    if urlsplit(value.get_secret_value()).scheme not in schemes:
        raise ValueError(f"expected an address that begins with {' or '.join(s + '://' for s in schemes)}")
    try:
        parts = urlsplit(value.get_secret_value())
        # A list of hosts is MongoDB's own form; pymongo checks it.
        _ = "," in parts.netloc.rpartition("@")[2] or parts.port
    except ValueError:
        raise ValueError(f"expected digits after the host's colon; {ESCAPE}") from None
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError(f"expected no @ after the host; {ESCAPE}")
    return value


def _check_redis_url(url: str) -> None:
    """Allow one server with one database: kombu and redis-py disagree about other forms."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if "," in host:
        raise ValueError(
            f"expected one host, got {host.count(',') + 1}; neither Sentinel nor Cluster is supported: "
            "name the server that takes writes, or a proxy before it"
        )
    if not parts.hostname:
        raise ValueError(f"expected a host, as in {REDIS_FORM}; {ESCAPE}")
    if not re.fullmatch(r"/?|/\d+", parts.path, re.ASCII) or parts.fragment:
        raise ValueError(f"expected the database's number behind the host, as in {REDIS_FORM}; {ESCAPE}")
    options = TLS_OPTIONS if parts.scheme == "rediss" else {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in options:
            known = f"one of {', '.join(options)}" if options else "none with redis://"
            raise ValueError(f"unknown option {name!a:.40}; expected {known}")
        allowed = options[name]
        if allowed and value not in allowed:
            raise ValueError(f"option {name}: expected one of {', '.join(allowed)}")


def _check_mongo_url(url: str) -> None:
    """Find what pymongo would reject later, or ignore with a warning."""
    _, _, options = url.partition("?")
    try:
        if options:
            split_options(options, warn=False)
    except (PyMongoError, ValueError, TypeError, OSError) as error:
        raise ValueError(f"option not usable: {str(error)[:200]}") from None
    if url.startswith("mongodb://"):  # for mongodb+srv, pymongo would ask a name server
        try:
            parse_uri(url, validate=False)
        except (PyMongoError, ValueError):
            raise ValueError(f"expected {MONGO_FORM}; {ESCAPE}") from None


def is_loopback(host: str | None) -> bool:
    """Whether a name or address is this machine's own."""
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


@cache
def settings() -> Settings:
    """This process' settings; UsageError names the first variable that is invalid."""
    try:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f".env: cannot be read: {reason}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = str(first["loc"][0]).upper() if first["loc"] else "settings"
        given = "" if _is_secret(name) else f", got {first['input']!r}"
        need = first["msg"].removeprefix("Value error, ").replace("Input should", "must")
        raise UsageError(f"{name}: {need}{given}") from None


def redacted(text: str) -> str:
    """The text without this process' secrets."""
    try:
        return _redactor().text(text)
    except UsageError:  # without valid settings no secret is known
        return text


@cache
def _redactor() -> Redactor:
    return Redactor(*settings().secrets)


def _is_secret(name: str) -> bool:
    return name.endswith(("_URL", "_TOKEN", "_KEY", "_WEBHOOK"))
