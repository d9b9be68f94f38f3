"""Can the words of an overview predict a movie's genres?

    reelhaul export --training-set movies-by-genre
    python examples/genres_from_overview.py movies-by-genre

TF-IDF and one logistic regression a genre, compared with a baseline that gives every movie the same, most
frequent genres. Words or parts of words, thresholds, the baseline's genres: all are chosen on the training
part, by cross-validation, and the test part is predicted once. Instead of a training set it takes a file of
JSON Lines, TMDB's list items, and splits that as Reelhaul does.

Needs: pip install 'reelhaul[examples]'
"""

import argparse
import gzip
import json
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from threadpoolctl import threadpool_limits

from reelhaul.training import write_training_set

#: Reads like a matrix: movies by genres.
Labels = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

#: A list item has ids alone; these are TMDB's names (/genre/movie/list, in English).
GENRES = {
    28: "Action", 12: "Adventure", 16: "Animation", 35: "Comedy", 80: "Crime", 99: "Documentary", 18: "Drama",
    10751: "Family", 14: "Fantasy", 36: "History", 27: "Horror", 10402: "Music", 9648: "Mystery",
    10749: "Romance", 878: "Science Fiction", 10770: "TV Movie", 53: "Thriller", 10752: "War", 37: "Western",
}  # fmt: skip
FOLDS = 3
#: A genre in fewer movies of the training part is left out: no fold could learn it.
FEWEST = 2 * FOLDS
#: How many times as often as it occurs a genre may be predicted. Without a limit, the best threshold of one
#: that is hardly learnt predicts it everywhere: micro-F1 of 0.57, not 0.60 (on halves of the training part).
MOST_OFTEN = 1.5
#: Record batches made of this many lines.
LINES = 2_000


@dataclass(frozen=True)
class Part:
    """The movies of one file of a training set."""

    overviews: list[str]
    labels: Labels


@dataclass(frozen=True)
class TrainingSet:
    """Both parts, with the genres of their labels' columns."""

    genres: list[str]
    #: Genres in too few movies of the training part: neither predicted nor counted.
    left_out: list[str]
    train: Part
    test: Part


@dataclass(frozen=True)
class Model:
    """A fitted pipeline, and the probability from which each genre is predicted."""

    name: str
    pipeline: Pipeline
    thresholds: Floats
    #: Micro-F1 of every pipeline that was tried, in cross-validation on the training part.
    tried: dict[str, float]

    def predict(self, overviews: list[str]) -> Labels:
        return np.asarray(self.pipeline.predict_proba(overviews) >= self.thresholds)


def read_training_set(folder: Path) -> TrainingSet:
    """Both parts of it; OSError when a file is missing, ValueError with too few movies."""
    train, test = (pq.read_table(folder / f"{side}.parquet") for side in ("train", "test"))
    columns = [field.name for field in train.schema if pa.types.is_boolean(field.type)]
    movies = {name: sum(train.column(name).to_pylist()) for name in columns}
    genres = [name for name in columns if movies[name] >= FEWEST]
    if len(genres) < 2 or not test.num_rows:
        raise ValueError(f"{folder}: too few movies: {train.num_rows} to train, {test.num_rows} to test")

    def part(table: pa.Table) -> Part:
        labels = [table.column(name).to_numpy() for name in genres]
        return Part(
            table.column("overview").to_pylist(), np.array(labels, dtype=bool).reshape(len(genres), -1).T
        )

    return TrainingSet(genres, [name for name in columns if name not in genres], part(train), part(test))


def record_batches(file: Path) -> Iterator[pa.RecordBatch]:
    """The movies of a JSON Lines file; ValueError names the line that is none."""
    rows: list[dict[str, Any]] = []
    with (
        gzip.open(file, "rt", encoding="utf-8")
        if file.suffix == ".gz"
        else file.open(encoding="utf-8") as lines
    ):
        for number, line in enumerate(lines, start=1):
            if line.strip():
                rows.append(_movie(line, f"{file}, line {number}"))
            if len(rows) == LINES:
                yield pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)
                rows = []
    yield pa.RecordBatch.from_pylist(rows, schema=_SCHEMA)


_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("title", pa.string()),
        ("overview", pa.string()),
        ("genre_ids", pa.list_(pa.int64())),
    ]
)


