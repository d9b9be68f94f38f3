"""Plots for benchmarks.limit and benchmarks.growth."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import matplotlib as mpl

from benchmarks.runs import Adaptive, Haul, Resume, Steady

mpl.use("Agg")  # needs no screen
import matplotlib.pyplot as plt

BLUE, RED, GREY = "#1f6fb4", "#c8372d", "#666666"
SHADES = ("#9ecae1", "#4292c6", "#08519c")


def steady(runs: Sequence[Steady], path: Path) -> None:
    """Utilisation and worst excess of each run, side by side."""
    rates = sorted({run.rate for run in runs})
    counts = sorted({run.processes for run in runs})
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    width = 0.8 / len(rates)
    lowest = min(98.0, 100 * min(run.utilisation for run in runs) - 1)
    for index, rate in enumerate(rates):
        mine = [run for run in runs if run.rate == rate]
        places = [counts.index(run.processes) + (index - (len(rates) - 1) / 2) * width for run in mine]
        shade, label = SHADES[index % len(SHADES)], f"{rate:g}/s"
        left.bar(places, [100 * run.utilisation for run in mine], width, color=shade, label=label)
        right.bar(places, [run.worst_excess_ms for run in mine], width, color=shade, label=label)
    left.axhline(99, color=RED, linewidth=1, linestyle="--", label="promise")
    left.set(ylim=(lowest, 100.5), ylabel="utilisation of the limit, %")
    right.axhline(100, color=RED, linewidth=1, linestyle="--", label="promise")
    right.axhline(0, color=GREY, linewidth=0.8)
    right.set(ylabel="worst window above capacity + rate x T,\nms of the rate")
    for axes in (left, right):
        axes.set(xlabel="processes", xticks=range(len(counts)), xticklabels=[str(count) for count in counts])
        axes.spines[["top", "right"]].set_visible(False)
    refused = sum(run.refused for run in runs)
    figure.suptitle(
        f"One limiter for the fleet: {sum(run.requests for run in runs)} requests, {refused} refused"
    )
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def adaptive(runs: Sequence[Adaptive], path: Path) -> None:
    """Requests per second over time, one row per scenario."""
    figure, rows = plt.subplots(
        len(runs), 1, figsize=(10, 2.9 * len(runs)), layout="constrained", squeeze=False
    )
    for axes, run in zip(chain(*rows), runs, strict=True):
        seconds = range(len(run.accepted))
        steps = [*run.limits, (run.seconds, run.limits[-1][1])]
        axes.step(
            [at for at, _ in steps],
            [rate for _, rate in steps],
            where="post",
            color=GREY,
            label="the API's limit",
        )
        axes.plot(seconds, run.accepted, color=BLUE, linewidth=1.2, label="accepted")
        axes.bar(seconds, run.refused, color=RED, width=1.0, label="refused")
        axes.set(xlim=(0, run.seconds), ylim=(0, 1.15 * run.configured), ylabel="requests per second")
        axes.set_title(
            f"{run.name}: in the steady state {100 * run.utilisation:.1f} % used, "
            f"{100 * run.refused_share:.2f} % refused",
            fontsize=10,
            loc="left",
        )
        axes.spines[["top", "right"]].set_visible(False)
    rows[-1][0].set_xlabel("seconds")
    rows[0][0].legend(frameon=False, ncols=3, loc="upper right", fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def growth(hauls: Sequence[Haul], resumes: Sequence[Resume], path: Path) -> None:
    """Pages per second by workers, the broker's memory by pages, seconds of commands by stored pages."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    for shade, stored in zip(SHADES, sorted({run.movies_before for run in hauls}), strict=False):
        mine = [run for run in hauls if run.movies_before == stored and run.pages_asked < 2_000]
        places = [run.workers for run in mine]
        left.plot(places, [run.pages_per_s for run in mine], "o-", color=shade, label=f"{stored:,} stored")
    left.set(xlabel="workers (2 cores)", ylabel="pages/s", ylim=(0, None), xticks=(1, 2, 4))
    middle.semilogx([run.pages_asked for run in hauls], [run.broker_mb for run in hauls], "o", color=BLUE)
    middle.axhline(32, color=RED, linewidth=1, linestyle="--", label="bound")
    middle.set(xlabel="pages of the backfill", ylabel="peak of the broker's memory, MB", ylim=(0, None))
    stored_pages = [run.pages_stored for run in resumes]
    right.plot(stored_pages, [run.resume_s for run in resumes], "o-", color=BLUE, label="backfill again")
    right.plot(stored_pages, [run.status_s for run in resumes], "s-", color=GREY, label="status")
    right.axhline(3, color=RED, linewidth=1, linestyle="--", label="bound")
    right.set(xlabel="pages stored", ylabel="seconds of the whole command", ylim=(0, None))
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)
    plt.close(figure)
