"""Images and texts per second of this server over those of others, same weights, same machine, one run.

    nearlight export open_clip:ViT-B-32:random --out BUNDLE --weights WEIGHTS
    python -m tests.bench.bench_peers --bundle BUNDLE --weights WEIGHTS \\
        --infinity-python PYTHON --litserve-python PYTHON [--rounds 3] [--seconds 6] [--json]

Peers, each from an environment of its own: infinity-emb 0.0.78, installed by `pip install
'infinity-emb[server,torch,vision]==0.0.78' aiohttp` (without aiohttp every image is an error 500), and a
server on LitServe 0.2 in torch bf16 (litserve_clip.py; needs litserve, torch, open_clip_torch, safetensors).
One that is not named, or does not start, is left out and the reason said.

Closed loop, 32 single-input calls in flight, inputs of NEARLIGHT_DATA. Peers get JPEGs as base64 in JSON, as
their interfaces want it; this server gets bytes over gRPC. Whoever is not measured is stopped (SIGSTOP). The
client shares the cores. This server runs with `--set engine.runtime=auto` unless --set says otherwise; its
cache of vectors is off. Vectors are compared on images that both cut alike: transformers rounds half a pixel
of the middle's place down, open_clip to even.
"""

import argparse
import asyncio
import io
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from nearlight.bundle.folder import Bundle
from nearlight.client import Client, Connection
from nearlight.client.bench.load import closed_loop
from nearlight.client.bench.target import asking, requests_of
from tests.bench.hf_checkpoint import write_hf_checkpoint
from tests.bench.peer_servers import Caller, Peer, Raw, infinity, litserve
from tests.bench.record import MEDIAN, Line, Promise, Table, rounds_and_median, surroundings, tell
from tests.bench.samples import captions, photographs
from tests.bench.server_process import running_server

IN_FLIGHT = 32
WARM_UP_S = 1.5
COMPARED = 24


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of one server.

    Args:
        key: of its figure, without "_per_s".
        inputs: go round and round.
        peer: None: this server.
    """

    key: str
    inputs: Sequence[Raw]
    peer: Peer | None


async def load_peer(peer: Peer, inputs: Sequence[Raw], seconds: float) -> float:
    """Inputs per second of a peer.

    Raises:
        SystemExit: it answered with errors.
    """
    caller = Caller(peer, inputs)
    point = await closed_loop(caller.ask, in_flight=IN_FLIGHT, seconds=seconds, warm_up_s=WARM_UP_S)
    caller.close()
    if point.errors:
        raise SystemExit(f"{peer.name} answered with {point.errors}")
    return point.inputs_per_s


async def load_nearlight(address: str, inputs: Sequence[Raw], seconds: float) -> float:
    """Inputs per second of this server.

    Raises:
        SystemExit: it answered with errors.
    """
    requests = requests_of(inputs, 1, "", use_cache=False)
    async with asking(Connection(address), requests) as ask:
        point = await closed_loop(ask, in_flight=IN_FLIGHT, seconds=seconds, warm_up_s=WARM_UP_S)
    if point.errors:
        raise SystemExit(f"nearlight answered with {point.errors}")
    return point.inputs_per_s


def measured(job: Job, address: str, seconds: float) -> float:
    """Inputs per second of one job."""
    if job.peer is None:
        return asyncio.run(load_nearlight(address, job.inputs, seconds))
    with job.peer.awake():
        return asyncio.run(load_peer(job.peer, job.inputs, seconds))


def least_cosine(peer: Peer, address: str, inputs: Sequence[Raw]) -> float:
    """Between a peer's vectors and ours."""
    with Client(address) as client:
        ours = client.embed(list(inputs)).vectors  # (N, D)
    with peer.awake():
        theirs = np.stack([peer.embed(item) for item in inputs])  # (N, D)
    return float((ours * theirs).sum(axis=1).min())


def cut_alike(images: Sequence[bytes], side: int) -> list[bytes]:
    """The images whose middle starts at the same pixel in transformers and in open_clip."""
    chosen = []
    for image in images:
        with Image.open(io.BytesIO(image)) as opened:
            spare = int(side * max(opened.size) / min(opened.size)) - side
        if spare // 2 == round(spare / 2):
            chosen.append(image)
    return chosen


