"""The manifest says what napari understands: npe2 itself accepts misspelt keys in silence."""

import importlib
from pathlib import Path

import pytest
import yaml

npe2 = pytest.importorskip("npe2", reason="The manifest tests need npe2, which napari brings.")

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "src" / "napari_dinocell" / "napari.yaml"
MANIFEST = yaml.safe_load(PATH.read_text(encoding="utf-8"))
CONTRIBUTIONS = MANIFEST["contributions"]

# What napari offers to plugins (napari/_app_model/constants/_menus.py, 0.7.1 and newer).
MENUS = {"file/new_layer", "file/io_utilities", "file/acquire"} | {
    f"layers/{name}"
    for name in [
        "visualize",
        "annotate",
        "data",
        "layer_type",
        "filter",
        "transform",
        "measure",
        "register",
        "project",
        "segment",
        "track",
        "classify",
    ]
}
KEYS = {
    "commands": {"id", "title", "python_name", "enablement", "category", "icon", "short_title"},
    "widgets": {"command", "display_name", "autogenerate"},
    "sample_data": {"command", "key", "display_name"},
}


def test_npe2_reads_the_manifest():
    manifest = npe2.PluginManifest.from_file(PATH)
    manifest.validate_imports()
    assert manifest.name == "napari-dinocell"


def test_every_key_is_one_that_npe2_knows():
    known = set(npe2.PluginManifest.model_fields)
    assert set(MANIFEST) <= known
    contributions = npe2.PluginManifest.model_fields["contributions"].annotation
    assert set(CONTRIBUTIONS) <= set(contributions.model_fields)
    for kind, allowed in KEYS.items():
        for entry in CONTRIBUTIONS[kind]:
            assert set(entry) <= allowed, entry


def test_commands_are_named_after_the_plugin_and_can_be_imported():
    ids = [command["id"] for command in CONTRIBUTIONS["commands"]]
    assert len(set(ids)) == len(ids)
    for command in CONTRIBUTIONS["commands"]:
        prefix, _, name = command["id"].partition(".")
        assert prefix == MANIFEST["name"]
        assert name.isidentifier()
        module, _, attribute = command["python_name"].partition(":")
        assert callable(getattr(importlib.import_module(module), attribute))


def test_everything_that_is_contributed_is_a_command_in_a_menu_that_exists():
    ids = {command["id"] for command in CONTRIBUTIONS["commands"]}
    for kind in ("widgets", "sample_data"):
        assert {entry["command"] for entry in CONTRIBUTIONS[kind]} <= ids
    for menu, entries in CONTRIBUTIONS["menus"].items():
        assert menu.removeprefix("napari/") in MENUS
        assert {entry["command"] for entry in entries} <= ids


def test_the_names_of_samples_are_those_of_core():
    from napari_dinocell.core.samples import SAMPLES  # noqa: PLC0415

    found = {entry["key"]: entry["display_name"] for entry in CONTRIBUTIONS["sample_data"]}
    assert found == {sample.key: sample.title for sample in SAMPLES}


def test_the_manifest_at_the_top_is_the_one_in_the_package():
    assert (ROOT / "napari.yaml").resolve() == PATH
