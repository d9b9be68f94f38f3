"""Synthetic movies: list items from a seed, with the oddities of real ones.

Shares and ranges are those of recorded TMDB bodies: 2.4 genres per movie, about 4 % without a genre, 1 %
without a date, more movies in every later year, many on 1 January, a new `softcore` field, future dates.
"""

from bisect import bisect
from collections.abc import Iterator, Sequence
from itertools import accumulate
from random import Random
from typing import TypeVar

from sandbox.emulator.catalog import GENRES, Movie
from sandbox.emulator.items import unnamed_revenue

Choice = TypeVar("Choice")

#: Relative frequencies of GENRES.
_GENRE_SHARES = (9, 6, 6, 15, 6, 14, 24, 5, 4, 3, 7, 6, 4, 8, 4, 5, 9, 2, 2)

#: Words for a genre's overviews, so that a model can learn the genres from them.
_GENRE_WORDS: dict[int, str] = {
    28: "agent mercenary explosion chase heist commando bounty assassin rescue showdown",
    12: "expedition treasure jungle island voyage map explorer summit caravan ruins",
    16: "talking animals magical toy robot dragon colourful village puppet fox",
    35: "awkward wedding roommates prank neighbour misunderstanding hilarious boss vacation party",
    80: "detective gangster robbery police cartel informant murder prison syndicate verdict",
    99: "archive footage interviews filmmaker investigates portrait activists climate testimony footage",
    18: "grief family secret marriage illness forgiveness struggle father widow memory",
    10751: "children dog holiday school grandmother friendship puppy adventure camp snowman",
    14: "wizard kingdom prophecy sword spell curse elf throne enchanted realm",
    36: "emperor revolution century dynasty treaty king rebellion throne colony chronicle",
    27: "haunted demon scream possessed cabin ghost blood ritual nightmare cemetery",
    10402: "band concert singer tour album stage guitar rehearsal orchestra backstage",
    9648: "disappearance clue puzzle stranger vanished riddle mansion witness cipher fog",
    10749: "love kiss Paris letter heartbreak summer affair proposal soulmate dance",
    878: "spaceship alien android galaxy experiment clone colony future wormhole planet",
    10770: "small-town pageant bakery reunion Christmas mayor inn reporter wedding charity",
    53: "hostage conspiracy stalker deadline paranoia blackmail fugitive witness bomb surveillance",
    10752: "battalion trenches soldier front bombing resistance general occupied prisoner tank",
    37: "sheriff outlaw ranch saloon gunslinger frontier railroad cattle marshal duel",
}

_COMMON_WORDS = (
    "a young the last one night must find in city old life of and before their world story truth home"
)
_TITLE_WORDS = (
    "Night River Last House Summer Silent Broken Golden Road Winter Shadow Blue City Letter Garden Return "
    "Paper Moon Stone Mirror Hidden Long First Red Little Empty Lost Bridge Fire Glass"
)
_FOREIGN_TITLES: dict[str, str] = {
    "fr": "L'Été Nuit Château Cœur Forêt Où Déjà",
    "de": "Mädchen Straße Über Tür Größe Nächte",
    "es": "Corazón Niño Año Sueño Canción Último",
    "ja": "夜の 東京 物語 夏 星 ゼロ",
    "ru": "Ночь Дорога Зима Город Письмо Тень",
    "ko": "바람 서울 여름 이야기 그림자 밤",
    "ar": "ليل بيت طريق قمر نهر",
}

_FIRST_YEAR, _LAST_YEAR = 1900, 2026
#: Each year has 3.5 % more movies than the one before: half of all are of 2006 or later.
_YEAR_GROWTH = 1.035
_FUTURE_YEARS = 5
#: The largest id in recorded bodies.
_LARGEST_ID = 1_730_000
#: Cumulative shares of movies with one to five genres; with the 4.5 % that have none, 2.4 on average.
_GENRE_COUNTS = (0.18, 0.51, 0.81, 0.95, 1.0)
#: Phrases for each genre's overviews.
_PHRASES = 64
#: Different sets of genres.
_GENRE_SETS = 4096


