"""The table that ends `make chaos`: what each fault cost."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """One row: a run that ended well."""

    fault: str
    pages: int
    lost: int
    doubled: int
    extra: int
    #: From the fault's end until nothing was missing; None when the fault lasted as long as the run.
    recovery_s: float | None


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """The rows as lines, under their headings."""
    width = max(len(outcome.fault) for outcome in outcomes)
    lines = [f"{'fault':{width}}  pages   lost  doubled  extra requests  seconds to recover"]
    for outcome in outcomes:
        recovery = "-" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f}"
        lines.append(
            f"{outcome.fault:{width}}  {outcome.pages:5}  {outcome.lost:5}  {outcome.doubled:7}  "
            f"{outcome.extra:14}  {recovery:>18}"
        )
    return lines
