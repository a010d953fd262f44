"""Relevance against a flat cosine threshold, on captioned or labelled photographs, through a real server.

    python tests/bench/bench_relevance.py --data flickr8k-val.parquet [--bundle nearlight-tiny]
    python tests/bench/bench_relevance.py --data tiny_imagenet-A100-val.parquet

The images become a collection, calibrated without looking at a caption or label. Then 10 hits each are asked
for. With column captions:

- words: "a photo of a WORD", for words that at least 15 and at most a third of the images have in a caption,
  and for things that no caption names. An image is relevant where one of its captions has the word.
- captions: of the images in the collection (every second one is), and of those left out. An image is relevant
  where the caption is its own.

With column label_name: "a photo of a CLASS", for the classes in the collection (every second one) and those
left out. An image is relevant where it is of the class.

For each least relevance: how many hits were kept, which share of them is relevant, and which share of the
queries that have no relevant image kept any; and the same for the flat cosine threshold that keeps as many.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from nearlight.client import Client, Point
from nearlight.server.config_layers import load_config
from nearlight.server.local import LocalServer

LIMIT = 10
LEVELS = (0.3, 0.5, 0.7, 0.9)
N_WORDS = 100
# Said of people in nearly every caption, or of no thing that could be seen.
DULL = """
the and with are his her their its from for while that into down out over near through one two three four five
man woman men women people boy girl boys girls person child children some other another
"""
ABSENT = """
airplane; giraffe; elephant; piano; microscope; computer; laptop; telephone; pizza; sushi; violin; spider
butterfly; snake; lion; tiger; zebra; penguin; shark; whale; submarine; rocket; satellite; tank; skeleton
castle; lighthouse; volcano; banana; broccoli; toothbrush; keyboard; printer; washing machine; oven
refrigerator; bathtub; toilet; tractor; helicopter; scissors; stapler; diagram; spreadsheet; passport; coin
jewelry; crown; dinosaur; robot; spaceship; mushroom; pineapple; cactus; owl; turtle; octopus; jellyfish
"""


@dataclass(frozen=True, slots=True)
class Question:
    """A text, and the ids of the images that are relevant."""

    text: str
    relevant: frozenset[int]


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Hits of all questions: score (or nothing), whether relevant, and of which question."""

    scores: npt.NDArray[np.float64]
    relevant: npt.NDArray[np.bool_]
    question: npt.NDArray[np.int64]

    def at_most(self, n: int) -> Kept:
        """The n of the highest score."""
        best = np.argsort(-self.scores, kind="stable")[:n]
        return Kept(self.scores[best], self.relevant[best], self.question[best])

    def line(self, questions: Sequence[Question]) -> str:
        """Precision, and the share of questions without a relevant image that kept a hit."""
        vain = [i for i, question in enumerate(questions) if not question.relevant]
        false = len(set(self.question.tolist()) & set(vain)) / len(vain)
        precision = self.relevant.mean() if len(self.relevant) else float("nan")
        return f"{precision:9.3f} {false:8.3f}"


def words_of(captions: Sequence[str]) -> set[str]:
    """The words of an image's captions."""
    return set(re.findall("[a-z]+", " ".join(captions).lower()))


def word_questions(captions: Sequence[Sequence[str]]) -> list[Question]:
    """Words that some images have, and things that none has."""
    words, dull = [words_of(one) for one in captions], set(DULL.split())
    counts = Counter(word for one in words for word in one)
    usable = [
        word
        for word, count in counts.most_common()
        if 15 <= count < len(captions) / 3 and len(word) > 2 and word not in dull and not word.endswith("ing")
    ]
    things = [thing.strip() for thing in ABSENT.replace("\n", ";").split(";") if thing.strip()]
    absent = [thing for thing in things if not any(counts[word] for word in thing.split())]
    return [
        Question(f"a photo of a {word}", frozenset(i for i, one in enumerate(words) if word in one))
        for word in (*usable[:N_WORDS], *absent)
    ]


def caption_questions(captions: Sequence[Sequence[str]], indexed: set[int]) -> list[Question]:
    """The first caption of every image."""
    return [
        Question(caption, frozenset({i} & indexed)) for i, one in enumerate(captions) for caption in one[:1]
    ]


def ask(client: Client, collection: str, questions: Sequence[Question], min_relevance: float | None) -> Kept:
    """The hits of all questions."""
    scores, relevant, numbers = [], [], []
    options = {} if min_relevance is None else {"min_relevance": min_relevance}
    for number, question in enumerate(questions):
        for hit in client.query(collection, text=question.text, limit=LIMIT, **options):  # type: ignore[arg-type]
            scores.append(hit.score)
            relevant.append(hit.id in question.relevant)
            numbers.append(number)
    return Kept(np.array(scores, float), np.array(relevant, bool), np.array(numbers, np.int64))


def compare(client: Client, collection: str, questions: Sequence[Question]) -> None:
    """Print the table of one collection and its questions."""
    n_vain = sum(not question.relevant for question in questions)
    print(f"\n{collection}: {len(questions) - n_vain} queries with relevant images, {n_vain} without")
    print("relevance >=   hits   precision in vain | flat cosine: precision in vain")
    flat = ask(client, collection, questions, None)
    print(f"{'all':>12} {len(flat.scores):6d}   {flat.line(questions)}")
    for level in LEVELS:
        kept = ask(client, collection, questions, level)
        same = flat.at_most(len(kept.scores))
        print(
            f"{level:12} {len(kept.scores):6d}   {kept.line(questions)} |              {same.line(questions)}"
        )


def collections_of(table: Any) -> list[tuple[str, list[int], list[Question]]]:
    """Name, images and questions of each collection to make of a table."""
    if "captions" in table.column_names:
        captions = table["captions"].to_pylist()
        every, half = list(range(len(captions))), list(range(0, len(captions), 2))
        return [
            ("words", every, word_questions(captions)),
            ("captions", half, caption_questions(captions, set(half))),
        ]
    labels = table["label_name"].to_pylist()
    names = sorted(set(labels))
    present = set(names[::2])
    indexed = [i for i, label in enumerate(labels) if label in present][::2]
    questions = [
        Question(f"a photo of a {name}", frozenset(i for i in indexed if labels[i] == name)) for name in names
    ]
    return [("classes", indexed, questions)]


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", default="nearlight-tiny")
    parser.add_argument("--data", type=Path, required=True, help="parquet with image and captions")
    given = parser.parse_args()
    table = pq.read_table(given.data)
    images: list[Any] = table["image"].to_pylist()
    with tempfile.TemporaryDirectory() as folder:
        flags = {"bundles": (given.bundle,), "data_folder": Path(folder), "listen": "127.0.0.1:0"}
        with LocalServer(load_config(None, flags)) as server, Client(server.address) as client:
            for name, indexed, questions in collections_of(table):
                client.create_collection(name)
                for _ in client.upsert_stream(name, (Point(i, image=images[i]) for i in indexed)):
                    pass
                print(client.calibrate_collection(name))
                compare(client, name, questions)


if __name__ == "__main__":
    main()
