"""Data out, lanes, addresses, containers: the rest of docs/guarantees.md."""

from tests.mutants.mutant import Mutant

TRANSPORT = "worker/transport.py"
SCHEDULE = "producer/schedule.py"
COMPOSE = "docker-compose.yml"
LANES = "tests/integration/test_lanes.py"
LAYOUT = "tests/unit/test_layout.py"
CONTAINERS = "tests/acceptance/test_compose.py"
SETTINGS = "tests/unit/test_settings.py"

MUTANTS = (
    Mutant(
        "infinity-is-a-number",
        "A number beyond a double (`1e999`) is no answer",
        "worker/answers.py",
        "if isinf(number):",
        "if False:",
        "tests/unit/test_tmdb_answers.py::TestPage::test_what_does_not_parse_is_to_be_fetched_again",
    ),
    Mutant(
        "infinity-is-exported",
        "`export` writes JSON that a strict parser reads",
        "producer/export.py",
        "return _encode(_without_infinities(movie))",
        "return json.dumps(movie)",
        "tests/integration/test_export.py::test_every_line_is_json_though_a_number_is_none_that_json_has",
    ),
    Mutant(
        "movies-before-pages",
        "each fourth message is a movie while pages wait",
        TRANSPORT,
        "lanes = self._lanes[:number]",
        "lanes = sorted(self._lanes[:number], key=lambda lane: lane != MOVIES)",
        f"{LANES}::test_a_backfill_ends_long_before_the_movies_that_waited_when_it_began",
    ),
    Mutant(
        "movies-starve",
        "movies have their share",
        TRANSPORT,
        "if self._since_movie >= SHARE - 1 and MOVIES in lanes:",
        "if False:",
        f"{LANES}::test_movies_have_their_share_of_a_backfill_that_does_not_end",
    ),
    Mutant(
        "sweep-waits-for-movies",
        "the sweep brings them back, however many movies wait",
        SCHEDULE,
        "sum(number for lane, number in waiting.items() if lane != MOVIES)",
        "sum(waiting.values())",
        f"{LANES}::test_pages_that_redis_lost_come_back_however_many_movies_wait",
    ),
    Mutant(
        "movie-before-a-refresh",
        "movies waiting when a refresh begins | the refresh goes first",
        TRANSPORT,
        "key=lambda lane: (lane != REFRESH, lane != MOVIES)",
        "key=lambda lane: lane != MOVIES",
        f"{LANES}::test_a_refresh_overtakes_movies_whose_turn_it_is",
    ),
    Mutant(
        "refresh-never-ends",
        "a refresh by the schedule that lacks nothing has ended, and the next one runs",
        SCHEDULE,
        'lacking(store(), note.get("backfills", ()))',
        'set(note.get("backfills", ()))',
        "tests/acceptance/test_refresh.py::test_refresh_runs_again_however_much_waits",
    ),
    Mutant(
        "any-redis-address",
        "an address that cannot be used is refused at the start",
        "worker/settings.py",
        "        check_redis(value.get_secret_value())\n",
        "",
        f"{SETTINGS}::test_an_address_that_no_client_can_use_is_refused_at_the_start",
    ),
    Mutant(
        "any-mongo-address",
        "an address that cannot be used is refused at the start",
        "worker/settings.py",
        "        check_mongo(value.get_secret_value())\n",
        "",
        f"{SETTINGS}::test_an_address_that_no_client_can_use_is_refused_at_the_start",
    ),
    Mutant(
        "command-line-in-the-workers-folder",
        "workers, beat and the command line work as the file has them",
        COMPOSE,
        "REELHAUL_RUN_FOLDER: /tmp/reelhaul",
        "REELHAUL_RUN_FOLDER: /run/reelhaul",
        f"{CONTAINERS}::test_the_fleet_works_and_the_command_line_beside_it",
    ),
    Mutant(
        "beat-without-its-tick",
        "`REELHAUL_SCHEDULE` and `REELHAUL_TICK_S` of `.env` reach beat",
        COMPOSE,
        "      REELHAUL_TICK_S: ${REELHAUL_TICK_S:-}\n",
        "",
        f"{CONTAINERS}::test_the_fleet_works_and_the_command_line_beside_it",
    ),
    Mutant(
        "flower-without-a-memory",
        "Flower keeps its memory on a root that cannot be written to",
        COMPOSE,
        "--db=/var/lib/flower/flower.db",
        "--db=/opt/flower.db",
        f"{CONTAINERS}::test_flower_keeps_its_memory_and_learns_nothing",
    ),
    Mutant(
        "one-metrics-folder-for-all-hosts",
        "prefork workers that share the run folder count apart",
        "worker/signs.py",
        'f"metrics-{socket.gethostname()}-{os.getpid()}"',
        'f"metrics-{os.getpid()}"',
        "tests/unit/test_metrics.py::test_containers_that_share_the_run_folder_count_apart",
    ),
    Mutant(
        "rights-of-root",
        "no container has any of root's rights",
        COMPOSE,
        '  cap_drop: [ALL]\n  security_opt: ["no-new-privileges:true"]\n  networks',
        "  networks",
        f"{LAYOUT}::test_no_service_of_compose_has_any_right_of_roots",
    ),
    Mutant(
        "run-folder-for-all",
        "the run folder is its user's alone",
        "Dockerfile",
        "--mode 0700 /run/reelhaul",
        "--mode 0777 /run/reelhaul",
        f"{LAYOUT}::test_the_run_folder_is_its_users_alone",
    ),
    Mutant(
        "key-for-beat",
        "beat gets no key",
        COMPOSE,
        "    # Of .env only what it needs",
        "    env_file: .env\n    # Of .env only what it needs",
        f"{LAYOUT}::test_beat_learns_what_it_needs_and_no_key",
    ),
)
