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

# Few steps on a small encoder: Adam, which minds the scale of a loss's gradient least, and views that show
# most of the image to methods that learn from class names. What is proven is the methods, not their recipes.
SHARED = [
    "batch_size=128",
    "optimiser.name=adamw",
    "optimiser.lr=0.0015",
    "optimiser.lr_batch_size=null",
    "optimiser.weight_decay=0.01",
    "optimiser.weight_decay_end=null",
    "optimiser.warmup_epochs=1",
    "optimiser.clip_grad_norm=0",
    "checkpoint_every=100000",
    "log_every=100",
    "curves=false",
    "device=cpu",
]
ONE_VIEW = 'views=[{"crop_scale":[0.4,1.0]}]'
EPOCHS = {
    "ce": 25,
    "supcon": 24,
    "triplet": 45,
    "npairs": 60,
    "maxmargin": 55,
    "simclr": 12,
    "invaspread": 16,
    "instdisc": 30,
    "moco-v1": 40,
    "moco-v2": 12,
    "moco-v3": 36,
    "byol": 45,
    "simsiam": 28,
    "cmc": 24,
    "cpc": 24,
    "dino": 27,
}
SETTINGS: dict[str, list[str]] = {
    "simclr": ["options.temperature=0.2"],
    "supcon": ['views=[{"count":2,"crop_scale":[0.4,1.0]}]'],
    "triplet": [ONE_VIEW],
    "npairs": [ONE_VIEW],
    "maxmargin": [ONE_VIEW],
    "moco-v1": ["options.queue=2048", "options.splits=4"],
    "moco-v2": ["options.queue=2048", "options.splits=4"],
    "moco-v3": ["options.hidden=512"],
    "byol": ["options.hidden=512", "options.projection=128", "options.momentum=0.97"],
    "simsiam": ["options.hidden=512", "options.projection=512", "options.predictor=128"],
    "cpc": ["encoder.image_px=32", "options.patch_px=16", "options.ahead=2"],
    "dino": [
        "batch_size=64",  # a student needs many steps to get away from its teacher's random start
        "optimiser.lr=0.001",
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
    supervised = find_method(method).needs_labels
    width = 0.5 if supervised else 0.25  # more has to be learnt from labels
    settings = [f"epochs={EPOCHS[method]}", *SHARED, *SETTINGS.get(method, [])]
    overrides = {
        "data.train": [str(cifar[0])],
        "encoder": {"name": "resnet10", "stem": "small", "width": width, "image_px": 24},
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
    assert trainer.train(), "interrupted"
    minutes, after = (time.process_time() - start) / 60, top1()
    line = {
        "method": method,
        "epochs": EPOCHS[method],
        "untrained": before,
        "trained": after,
        "cpu_minutes": round(minutes, 1),
    }
    record_property("proof", line)
    if "NEARLIGHT_PROOF" in os.environ:
        with open(os.environ["NEARLIGHT_PROOF"], "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    assert after - before >= (SUPERVISED if supervised else SELF_SUPERVISED)
