"""In what the engines differ from the embedded store. Nothing else differs: the conformance tests see to it.

The table of the README is made of this one (`tests/store/engines/test_differences.py` compares them).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """One row of the table.

    Attributes:
        what: it is about.
        embedded: what the embedded store does.
        milvus: what Milvus does.
        qdrant: what Qdrant does.
    """

    what: str
    embedded: str
    milvus: str
    qdrant: str


_REFUSED = "FAILED_PRECONDITION"

DIFFERENCES = (
    Difference(
        "hits",
        "exact",
        "near to all: as `--set store.milvus_index=` says; `FLAT` is exact",
        "near to all: HNSW",
    ),
    Difference("hits of equal score", "by seq", "by seq in a page, any at its edge", "as Milvus"),
    Difference("`limit` + `offset`", "no limit of its own", "at most 16,384", "at most 16,384"),
    Difference(
        "best-score queries",
        "exact",
        "of the nearest 16,384 points of each positive example; refused where that is not enough",
        "as Milvus",
    ),
    Difference(
        "filters",
        "any number of points",
        "the rim of a geo radius, prefixes of other than 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48 or 64 "
        "characters, lists that straddle a range: at most 10,000 points may be left for the server to judge; "
        "`min_should`: at most 4,000 conditions written out",
        "as Milvus; any `min_should`",
    ),
    Difference("`order_by`", "any number of points", "at most 100,000 may pass the filter", "as Milvus"),
    Difference(
        "scroll",
        "integers, then strings by their bytes",
        "the same",
        "integers, then strings in a fixed order",
    ),
    Difference("payload", "1 MiB", "65,535 bytes, 4,096 facts to filter by", "262,144 bytes, 65,536 facts"),
    Difference(
        "`seq`",
        "counts the writes; `last_seq` is that of the last one",
        "the time in microseconds; `last_seq` is the present moment",
        "as Milvus",
    ),
    Difference(
        "a write of many points",
        "all or none",
        "256 at once; what comes before a failure stays",
        "64 at once; what comes before a failure stays",
    ),
    Difference(
        "two servers changing one payload",
        "cannot be",
        "the later one wins; within one server they take turns",
        "as Milvus",
    ),
    Difference(
        "a call that counts and searches", "sees one state", "each step sees the state it meets", "as Milvus"
    ),
    Difference("several alias changes", "one step", "one after the other", "one step"),
    Difference(
        "collections of another server",
        "cannot be",
        "seen after `store.refresh_seconds` (5)",
        "as Milvus",
    ),
    Difference("payload indexes", "yes", f"{_REFUSED}: every key has its index", "as Milvus"),
    Difference("Verify, snapshots", "yes", f"{_REFUSED}: use its own tools", "as Milvus"),
    Difference("`exact`, `recall_target`", "yes", f"with `FLAT`, which is exact; else {_REFUSED}", _REFUSED),
    Difference("terms of an upsert, UpdateCollection, index_config", "yes", _REFUSED, _REFUSED),
    Difference(
        "durability", "full or relaxed", "the engine's own; RELAXED is refused at creation", "as Milvus"
    ),
    Difference("MeasureRecall, FindDuplicates, upgrades, `store_images`", "yes", _REFUSED, _REFUSED),
    Difference("Calibrate, `min_relevance`", "yes", _REFUSED, _REFUSED),
    Difference("label sets", "in the data folder", "in the data folder of each server", "as Milvus"),
)


def as_markdown() -> str:
    """The table of the README."""
    rows = [(one.what, one.embedded, one.milvus, one.qdrant) for one in DIFFERENCES]
    lines = [("", "embedded", "milvus", "qdrant"), ("---",) * 4, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
