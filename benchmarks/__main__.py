"""`python -m benchmarks [NAME] [--quick] [--json]`: run one benchmark, or all of them."""

import importlib
import sys

#: Modules with a `main(arguments)` that returns an exit code.
NAMES = ("limit", "status", "ids", "export", "read_index", "cpu", "growth")
#: Those that are run by name only.
BY_NAME = {"compare": "benchmarks.compare.main"}


def main(arguments: list[str]) -> int:
    names: tuple[str, ...] = NAMES
    if arguments and not arguments[0].startswith("-"):
        names, arguments = (arguments[0],), arguments[1:]
        if names[0] not in (*NAMES, *BY_NAME):
            print(f"benchmark {names[0]!r}: expected one of {', '.join((*NAMES, *BY_NAME))}", file=sys.stderr)
            return 2
    modules = [BY_NAME.get(name, f"benchmarks.{name}") for name in names]
    codes: list[int] = [importlib.import_module(module).main(arguments) for module in modules]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