def _movie(line: str, place: str) -> dict[str, Any]:
    try:
        movie = json.loads(line)
        return {
            "id": int(movie["id"]),
            "title": str(movie.get("title") or ""),
            "overview": str(movie.get("overview") or ""),
            "genre_ids": [int(id_) for id_ in movie["genre_ids"]],
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{place}: not a movie with id, overview and genre_ids") from None


def pipelines() -> dict[str, Pipeline]:
    """What is tried, the fastest first."""

    def tfidf(**options: Any) -> TfidfVectorizer:
        return TfidfVectorizer(sublinear_tf=True, strip_accents="unicode", **options)

    def words(most: int) -> TfidfVectorizer:
        return tfidf(ngram_range=(1, most), min_df=2, stop_words="english")

    parts_of_words = tfidf(analyzer="char_wb", ngram_range=(3, 5), min_df=3)
    features = {
        "words": words(1),
        "words and pairs of words": words(2),
        "words, pairs of words and parts of words": make_union(words(2), parts_of_words),
    }
    # Balanced: rare genres count as much as drama. liblinear is the fastest for sparse rows.
    return {
        name: make_pipeline(
            vectors, OneVsRestClassifier(LogisticRegression(class_weight="balanced", solver="liblinear"))
        )
        for name, vectors in features.items()
    }


def train_model(train: Part) -> Model:
    """Choose the pipeline and its thresholds by cross-validation, then fit it to the whole training part."""
    folds = KFold(FOLDS, shuffle=True, random_state=0)
    tried: dict[str, float] = {}
    best: tuple[float, str, Pipeline, Floats] | None = None
    for name, pipeline in pipelines().items():
        # Each movie's probabilities come from a model that was fitted without it.
        held_out = cross_val_predict(
            pipeline, train.overviews, train.labels, cv=folds, method="predict_proba"
        )
        thresholds = np.array(
            [
                best_threshold(held_out[:, column], train.labels[:, column])
                for column in range(held_out.shape[1])
            ]
        )
        tried[name] = score(train.labels, held_out >= thresholds, "micro")
        if best is None or tried[name] > best[0]:
            best = tried[name], name, pipeline, thresholds
    if best is None:
        raise AssertionError("no pipeline")
    _, name, pipeline, thresholds = best
    return Model(name, pipeline.fit(train.overviews, train.labels), thresholds, tried)


def best_threshold(probabilities: Floats, labels: Labels) -> float:
    """The probability from which on predicting a genre gives it the highest F1, within MOST_OFTEN."""
    most = max(1, int(MOST_OFTEN * labels.sum()))
    order = np.argsort(-probabilities, kind="stable")[:most]
    correct = np.cumsum(labels[order])
    f1 = 2 * correct / (np.arange(1, len(order) + 1) + labels.sum())
    return float(probabilities[order][np.argmax(f1)])


def baseline(train: Labels) -> Labels:
    """One row: the most frequent genres, as many as give the highest micro-F1 on the training part."""
    frequent = np.argsort(-train.sum(axis=0), kind="stable")
    rows = [np.isin(np.arange(train.shape[1]), frequent[:count]) for count in range(1, len(frequent) + 1)]
    return max(rows, key=lambda row: score(train, np.tile(row, (len(train), 1)), "micro"))


def score(labels: Labels, predicted: Labels, average: str) -> float:
    return float(f1_score(labels, predicted, average=average, zero_division=0))


def evaluate(movies: TrainingSet) -> dict[str, Any]:
    """Every figure that is printed; of the test part unless it says otherwise."""
    started = time.monotonic()
    genres, train, test = movies.genres, movies.train, movies.test
    # liblinear's vectors are too short for BLAS' threads, which get in each other's way: 43 s, not 14.
    with threadpool_limits(1):
        model = train_model(train)
    always = baseline(train.labels)
    predicted, same = model.predict(test.overviews), np.tile(always, (len(test.overviews), 1))

    def f1(average: str) -> dict[str, float]:
        return {
            "model": score(test.labels, predicted, average),
            "baseline": score(test.labels, same, average),
        }

    by_genre = [f1_score(test.labels, answer, average=None, zero_division=0) for answer in (predicted, same)]
    return {
        "movies": {"train": len(train.overviews), "test": len(test.overviews)},
        "genres_left_out": movies.left_out,
        "features": model.name,
        "cross_validated_micro_f1": model.tried,
        "baseline_genres": [name for name, chosen in zip(genres, always, strict=True) if chosen],
        "micro_f1": f1("micro"),
        "macro_f1": f1("macro"),
        "genres": [
            {"name": name, "test_movies": int(count), "model": float(one), "baseline": float(other)}
            for name, count, one, other in zip(genres, test.labels.sum(axis=0), *by_genre, strict=True)
        ],
        "seconds": round(time.monotonic() - started, 1),
    }


def report(figures: dict[str, Any]) -> str:
    """The figures as a table."""
    lines = [f"{figures['movies']['train']:,} movies to train, {figures['movies']['test']:,} to test"]
    lines += [
        f"  {f1:.3f} micro-F1 in cross-validation: {name}"
        for name, f1 in figures["cross_validated_micro_f1"].items()
    ]
    lines += [f"left out, too rare to learn: {name}" for name in figures["genres_left_out"]]
    lines += [f"the baseline always answers: {', '.join(figures['baseline_genres'])}", ""]
    lines.append(f"{'F1 on the test part':24}{'movies':>8}{'model':>8}{'baseline':>10}")
    for name in ("micro", "macro"):
        f1 = figures[f"{name}_f1"]
        lines.append(f"{name:24}{'':8}{f1['model']:8.3f}{f1['baseline']:10.3f}")
    for genre in sorted(figures["genres"], key=lambda genre: -genre["model"]):
        lines.append(
            f"{genre['name']:24}{genre['test_movies']:8,}{genre['model']:8.3f}{genre['baseline']:10.3f}"
        )
    return "\n".join([*lines, "", f"{figures['seconds']:.1f} s"])


def draw(figures: dict[str, Any], target: Path) -> None:
    """F1 by genre as bars, PNG: the model's filled, the baseline's hatched, so that no colour is needed."""
    genres = sorted(figures["genres"], key=lambda genre: genre["model"])
    names = [f"{genre['name']} ({genre['test_movies']:,})" for genre in genres]
    names += ["all genres, macro", "all genres, micro"]
    rows = [*genres, figures["macro_f1"], figures["micro_f1"]]
    # A gap parts the means from the genres.
    places = np.arange(len(rows)) + np.repeat([0, 0.6], [len(genres), 2])
    always = f"baseline: {_always(figures['baseline_genres'])}"
    figure = Figure(figsize=(8, 1.6 + 0.36 * len(rows)), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    model = axes.barh(places + 0.2, [row["model"] for row in rows], 0.4, color="#1f4e79", label="model")
    axes.barh(
        places - 0.2, [row["baseline"] for row in rows], 0.4,
        facecolor="white", edgecolor="#777777", hatch="////", label=always,
    )  # fmt: skip
    axes.bar_label(model, fmt="%.2f", padding=3, fontsize=8)
    axes.set_yticks(places, names)
    axes.set(
        xlim=(0, 1), ylim=(-0.7, places[-1] + 0.7), xlabel="F1 on the test part; in brackets: its movies"
    )
    axes.set_title("Genres predicted from the words of overviews", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.savefig(target, format="png", bbox_inches="tight", pad_inches=0.15)


def _always(genres: list[str]) -> str:
    return f"always {', '.join(genres[:-1])} and {genres[-1]}" if len(genres) > 1 else f"always {genres[0]}"


def load(source: Path) -> TrainingSet:
    """A training set's folder, or a JSON Lines file that is made into one."""
    if source.is_dir():
        return read_training_set(source)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "training-set"
        write_training_set(record_batches(source), GENRES, folder)
        return read_training_set(folder)


def main() -> int:
    parser = argparse.ArgumentParser(description="Predict genres from overviews, and say how well.")
    parser.add_argument(
        "source", type=Path, help="folder of a training set, or FILE.jsonl[.gz] of list items"
    )
    parser.add_argument(
        "--png", type=Path, default=Path("genres_from_overview.png"), help="where to draw F1 by genre"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    try:
        figures = evaluate(load(options.source))
        print(json.dumps(figures) if options.json else report(figures))
        draw(figures, options.png)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        print(f"genres_from_overview: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
