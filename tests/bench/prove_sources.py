"""Every kind of source, from its files to a search: exported, verified, served and queried by the commands.

    python -m tests.bench.prove_sources --rows 48 [--only NAME,NAME] > table.md

Weights are seeded random ones where a hub would be needed, ONNX folders are small ones in each maker's
layout, photographs and captions are real (flickr8k-val.parquet in NEARLIGHT_DATA, else ../shared/data). Rows
are printed as soon as they are done; one that fails says so, and the exit code is 1.
"""

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pyarrow.parquet as pq

from nearlight.server.tuning import library_versions, machine
from tests.export.foreign import write_clip_as_service, write_immich, write_transformers_js
from tests.export.towers import write_unigram

PHOTOS = 24
TIE = 1e-6
PROGRAM = [sys.executable, "-m", "nearlight.client.cli"]
ENVIRONMENT = {**os.environ, "NO_COLOR": "1"}
_MADE = ("source", "precision", "dim", "MB", "export s", "min cosine image", "min cosine text")
COLUMNS = (*_MADE, "overlap@10", "golden", "own photo first", "hits by text")


@dataclass(frozen=True)
class Case:
    """One source: what makes its arguments, given an empty folder."""

    name: str
    arguments: Callable[[Path], list[str]]


def siglip(folder: Path) -> list[str]:
    return ["open_clip:ViT-B-16-SigLIP:random", "--tokenizer", str(write_unigram(folder / "tokenizer"))]


def pair(folder: Path) -> list[str]:
    place = write_clip_as_service(folder / "pair")
    model = onnx.load(place / "visual.onnx")
    for axis in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        axis.dim_value = 224
    onnx.save(model, place / "visual.onnx")
    return [f"onnx:{place}", "--arch", "ViT-B-32"]


CASES = (
    Case("transformers.js", lambda folder: [f"onnx:{write_transformers_js(folder / 'clip')}"]),
    Case("Immich", lambda folder: [f"onnx:{write_immich(folder / 'clip')}"]),
    Case("clip-as-service", pair),
    Case("timm vit_small_patch16_224", lambda _: ["timm:vit_small_patch16_224:random"]),
    Case("RN50", lambda _: ["open_clip:RN50:random"]),
    Case("ViT-B-32", lambda _: ["open_clip:ViT-B-32:random"]),
    Case("MobileCLIP-S1", lambda _: ["open_clip:MobileCLIP-S1:random"]),
    Case("convnext_base", lambda _: ["open_clip:convnext_base:random"]),
    Case("ViT-B-16-SigLIP", siglip),
    Case("ViT-B-32 int8", lambda _: ["open_clip:ViT-B-32:random", "--precision", "int8"]),
)


def nearlight(*arguments: object) -> str:
    """Runs a command to its end; its standard output."""
    command = [*PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    if done.returncode:
        raise RuntimeError(f"nearlight {arguments[0]}: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout


@contextmanager
def serving(name: str, folder: Path) -> Iterator[str]:
    """The address of a server of a bundle of the library."""
    command = ["serve", "--bundle", name, "--data", str(folder / "data"), "--metrics", "off"]
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            [*PROGRAM, *command, "--listen", "127.0.0.1:0"],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=ENVIRONMENT,
        )
    try:
        for _ in range(3000):
            said = (folder / "server.log").read_text()
            if found := re.search(r"127\.0\.0\.1:[1-9]\d*", said):
                break
            if server.poll() is not None:
                raise RuntimeError(said.strip().splitlines()[-1])
            time.sleep(0.1)
        assert found is not None
        yield found.group()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)


def prove(case: Case, data: Path, photos: Path) -> list[str]:
    """One row of the table."""
    with tempfile.TemporaryDirectory(prefix="nearlight-proof-") as scratch:
        folder = Path(scratch)
        ENVIRONMENT["NEARLIGHT_BUNDLES"] = str(folder / "library")
        arguments = case.arguments(folder)
        start = time.monotonic()
        to = ["--out", folder / "bundle", "--data", data, "--no-cache", "--json"]
        made = json.loads(nearlight("export", *arguments, *to))
        seconds = time.monotonic() - start
        checked = json.loads(nearlight("bundle", "verify", folder / "bundle", "--json"))
        has_text = "text" in made["parity"]
        nearlight("bundle", "pull", folder / "bundle", "--name", "proof")
        with serving("proof", folder) as address:
            at = ["-c", "photos", "--server", address]
            nearlight("index", photos, *at)
            first = sorted(photos.iterdir())[3]
            hits = json.loads(nearlight("search", "--image", first, *at, "-n", PHOTOS, "--json"))
            texts = "-"
            if has_text:
                texts = str(len(json.loads(nearlight("search", "two dogs", *at, "--json"))))
        parity = made["parity"]
        uses = parity["uses"]
        return [
            case.name,
            made["precision"],
            str(made["dim"]),
            f"{sum(made['files'].values()) / 1e6:.0f}",
            f"{seconds:.0f}",
            f"{parity['image']['min_cosine']:.7f}",
            f"{parity['text']['min_cosine']:.7f}" if has_text else "-",
            f"{uses.get('text_to_image_overlap_at_10', uses['image_neighbours_overlap_at_10']):.3f}",
            f"{min(checked['golden_min_cosine'].values()):.6f}",
            own_place(hits, first.name),
            texts,
        ]


def own_place(hits: list[dict[str, Any]], name: str) -> str:
    """Whether a photograph is the best hit of a search by itself.

    Seeded random weights may map all photographs to one vector but for rounding: then it ties with others.
    """
    if hits[0]["id"] == name:
        return "yes"
    own = next(hit["score"] for hit in hits if hit["id"] == name)
    known = f"{hits[0]['score']:.7f} over {own:.7f}, the last {hits[-1]['score']:.7f}"
    return f"tied: {known}" if hits[0]["score"] - own <= TIE else f"no: {known}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=256, help="photographs, each with all its captions")
    parser.add_argument("--only", help="names with commas")
    arguments = parser.parse_args()
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    source = Path(os.environ.get("NEARLIGHT_DATA", default)) / "flickr8k-val.parquet"
    wanted = arguments.only.split(",") if arguments.only else [case.name for case in CASES]
    print(f"{machine()}; Python {platform.python_version()}; {library_versions()}")
    print(f"{arguments.rows} photographs with all their captions\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    failed = False
    with tempfile.TemporaryDirectory(prefix="nearlight-photos-") as scratch:
        table = pq.read_table(source).slice(0, arguments.rows)
        data, photos = Path(scratch) / "pairs.parquet", Path(scratch) / "photos"
        pq.write_table(table, data)
        photos.mkdir()
        for number, image in enumerate(table["image"].slice(0, PHOTOS)):
            (photos / f"{number:03}.jpg").write_bytes(image.as_py())
        for case in CASES:
            if case.name not in wanted:
                continue
            try:
                print(f"| {' | '.join(prove(case, data, photos))} |", flush=True)
            except (RuntimeError, OSError) as error:
                failed = True
                print(f"| {case.name} | failed: {error} |", flush=True)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