def ratios(line: Line) -> Line:
    """This server over each peer."""
    return {
        f"{kind}_over_{name}": line[f"nearlight_{kind}_per_s"] / line[f"{name}_{kind}_per_s"]
        for name in ("infinity", "litserve")
        for kind in ("images", "texts")
        if f"{name}_{kind}_per_s" in line
    }


def promises(table: Table, cosines: dict[str, float]) -> Iterator[Promise]:
    """What is held against the medians."""
    bounds = {"images_over_infinity": 4.0, "texts_over_infinity": 7.0, "images_over_litserve": 1.4}
    for key, bound in bounds.items():
        if key in table[MEDIAN]:
            yield Promise(key.replace("_", " "), table[MEDIAN][key], bound)
    for key, cosine in cosines.items():
        if "infinity" in key:  # float32, as we count parity; LitServe's is bf16 itself
            yield Promise(f"least cosine, {key}", cosine, 0.999)


def opened(stack: ExitStack, arguments: argparse.Namespace, skipped: dict[str, str]) -> dict[str, Peer]:
    """The peers that could be started, by short name."""
    bundle, weights = Bundle.open(arguments.bundle), arguments.weights
    found: dict[str, Peer] = {}
    if not arguments.infinity_python:
        skipped["infinity"] = "no --infinity-python"
    else:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "clip"
        write_hf_checkpoint(weights, bundle, folder)
        try:
            found["infinity"] = stack.enter_context(infinity(arguments.infinity_python, folder))
        except (RuntimeError, OSError) as error:
            skipped["infinity"] = str(error)
    if not arguments.litserve_python:
        skipped["litserve"] = "no --litserve-python"
    else:
        try:
            found["litserve"] = stack.enter_context(litserve(arguments.litserve_python, weights))
        except (RuntimeError, OSError) as error:
            skipped["litserve"] = str(error)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, required=True, help="a ViT-B/32")
    parser.add_argument("--weights", type=Path, required=True, help="the same as safetensors of open_clip")
    parser.add_argument("--infinity-python", default="", help="Python that has infinity-emb")
    parser.add_argument("--litserve-python", default="", help="Python that has litserve, torch, open_clip")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement, after a warm-up")
    parser.add_argument("--set", dest="settings", action="append", help="of this server")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # peers must not outlive us, asleep
    about, skipped = surroundings(), dict[str, str]()
    images, texts = photographs(), captions()[:256]
    settings = arguments.settings or ["engine.runtime=auto"]
    with ExitStack() as stack:
        peers = opened(stack, arguments, skipped)
        server = stack.enter_context(running_server(arguments.bundle, settings))
        jobs = [Job("nearlight_images", images, None), Job("nearlight_texts", texts, None)]
        cosines: dict[str, float] = {}
        side = Bundle.open(arguments.bundle).manifest.towers.image.preprocess.size_px
        alike = cut_alike(images, side)
        for name, peer in peers.items():
            jobs.append(Job(f"{name}_images", images, peer))
            cosines[f"images, {name}"] = least_cosine(peer, server.address, alike[:COMPARED])
            if name == "infinity":
                jobs.append(Job(f"{name}_texts", texts, peer))
                cosines[f"texts, {name}"] = least_cosine(peer, server.address, texts[:COMPARED])
        lines = []
        for number in range(arguments.rounds):
            # Who goes first changes, so that a drift of the machine favours nobody.
            ordered = jobs[number % len(jobs) :] + jobs[: number % len(jobs)]
            found = {f"{job.key}_per_s": measured(job, server.address, arguments.seconds) for job in ordered}
            line = {f"{job.key}_per_s": found[f"{job.key}_per_s"] for job in jobs}
            lines.append({**line, **ratios(line)})
        with Client(server.address) as client:
            model = client.model()
    about |= {
        "in_flight": IN_FLIGHT,
        "peers": ", ".join(peer.name for peer in peers.values()),
        "skipped": skipped or "none",
        "nearlight": f"{', '.join(settings)}: images by {model.provider} {model.runtime_precision}",
        "least_cosines": {key: round(value, 6) for key, value in cosines.items()},
    }
    table = rounds_and_median(lines)
    tell(about, {"round": table}, list(promises(table, cosines)), as_json=arguments.json)


if __name__ == "__main__":
    main()
