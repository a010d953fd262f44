"""Each method learns: kNN on CIFAR-10 against the same encoder untrained. Minutes each; `pytest -m slow`."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from nearlight.training.catalogue import method_files
from nearlight.training.config import load_config
from nearlight.training.method import find_method
from nearlight.training.probes.features import EncoderFeatures
from nearlight.training.probes.knn import knn
from nearlight.training.sources import open_source
from nearlight.training.trainer import Trainer

DATA = Path(os.environ.get("NEARLIGHT_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
TRAIN_IMAGES, TEST_IMAGES = 10_000, 2_000
SELF_SUPERVISED, SUPERVISED = 12.0, 25.0  # points of kNN top-1 above the untrained encoder

EPOCHS = {"simsiam": 25, "byol": 25, "dino": 15, "cpc": 12, "supcon": 12, "ce": 12}
SETTINGS: dict[str, list[str]] = {
    "simclr": ["options.temperature=0.2"],
    "moco-v1": ["options.queue=2048"],
    "moco-v2": ["options.queue=2048"],
    "moco-v3": [
        "options.hidden=512",
        "optimiser.name=sgd",
        "optimiser.lr=0.06",
        "optimiser.weight_decay=0.0005",
    ],
    "byol": ["options.hidden=512", "options.projection=128", "options.momentum=0.97"],
    "simsiam": ["options.hidden=512", "options.projection=512", "options.predictor=128", "optimiser.lr=0.06"],
    "dino": [
        "options.prototypes=512",
        "options.hidden=512",
        "options.bottleneck=128",
        "options.momentum=0.97",
    ],
}
METHODS = [name for name in method_files() if find_method(name).towers_kind == "encoder"]


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    if not (DATA / "cifar10-train.parquet").is_file():
        pytest.skip(f"no cifar10-train.parquet in {DATA}; set NEARLIGHT_DATA")
    folder = tmp_path_factory.mktemp("cifar")
    for name, count in (("train", TRAIN_IMAGES), ("test", TEST_IMAGES)):
        pq.write_table(
            pq.read_table(DATA / f"cifar10-{name}.parquet").slice(0, count), folder / f"{name}.parquet"
        )
    return folder / "train.parquet", folder / "test.parquet"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("method", METHODS)
def test_knn_rises_above_the_untrained_encoder(
    method: str, cifar: tuple[Path, Path], tmp_path: Path, record_property: Any
) -> None:
    train, test = (open_source(str(path)) for path in cifar)
    settings = [
        f"epochs={EPOCHS.get(method, 15)}",
        "batch_size=256",
        "optimiser.warmup_epochs=1",
        "checkpoint_every=100000",
        "log_every=100",
        "device=cpu",
        *SETTINGS.get(method, []),
    ]
    overrides = {
        "data.train": [str(cifar[0])],
        "encoder": {"name": "resnet10", "stem": "small", "width": 0.5},
    }
    config = load_config(None, overrides, settings, method)
    trainer = Trainer(config, tmp_path / "run")
    exported = find_method(method).exported

    def top1() -> float:
        trainer.method.eval()
        features = EncoderFeatures(trainer.method.get_submodule(exported), config.encoder)
        found = knn(features, train, test)["knn_top1"]
        trainer.method.train()
        return found

    before, start = top1(), time.process_time()
    trainer.train()
    minutes, after = (time.process_time() - start) / 60, top1()
    line = {"method": method, "untrained": before, "trained": after, "cpu_minutes": round(minutes, 1)}
    record_property("proof", line)
    if "NEARLIGHT_PROOF" in os.environ:
        with open(os.environ["NEARLIGHT_PROOF"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    assert after - before >= (SUPERVISED if find_method(method).needs_labels else SELF_SUPERVISED)
