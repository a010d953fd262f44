"""The dashboard shows figures that exist, and all that there are."""

import json
import re
from pathlib import Path

from nearlight.server import metrics
from nearlight.server.metrics import figures

DASHBOARD = Path(metrics.__file__).with_name("grafana.json")


def exported_by_state() -> set[str]:
    source = Path(metrics.__file__).with_name("state.py").read_text()
    return set(re.findall(r'"(nearlight_\w+)"', source))


def test_it_shows_every_figure_and_no_other() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    text = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    shown = set(re.findall(r"nearlight_\w+", text))
    families = {next(iter(figure.collect())).name for figure in figures.ALL}
    counted = {family + end for family in families for end in ("", "_total", "_bucket", "_sum", "_count")}
    assert shown <= counted | exported_by_state()
    missing = {family for family in families if not any(name.startswith(family) for name in shown)}
    assert missing == set()
    assert exported_by_state() <= shown


def test_panels_stand_side_by_side() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_labels_of_legends_are_labels_of_the_figures() -> None:
    known = {label for figure in figures.ALL for label in figure._labelnames}
    known |= {"instance", "collection", "part", "model", "precision", "provider", "tower", "lane"}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= known