def synthetic_movies(count: int, seed: int) -> Iterator[Movie]:
    """`count` movies; the same count and seed give the same bytes on every machine."""
    writer = _Writer(Random(seed))  # noqa: S311 -- reproducible movies, not secrets
    largest_step = max(2, 2 * _LARGEST_ID // max(count, 1))
    movie_id = 0
    for _ in range(count):
        movie_id += 1 + writer.below(largest_step - 1)
        yield writer.movie(movie_id)


class _Writer:
    """Writes movies from random numbers; of Random only random() is used, the same in every Python.

    The parts of movies are drawn once, into tables, so that 200,000 movies take seconds.
    """

    def __init__(self, rng: Random) -> None:
        self._random = rng.random
        growth = accumulate(_YEAR_GROWTH**year for year in range(_LAST_YEAR - _FIRST_YEAR + 1))
        self._years = [_FIRST_YEAR + index for index in _draws(list(growth))]
        self._genres = [list(GENRES)[index] for index in _draws(list(accumulate(_GENRE_SHARES)))]
        self._genre_sets = [self._some_genres() for _ in range(_GENRE_SETS)]
        self._titles = _pairs(_TITLE_WORDS)
        self._foreign = [(code, _pairs(words)) for code, words in _FOREIGN_TITLES.items()]
        common = _COMMON_WORDS.split()
        self._common_phrases = [self._phrase(common, common) for _ in range(_PHRASES)]
        self._phrases = {
            genre_id: [self._phrase(words.split(), common) for _ in range(_PHRASES)]
            for genre_id, words in _GENRE_WORDS.items()
        }

    def below(self, limit: int) -> int:
        return int(self._random() * limit)

    def movie(self, movie_id: int) -> Movie:
        """One movie, its item's keys in TMDB's order."""
        language, title, original_title = self._naming()
        genre_ids = self._pick(self._genre_sets)
        overview = self._overview(genre_ids)
        popularity = round(0.0071 + self._random() ** 9 * 400, 4)
        release_date = self._release_date()
        vote_count = int(self._random() ** 6 * 30_000)
        vote_average = self._vote_average(vote_count)
        # No word in the tables holds a quote or a backslash, so nothing needs escaping.
        raw = (
            f'{{"adult":false,"backdrop_path":{self._image(0.65)},'
            f'"genre_ids":[{",".join(map(str, genre_ids))}],'
            f'"id":{movie_id},"title":"{title}","original_language":"{language}",'
            f'"original_title":"{original_title}","overview":"{overview}","popularity":{popularity},'
            f'"poster_path":{self._image(0.85)},"release_date":"{release_date}","softcore":false,'
            f'"video":{"true" if self._random() < 0.01 else "false"},"vote_average":{vote_average},'
            f'"vote_count":{vote_count}{self._unknown_field()}}}'
        )
        sorted_by = (popularity, vote_average, vote_count, unnamed_revenue(movie_id))
        return Movie(
            movie_id, raw.encode(), genre_ids, release_date, title, original_title, *sorted_by, adult=False,
            original_language=language,
        )  # fmt: skip

    def _pick(self, choices: Sequence[Choice]) -> Choice:
        return choices[int(self._random() * len(choices))]

    def _phrase(self, words: Sequence[str], common: Sequence[str]) -> str:
        return " ".join(self._pick(words if self._random() < 0.5 else common) for _ in range(8))

    def _some_genres(self) -> tuple[int, ...]:
        if self._random() < 0.045:
            return ()
        draw = self._random()
        wanted = next(number for number, share in enumerate(_GENRE_COUNTS, start=1) if draw < share)
        chosen: dict[int, None] = {}
        while len(chosen) < wanted:
            chosen[self._pick(self._genres)] = None
        return tuple(chosen)

    def _naming(self) -> tuple[str, str, str]:
        """Language, title and original title; one in seven is foreign, 40 % of those not translated."""
        title = self._pick(self._titles)
        if self._random() < 0.86:
            return "en", title, title
        language, titles = self._pick(self._foreign)
        original = self._pick(titles)
        return language, original if self._random() < 0.4 else title, original

    def _overview(self, genre_ids: tuple[int, ...]) -> str:
        if self._random() < 0.08:
            return ""
        phrases = [self._pick(self._phrases[genre_id]) for genre_id in genre_ids]
        phrases.append(self._pick(self._common_phrases))
        return ". ".join(phrases) + "."

    def _release_date(self) -> str:
        draw = self._random()
        if draw < 0.01:
            return ""
        year = _LAST_YEAR + 1 + self.below(_FUTURE_YEARS) if draw < 0.02 else self._pick(self._years)
        if draw > 0.94:
            return f"{year}-01-01"
        return f"{year}-{1 + self.below(12):02d}-{1 + self.below(28):02d}"

    def _vote_average(self, vote_count: int) -> float:
        """Round averages are integers, 0 too, as in some recorded bodies."""
        if vote_count == 0:
            return 0
        average = round(3 + self._random() * 6, 3 if self._random() < 0.6 else 1)
        return int(average) if average == int(average) else average

    def _image(self, share: float) -> str:
        """An image's path as JSON, or null."""
        draw = self._random()
        return f'"/{int(draw * 1e15):x}.jpg"' if draw < share else "null"

    def _unknown_field(self) -> str:
        """For one movie in a hundred, an undocumented nested field."""
        if self._random() >= 0.01:
            return ""
        year = self._pick(self._years)
        return f',"availability":{{"regions":["US","DE"],"since":{{"year":{year},"day":null}}}}'


def _draws(cumulative: Sequence[float]) -> list[int]:
    """1,024 indexes that occur in their shares, to pick one from."""
    width = cumulative[-1] / 1024
    return [bisect(cumulative, (number + 0.5) * width) for number in range(1024)]


def _pairs(words: str) -> list[str]:
    return [f"{first} {second}" for first in words.split() for second in words.split()]
