"""Checks that a wheel holds every package of the house and a sound default bundle."""

import sys
import tempfile
import zipfile
from pathlib import Path

from nearlight.bundle.folder import Bundle

ROOTS = ("proto", "export", "server", "training", "clients/python")


def main(wheel: Path) -> int:
    """Returns 0 if nothing is missing, else 1 with a line for each thing that is."""
    house = Path(__file__).resolve().parents[1]
    wanted = {
        str(file.relative_to(house / root))
        for root in ROOTS
        for file in (house / root / "nearlight").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        held = set(archive.namelist())
        missing = sorted(wanted - held)
        print(*(f"missing from {wheel.name}: {name}" for name in missing), sep="\n")
        archive.extractall(folder)
        bundle = Bundle.open(Path(folder) / "nearlight/bundle/models/nearlight-tiny")
    size_mb = wheel.stat().st_size / 1e6
    print(
        f"{wheel.name}: {len(held)} files, {size_mb:.1f} MB, default bundle {bundle.manifest.name} verified"
    )
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
