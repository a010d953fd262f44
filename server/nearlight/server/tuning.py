"""What `nearlight tune` found, on disk: written beside the data folder, read by `serve`.

A result counts only on the machine, for the bundle and with the library versions it was measured on. It is a
hint and never a reason not to start: a file that cannot be read is a line in the log.
"""

import json
import os
import platform
import tempfile
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nearlight.server.log import get_logger
from nearlight.server.threads import cpu_budget

log = get_logger(__name__)

_LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "openvino")
Count = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TowerTuning(_Part):
    """The best way to run one tower.

    Args:
        runtime: the library.
        precision: of the arithmetic.
        threads: inside one run.
        max_batch: most rows of one run: the smallest batch that is nearly as fast as the fastest.
        text_lengths: row lengths worth having, ascending; none for images.
        cosine: least cosine to ONNX Runtime in float32.
        rows_per_s: at `max_batch`; texts at a length of 16, the whole context where it must not be trimmed.
        speedup: over ONNX Runtime in float32 with the same rows.
    """

    runtime: Literal["onnxruntime", "openvino"]
    precision: Literal["fp32", "bf16", "int8"]
    threads: Count
    max_batch: Count
    text_lengths: tuple[Count, ...] = ()
    cosine: float
    rows_per_s: float
    speedup: float


class Tuning(_Part):
    """The result for one bundle on one machine.

    Args:
        space_id: of the bundle.
        bundle: its name, for people.
        machine: processor and cores it was measured on.
        versions: of the libraries it was measured with.
        measured: when, UTC.
        image: the image tower's.
        text: the text tower's; None without one.
    """

    space_id: str
    bundle: str
    machine: str
    versions: dict[str, str]
    measured: str
    image: TowerTuning
    text: TowerTuning | None = None


class TuningFile(_Part):
    """The whole file."""

    format_version: Literal[1] = 1
    results: tuple[Tuning, ...] = ()


def tuning_path(data_folder: Path) -> Path:
    """Where the results for a data folder's servers are: beside it, so that copies of the data leave them."""
    whole = data_folder.absolute()
    return whole.with_name(f"{whole.name}.tuning.json")


def find_tuning(data_folder: Path, space_id: str) -> Tuning | None:
    """The result for a bundle on this machine, or None; one that no longer counts is a line in the log."""
    file = tuning_path(data_folder)
    results = [tuning for tuning in _read(file).results if tuning.space_id == space_id]
    here, versions = machine(), library_versions()
    for tuning in results:
        if tuning.machine == here and tuning.versions == versions:
            return tuning
    if results:
        log.warning(
            "what `nearlight tune` found is of another machine or other versions; tune again",
            file=str(file),
            measured_on=results[0].machine,
            here=here,
        )
    return None


def save_tuning(data_folder: Path, tuning: Tuning) -> Path:
    """Write a result beside those of other bundles and machines; returns the file.

    Raises:
        OSError: the folder cannot be written.
    """
    file = tuning_path(data_folder)
    kept = [
        other
        for other in _read(file).results
        if (other.space_id, other.machine) != (tuning.space_id, tuning.machine)
    ]
    content = TuningFile(results=(*kept, tuning)).model_dump(mode="json")
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor, fresh = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(json.dumps(content, indent=2) + "\n")
        os.chmod(fresh, 0o644)
        os.replace(fresh, file)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
    return file


def machine() -> str:
    """Processor and cores of this process: what a measurement depends on."""
    return f"{_processor()}, {cpu_budget()} cores"


def library_versions() -> dict[str, str]:
    """The installed runtimes."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def now() -> str:
    """The time, as it stands in the file."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    numbers = [facts.get(key, "?") for key in ("cpu family", "model", "stepping")]
    return f"{facts.get('model name', platform.machine())} ({'.'.join(numbers)})"


def _read(file: Path) -> TuningFile:
    try:
        document: Any = json.loads(file.read_text(encoding="utf-8"))
        return TuningFile.model_validate(document)
    except FileNotFoundError:
        return TuningFile()
    except (OSError, ValueError, ValidationError) as error:
        log.warning("what `nearlight tune` found cannot be read", file=str(file), reason=str(error)[:200])
        return TuningFile()
