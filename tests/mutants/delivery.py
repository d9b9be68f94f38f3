"""Promises about messages: none is lost with its worker, none is fetched twice in vain."""

from tests.mutants.mutant import Mutant

APP = "worker/app.py"
SIGNALS = "worker/signals.py"
TRANSPORT = "worker/patches/kombu_redis.py"
SCHEDULE = "producer/schedule/tasks.py"
ENTRIES = "producer/schedule/entries.py"
TESTS = "tests/integration/test_delivery.py"
SWEEP = "tests/integration/test_sweep.py"
NOT_OURS = (
    "tests/integration/test_security.py::test_messages_that_are_not_ours_are_rejected_and_logged[threads]"
)
STOPS = "tests/acceptance/test_limit_command.py::test_worker_that_waits_for_a_token_stops_at_once"

REJECTED = "pickle, yaml, unknown tasks, wrong types and huge arguments are rejected and logged; the worker continues"
TWO_MINUTES = "the visibility timeout does (100 s), within two minutes"

MUTANTS = (
    Mutant(
        "late-acknowledgement",
        TWO_MINUTES,
        APP,
        '"task_acks_late": True',
        '"task_acks_late": False',
        f"{TESTS}::test_message_is_acknowledged_when_its_page_is_stored",
        quick=True,
    ),
    Mutant(
        "visibility-timeout",
        TWO_MINUTES,
        APP,
        '"visibility_timeout": VISIBILITY_S',
        '"visibility_timeout": 10 * VISIBILITY_S',
        f"{TESTS}::test_message_of_a_killed_worker_is_delivered_again",
    ),
    Mutant(
        "acknowledgements-when-a-worker-stops",
        "a worker that stops tells Redis first",
        TRANSPORT,
        "                self._qos.flush()",
        "                pass",
        "tests/integration/test_patches.py::TestAcknowledgements::test_a_channel_that_closes_tells_the_rest",
    ),
    Mutant(
        "acknowledgements-with-the-next-message",
        "those messages are delivered again and find their pages stored, without a request",
        "worker/patches/take.lua",
        "redis.call('HDEL', unacked, ARGV[tag])",
        "",
        "tests/integration/test_patches.py::TestAcknowledgements::test_in_a_worker_redis_is_told_with_the_next_message",
    ),
    Mutant(
        "noted-when-taken",
        TWO_MINUTES,
        "worker/patches/take.lua",
        "  pcall(note, message)\n",
        "",
        "tests/integration/test_patches.py::TestTaking::test_several_at_once_when_several_are_free",
    ),
    Mutant(
        "worker-lost",
        "another pool process takes its place",
        APP,
        '"task_reject_on_worker_lost": True',
        '"task_reject_on_worker_lost": False',
        f"{TESTS}::test_message_of_a_killed_pool_process_is_delivered_again",
    ),
    Mutant(
        "stopping-wakes-who-waits",
        "messages are requeued at once, nothing is fetched twice, workers end within 10 s, also while the limiter is closed",
        SIGNALS,
        "@signals.worker_shutting_down.connect\ndef",
        "def",
        f"{STOPS}[threads]",
    ),
    Mutant(
        "stopping-wakes-pool-processes",
        "messages are requeued at once, nothing is fetched twice, workers end within 10 s, also while the limiter is closed",
        SIGNALS,
        "clients.limiter().interrupt_children()",
        "pass",
        f"{STOPS}[prefork]",
    ),
    Mutant(
        "requeue",
        "messages are requeued at once, nothing is fetched twice, workers end within 10 s, also while the limiter is closed",
        "worker/retry.py",
        "raise Reject(str(error), requeue=True) from None",
        "raise Reject(str(error), requeue=False) from None",
        f"{STOPS}[threads]",
    ),
    Mutant(
        "partly-busy-worker-survives",
        "workers of every pool consume again; the sweep brings back what was lost",
        TRANSPORT,
        "with suppress(Empty, *self.connection_errors):",
        "with suppress(Empty):",
        "tests/integration/test_patches.py::TestKombuChannelClose::test_worker_survives_and_consumes_again",
    ),
    Mutant(
        "redis-is-waited-for",
        "The fleet recovers by itself: no command, no restart by hand",
        APP,
        '"broker_connection_max_retries": None',
        '"broker_connection_max_retries": 2',
        "tests/chaos/test_redis.py::test_redis_is_unavailable",
    ),
    Mutant(
        "out-of-memory",
        "workers reconnect until it has memory again",
        APP,
        '"broker_channel_error_retry": True',
        '"broker_channel_error_retry": False',
        "tests/chaos/test_redis.py::test_redis_is_out_of_memory",
    ),
    Mutant(
        "sweep",
        "the next workers continue; the sweep enqueues what the killed ones held",
        ENTRIES,
        "sent += enqueue_some(_of_kinds(missing, movies=send_movies, pages=send_pages))",
        "sent += len(list(missing)) * 0",
        f"{SWEEP}::test_pages_in_a_lost_queue_are_enqueued_again",
    ),
    Mutant(
        "sweep-doubles-nothing",
        "enqueues the pages that unfinished requests lack, unless more than 100 messages of pages wait",
        ENTRIES,
        "send_pages = sum(waiting.values()) <= SHORT_QUEUE",
        "send_pages = True",
        f"{SWEEP}::test_nothing_is_enqueued_while_more_than_a_hundred_messages_wait",
    ),
    Mutant(
        "wanted-movies",
        "the sweep enqueues what is missing",
        ENTRIES,
        "movies if isinstance(fetch.key, MovieKey) else pages",
        "False if isinstance(fetch.key, MovieKey) else pages",
        f"{SWEEP}::test_movies_whose_details_were_asked_for_are_enqueued_again",
    ),
    Mutant(
        "beats-messages-live",
        "workers an hour ahead still accept beat's messages",
        SCHEDULE,
        "EXPIRES_S = 7_200",
        "EXPIRES_S = 60",
        "tests/chaos/test_clocks.py::test_all_workers_an_hour_ahead_of_beat",
    ),
    Mutant(
        "one-clock-for-tokens",
        "every stored time is Redis'",
        "worker/limiter/client.py",
        "return datetime.fromtimestamp(self.at_us // 1000 / 1000, UTC)",
        "return datetime.now(UTC)",
        "tests/integration/test_fleet_clock.py::test_a_token_bears_the_time_of_redis",
    ),
    Mutant(
        "one-clock-for-all-else",
        "every stored time is Redis'",
        "worker/clients.py",
        "return datetime.fromtimestamp(limiter().now_us() // 1000 / 1000, UTC)",
        "return datetime.now(UTC)",
        "tests/integration/test_fleet_clock.py::test_fleet_now_is_the_time_of_redis",
    ),
    Mutant(
        "order-of-queues",
        "Workers drain the queues in this order: `refresh`",
        "worker/queues.py",
        "queues = self._queues[:number]",
        "queues = sorted(self._queues[:number])",
        "tests/integration/test_queues.py::test_open_cells_are_finished_before_others_are_opened",
    ),
    Mutant(
        "all-of-a-refresh-in-one-queue",
        "Its first pages wait in `refresh_cells`, behind the pages of open cells",
        "worker/tasks.py",
        "return REFRESH_CELLS if opens_cell else REFRESH",
        "return REFRESH",
        "tests/integration/test_queues.py::test_a_refresh_finishes_a_cell_before_it_opens_the_next",
    ),
    Mutant(
        "connections-of-a-host",
        "Connections to TMDB from one host, shared by all its workers",
        "worker/tmdb/connections.py",
        "share, rest = divmod(self._limit, len(members))",
        "share, rest = divmod(self._limit, 1)",
        "tests/integration/test_connections.py::test_shares_are_even_and_add_up[3]",
    ),
    Mutant(
        "pickle",
        REJECTED,
        APP,
        '"accept_content": ["json"]',
        # As root, Celery starts no worker that accepts pickle, unless this variable is set.
        '"accept_content": [__import__("os").environ.setdefault("C_FORCE_ROOT", "1") and "json", "pickle"]',
        NOT_OURS,
    ),
    Mutant(
        "no-call",
        REJECTED,
        "worker/patches/celery_strategy.py",
        "if not _is_call(message.payload):",
        "if False:",
        NOT_OURS,
    ),
    Mutant(
        "no-message",
        REJECTED,
        TRANSPORT,
        "if _is_message(message):",
        "if True:",
        NOT_OURS,
    ),
    Mutant(
        "no-text",
        REJECTED,
        TRANSPORT,
        "except (JSONDecodeError, UnicodeDecodeError) as error:",
        "except ZeroDivisionError as error:",
        NOT_OURS,
    ),
    Mutant(
        "no-page",
        REJECTED,
        "worker/tasks.py",
        "if parse_key(key.id) == key and kind_of(key).accepts(options):",
        "if True:",
        "tests/integration/test_tasks.py::test_malformed_messages_are_rejected",
    ),
)
