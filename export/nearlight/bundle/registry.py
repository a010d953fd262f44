"""Bundles by name: those that came with the package."""

from pathlib import Path

from nearlight.bundle.errors import NotABundle

DEFAULT_BUNDLE = "nearlight-tiny"
MODELS = Path(__file__).parent / "models"


def packaged_bundles() -> list[Path]:
    """The folders of the bundles that came with the package, in the order of their names."""
    if not MODELS.is_dir():
        return []
    return sorted(folder for folder in MODELS.iterdir() if (folder / "manifest.json").is_file())


def find_bundle(name_or_path: str | Path | None = None) -> Path:
    """The folder of a bundle: an existing folder, else the packaged bundle of that name; None is the default.

    What is inside is not looked at; `Bundle.open` does.

    Raises:
        NotABundle: Neither a folder nor a name; says which names there are.
    """
    wanted = DEFAULT_BUNDLE if name_or_path is None else str(name_or_path)
    if name_or_path is not None and wanted and Path(wanted).is_dir():
        return Path(wanted)
    packaged = {folder.name: folder for folder in packaged_bundles()}
    if wanted in packaged:
        return packaged[wanted]
    names = ", ".join(packaged) or "none"
    raise NotABundle(
        f"no bundle {wanted!r}: neither a folder nor one of the packaged bundles (these are: {names})"
    )
