"""`python -m benchmarks [NAME] [--quick] [--json]`: run one benchmark, or all of them."""

import importlib
import sys

#: Modules with a `main(arguments)` that returns an exit code.
NAMES = ("limit", "status", "ids", "export", "read_index", "cpu", "growth")


def main(arguments: list[str]) -> int:
    names: tuple[str, ...] = NAMES
    if arguments and not arguments[0].startswith("-"):
        names, arguments = (arguments[0],), arguments[1:]
        if names[0] not in NAMES:
            print(f"benchmark {names[0]!r}: expected one of {', '.join(NAMES)}", file=sys.stderr)
            return 2
    codes: list[int] = [importlib.import_module(f"benchmarks.{name}").main(arguments) for name in names]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
