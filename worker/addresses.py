"""Which addresses of Redis and MongoDB can be used, checked before anybody connects.

Each function raises ValueError with what was expected. The text quotes nothing of the address but the names
of its options, for any other part may be half a password.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, urlsplit

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri, split_options

ESCAPE = "escape @ : / ? # in a password"
REDIS = "redis://:PASSWORD@HOST:PORT/DATABASE"
MONGO = "mongodb://USER:PASSWORD@HOST:PORT/DATABASE"
#: Behind the `?`, what kombu and redis-py understand alike; None: any text, the name of a file.
TLS_OPTIONS = {
    "ssl_ca_certs": None,
    "ssl_certfile": None,
    "ssl_keyfile": None,
    "ssl_cert_reqs": ("required", "optional", "none"),
    "ssl_check_hostname": ("true", "false"),
}


def check_redis(url: str) -> None:
    """One server with one database: other forms mean something else to kombu than to redis-py."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if "," in host:
        raise ValueError(
            f"expected one host, got {host.count(',') + 1}; neither Sentinel nor Cluster is supported: "
            "name the server that takes writes, or a proxy before it"
        )
    if not parts.hostname:
        raise ValueError(f"expected a host, as in {REDIS}; {ESCAPE}")
    if not re.fullmatch(r"/?|/\d+", parts.path, re.ASCII) or parts.fragment:
        raise ValueError(f"expected the database's number behind the host, as in {REDIS}; {ESCAPE}")
    options = TLS_OPTIONS if parts.scheme == "rediss" else {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in options:
            known = f"one of {', '.join(options)}" if options else "none with redis://"
            raise ValueError(f"unknown option {name!a:.40}; expected {known}")
        allowed = options[name]
        if allowed and value not in allowed:
            raise ValueError(f"option {name}: expected one of {', '.join(allowed)}")


def check_mongo(url: str) -> None:
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
            raise ValueError(f"expected {MONGO}; {ESCAPE}") from None
