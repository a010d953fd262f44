"""The model card says what the manifest says."""

from nearlight.bundle.folder import Bundle
from nearlight.export.card import model_card


def test_the_card_of_a_bundle(full: Bundle) -> None:
    card = (full.path / "README.md").read_text(encoding="utf-8")
    for fact in (
        "# small-run",
        "Licence: not stated",
        "`nearlight export small --precision fp32`",
        "uint8 (B, 32, 32, 3)",
        "any length up to 16",
        "float32 (B, 48)",
        "softmax of 25 · cosine +0",
        "| zeroshot · photos · top1 | 12.5 |",
        "| image · min_cosine | 0.99999",
        "photos.parquet@2",
    ):
        assert fact in card, fact


def test_notes_and_missing_figures(full: Bundle) -> None:
    manifest = full.manifest.model_copy(update={"metrics": {}, "licence": "MIT", "description": "Sees owls."})
    card = model_card(manifest, "make it", "Trained on **owls** only.\n")
    assert "Licence: MIT." in card
    assert "Sees owls." in card
    assert "Trained on **owls** only." in card
    assert "None recorded." in card
