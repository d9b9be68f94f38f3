"""Promises about secrets and about access."""

from tests.mutants.mutant import Mutant

NOWHERE = "the key and passwords are in no message, document, log, Flower page or reply to `inspect`"
FLOWER = "tests/acceptance/test_flower.py"
TRACING = "tests/acceptance/test_tracing.py"
SECURITY = "tests/integration/test_security.py"
LOOPBACK = "Flower, the emulator and the servers of demo and tests listen on loopback only"

MUTANTS = (
    Mutant(
        "key-in-the-address",
        "no span of OpenTelemetry's instrumentation holds the key",
        "worker/tmdb/session.py",
        "class _Adapter(HTTPAdapter):",
        """class _Adapter(HTTPAdapter):
    def send(self, request, **options):
        request.url = self._pools["http"].ConnectionCls.credentials.address(request.url)
        return super().send(request, **options)
""",
        f"{TRACING}::test_a_page_is_one_trace_and_no_span_holds_the_key",
    ),
    Mutant(
        "invalid-setting-shows-its-value",
        NOWHERE,
        "worker/settings.py",
        'given = "" if _is_secret(name) else',
        'given = "" if False else',
        "tests/unit/test_settings.py::test_no_error_shows_a_secret",
    ),
    Mutant(
        "cookies-are-not-kept",
        NOWHERE,
        "worker/storage/failures.py",
        "if name.lower() not in _DROPPED_HEADERS",
        "if name",
        "tests/integration/test_storage_failures.py::test_drops_headers_that_may_hold_secrets",
    ),
    Mutant(
        "uncertified",
        "a certificate of an unknown authority is not accepted",
        "worker/settings.py",
        "_check_redis_url(value.get_secret_value())\n        return value",
        "text = value.get_secret_value()\n"
        "        trusting = text.startswith('rediss') and '?' not in text\n"
        "        return SecretStr(text + '?ssl_cert_reqs=none') if trusting else value",
        f"{SECURITY}::test_tls_to_redis_and_mongodb",
    ),
    Mutant(
        "loopback-redis",
        LOOPBACK,
        "sandbox/servers.py",
        '"bind": HOST,',
        '"bind": "0.0.0.0",',
        f"{SECURITY}::test_everything_listens_on_loopback_only",
    ),
    Mutant(
        "loopback-mongodb",
        LOOPBACK,
        "sandbox/servers.py",
        '*("--host", HOST, "--port", str(port), "--storage-path"',
        '*("--host", "0.0.0.0", "--port", str(port), "--storage-path"',
        f"{SECURITY}::test_everything_listens_on_loopback_only",
    ),
    Mutant(
        "loopback-flower",
        LOOPBACK,
        "worker/flowerconfig.py",
        'given.address = given.address or "127.0.0.1"\n    _check_access(given.address, ',
        '_check_access("127.0.0.1", ',
        f"{SECURITY}::test_flower_listens_on_loopback_by_default",
    ),
    Mutant(
        "flower-beyond-loopback",
        "Beyond loopback it starts only with `FLOWER_BASIC_AUTH=user:password`",
        "worker/flowerconfig.py",
        "if not (is_loopback(host) or credentials or given.auth):",
        "if False:",
        f"{FLOWER}::test_flower_open_to_everybody_does_not_start",
    ),
    Mutant(
        "flower-metrics",
        "its pages, API and metrics then ask for that",
        "worker/flowerconfig.py",
        "flower.require_login_for_metrics()",
        "",
        f"{FLOWER}::test_password_is_required_and_control_is_off",
    ),
    Mutant(
        "flower-read-only",
        "is read-only (`--read-only=false` to steer)",
        "worker/flowerconfig.py",
        "read_only = True",
        "read_only = False",
        f"{FLOWER}::test_password_is_required_and_control_is_off",
    ),
)
