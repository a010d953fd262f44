"""Help pages told from the source say what the configuration itself knows."""

import re

from typer.testing import CliRunner

from nearlight.training.catalogue import method_files
from nearlight.training.commands import train_app
from nearlight.training.config import RunConfig, Section
from nearlight.training.method import find_method
from nearlight.training.option_help import keys_of_method, keys_of_runs


def known_keys(section: type[Section], prefix: str = "") -> set[str]:
    keys: set[str] = set()
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            keys |= known_keys(kind, f"{prefix}{name}.")
        else:
            keys.add(prefix + name)
    return keys


def test_every_option_of_every_method_is_told_with_its_default() -> None:
    for method in method_files():
        found = {key.name: key for key in keys_of_method(method)}
        fields = find_method(method).Options.model_fields
        assert list(found) == list(fields), method
        for name, field in fields.items():
            assert found[name].default == str(field.default), (method, name)


def test_every_key_of_a_run_is_told() -> None:
    told = {key.name for key in keys_of_runs()}
    views = {name for name in told if name.startswith("views.0.")}
    assert "views.0.crop_scale" in views
    assert told - views == known_keys(RunConfig) - {"views", "options"}


def test_help_and_the_list_of_keys() -> None:
    page = " ".join(re.sub("[│•]", " ", CliRunner().invoke(train_app, ["moco-v1", "--help"]).output).split())
    assert "--hidden int | None" in page
    assert "default None: None: a linear head." in page
    assert "--temperature float" in page
    table = CliRunner().invoke(train_app, ["--keys"], env={"COLUMNS": "200"})
    assert table.exit_code == 0
    assert "optimiser.warmup_epochs" in table.output
