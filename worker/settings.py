"""The environment (and `.env`) as frozen, validated Settings: read once, refused at start."""

from __future__ import annotations

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
#: TMDB's keys have 32 characters and more. A word so long is in no page by chance.
SHORTEST_KEY = 16
ESCAPE = "escape @ : / ? # in a password"
REDIS_FORM = "redis://:PASSWORD@HOST:PORT/DATABASE"
MONGO_FORM = "mongodb://USER:PASSWORD@HOST:PORT/DATABASE"
#: Behind the `?`, what kombu and redis-py understand alike; None: any text, the name of a file.
TLS_OPTIONS = {
    "ssl_ca_certs": None,
    "ssl_certfile": None,
    "ssl_keyfile": None,
    "ssl_cert_reqs": ("required", "optional", "none"),
    "ssl_check_hostname": ("true", "false"),
}


def _rate(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        return value
    try:
        return Rate.parse(str(value))
    except UsageError as error:
        raise ValueError(str(error).partition(": ")[2]) from None


def _length(value: Any) -> Any:
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
    """What a process of Reelhaul needs to know of its surroundings.

    Field names are the environment's, in lower case. Secrets are SecretStr: neither repr nor
    traceback shows them.
    """

    model_config = SettingsConfigDict(env_file=".env", frozen=True, extra="ignore", env_ignore_empty=True)

    #: TMDB's read access token (Bearer); preferred, for it stays out of addresses.
    tmdb_token: SecretStr | None = None
    #: TMDB's v3 API key (32 hex digits), used where there is no token.
    tmdb_api_key: SecretStr | None = None
    #: Whether the key may go unencrypted to another machine, as to an emulator in a network of one's own.
    reelhaul_allow_http: bool = False
    tmdb_base_url: str = "https://api.themoviedb.org/3"
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    mongo_url: SecretStr = SecretStr(f"mongodb://127.0.0.1:27017/{DEFAULT_DATABASE}")
    #: Requests for the whole fleet. TMDB allows "somewhere in the 40 requests per second range".
    reelhaul_rate: Annotated[Rate, NoDecode, BeforeValidator(_rate)] = Rate(35, 1)
    #: Tokens the bucket holds: rate + capacity is the most that any one second sees (35 + 5 = 40).
    reelhaul_capacity: int = Field(5, ge=1, le=10_000)
    #: Threads (or processes) that fetch in one worker.
    reelhaul_concurrency: int = Field(16, ge=1, le=256)
    #: Connections to the API from this host, over all its workers; TMDB allows 20 (staff, 2022).
    reelhaul_connections: int = Field(20, ge=1, le=1_000)
    #: Where this host's workers learn of each other; None: where worker.monitoring.run_folder says at that moment.
    reelhaul_run_folder: Path | None = None
    #: Seconds to wait for the API to begin, or go on, answering; a whole request has 12 (tmdb.WHOLE_S).
    reelhaul_timeout_s: float = Field(8.0, gt=0, le=12)
    #: Seconds between two looks at what is due: how soon lost messages come back.
    reelhaul_tick_s: int = Field(60, ge=2, le=3_600)
    #: Nothing older counts as fresh: TMDB lets nobody keep what was not fetched again for six months.
    reelhaul_retention: Annotated[timedelta, NoDecode, BeforeValidator(_length)] = timedelta(days=180)
    #: A TOML file of what happens by itself, and when; without one, the default schedule.
    reelhaul_schedule: Path | None = None
    #: Where a worker tells Prometheus what it does; 0: nowhere.
    reelhaul_metrics_port: int = Field(0, ge=0, le=65_535)
    reelhaul_metrics_address: str = "127.0.0.1"
    reelhaul_log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")

    @field_validator("tmdb_base_url")
    @classmethod
    def _ends_in_version(cls, value: str, info: ValidationInfo) -> str:
        value = value.rstrip("/")
        address = urlsplit(value)
        if address.scheme not in ("http", "https") or not value.endswith("/3") or "@" in address.netloc:
            raise ValueError("expected http(s)://HOST/3")
        if address.scheme == "http" and not (
            _loopback(address.hostname) or info.data.get("reelhaul_allow_http")
        ):
            raise ValueError(
                "the key would go unencrypted to another machine: use https://, or set REELHAUL_ALLOW_HTTP=1"
            )
        return value

    @field_validator("tmdb_token", "tmdb_api_key")
    @classmethod
    def _is_a_key(cls, value: SecretStr | None) -> SecretStr | None:
        # http.client would refuse it later, in a text that quotes the whole header.
        key = value.get_secret_value().strip() if value else ""
        if not key.isascii() or not key.isprintable():
            raise ValueError("holds characters that no HTTP header can; copy it anew")
        if 0 < len(key) < SHORTEST_KEY:
            # Should TMDB show us our key, it is taken out of the answer: what is shorter could not be.
            raise ValueError(f"expected at least {SHORTEST_KEY} characters, as TMDB's have; copy it whole")
        return SecretStr(key) if key else None

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: SecretStr) -> SecretStr:
        value = _with_scheme(value, "redis", "rediss")
        parts = urlsplit(value.get_secret_value())
        if (parts.username and not parts.password) or "password" in parse_qs(parts.query):
            # Celery shows a user's name, and does not start with a password behind the `?`.
            raise ValueError("expected the password before the host, after a colon: redis://:PASSWORD@HOST")
        _check_redis(value.get_secret_value())
        return value

    @field_validator("mongo_url")
    @classmethod
    def _is_mongo(cls, value: SecretStr) -> SecretStr:
        value = _with_scheme(value, "mongodb", "mongodb+srv")
        _check_mongo(value.get_secret_value())
        return value

    @property
    def secrets(self) -> set[str]:
        """What nobody is to see: TMDB's keys and the passwords in addresses."""
        keys = {key.get_secret_value() for key in (self.tmdb_token, self.tmdb_api_key) if key}
        addresses = (self.redis_url.get_secret_value(), self.mongo_url.get_secret_value())
        return keys | {unquote(urlsplit(address).password or "") for address in addresses}

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


def _check_redis(url: str) -> None:
    """One server with one database: other forms mean something else to kombu than to redis-py."""
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


def _check_mongo(url: str) -> None:
    """What pymongo would refuse later, or ignore with a warning; `mongodb+srv` is looked up when used."""
    _, _, options = url.partition("?")
    try:
        if options:
            split_options(options, warn=False)
    except (PyMongoError, ValueError, TypeError, OSError) as error:
        raise ValueError(f"option not usable: {str(error)[:200]}") from None
    if url.startswith("mongodb://"):
        try:
            parse_uri(url, validate=False)
        except (PyMongoError, ValueError):
            raise ValueError(f"expected {MONGO_FORM}; {ESCAPE}") from None


def _with_scheme(value: SecretStr, *schemes: str) -> SecretStr:
    if urlsplit(value.get_secret_value()).scheme not in schemes:
        raise ValueError(f"expected an address that begins with {' or '.join(s + '://' for s in schemes)}")
    try:
        parts = urlsplit(value.get_secret_value())
        # Several hosts are MongoDB's own form, and looked at there.
        _ = "," in parts.netloc.rpartition("@")[2] or parts.port
    except ValueError:
        # Without the reason, for it quotes what may be half a password.
        raise ValueError(f"expected digits after the host's colon; {ESCAPE}") from None
    if "@" in parts.path + parts.query + parts.fragment:
        # Whoever takes the address apart would quote half a password.
        raise ValueError(f"expected no @ after the host; {ESCAPE}")
    return value


def _loopback(host: str | None) -> bool:
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


@cache
def settings() -> Settings:
    """This process' Settings; UsageError names the first variable that cannot be used."""
    try:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f".env: cannot be read: {reason}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        name = str(first["loc"][0]).upper() if first["loc"] else "settings"
        given = "" if _secret(name) else f", got {first['input']!r}"
        need = first["msg"].removeprefix("Value error, ").replace("Input should", "must")
        raise UsageError(f"{name}: {need}{given}") from None


def redacted(text: str) -> str:
    """The text without this process' secrets, whichever library's words they are in."""
    try:
        return _redactor().text(text)
    except UsageError:  # no secrets are known; whoever needs the settings says so
        return text


@cache
def _redactor() -> Redactor:
    return Redactor(*settings().secrets)


def _secret(name: str) -> bool:
    return name.endswith(("_URL", "_TOKEN", "_KEY"))
