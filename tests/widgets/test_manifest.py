"""The manifest says what napari understands: npe2 itself accepts misspelt keys in silence."""

import importlib
import importlib.resources
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

npe2 = pytest.importorskip("npe2", reason="The manifest tests need npe2, which napari brings.")

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "src" / "napari_dinocell" / "napari.yaml"
MANIFEST = yaml.safe_load(PATH.read_text(encoding="utf-8"))
CONTRIBUTIONS = MANIFEST["contributions"]

# What napari offers to plugins (napari/_app_model/constants/_menus.py, 0.7.1 and newer).
LAYER_MENUS = (
    "visualize annotate data layer_type filter transform measure register project segment track "
    "classify"
)
MENUS = {
    *(f"napari/file/{name}" for name in ("new_layer", "io_utilities", "acquire")),
    *(f"napari/layers/{name}" for name in LAYER_MENUS.split()),
}
KEYS = {
    "commands": {"id", "title", "python_name", "enablement", "category", "icon", "short_title"},
    "widgets": {"command", "display_name", "autogenerate"},
    "sample_data": {"command", "key", "display_name"},
}
MENU_KEYS = {"command", "when", "group"}


def test_npe2_validates_the_manifest():
    manifest = npe2.PluginManifest.from_file(PATH)
    manifest.validate_imports()
    assert manifest.name == "napari-dinocell"
    done = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", str(PATH)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_key_is_one_that_npe2_knows():
    known = set(npe2.PluginManifest.model_fields)
    assert set(MANIFEST) <= known
    contributions = npe2.PluginManifest.model_fields["contributions"].annotation
    assert set(CONTRIBUTIONS) <= set(contributions.model_fields)
    for kind, allowed in KEYS.items():
        for entry in CONTRIBUTIONS[kind]:
            assert set(entry) <= allowed, entry
    for entries in CONTRIBUTIONS["menus"].values():
        for entry in entries:
            assert set(entry) <= MENU_KEYS, entry


def test_every_key_of_the_preferences_is_one_that_npe2_knows():
    configuration = pytest.importorskip(
        "npe2.manifest.contributions._configuration", reason="Needs npe2 0.9 or newer."
    )
    for section in CONTRIBUTIONS["configurations"].values():
        assert set(section) == set(configuration.ConfigurationContribution.model_fields)
        for entry in section["properties"].values():
            assert set(entry) <= set(configuration.ConfigurationProperty.model_fields), entry


def test_the_preferences_are_those_that_the_program_reads():
    from napari_dinocell.widgets.preferences import PLUGIN, SECTION, Preferences  # noqa: PLC0415

    assert MANIFEST["name"] == PLUGIN
    (section,) = CONTRIBUTIONS["configurations"]
    assert section == SECTION
    properties = CONTRIBUTIONS["configurations"][section]["properties"]
    assert Preferences(**{name: entry["default"] for name, entry in properties.items()}) == (
        Preferences()
    )


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
    assert set(CONTRIBUTIONS["menus"]) <= MENUS
    assert {f"napari/layers/{name}" for name in ("segment", "annotate", "measure")} <= set(
        CONTRIBUTIONS["menus"]
    )
    in_menus = {
        entry["command"] for entries in CONTRIBUTIONS["menus"].values() for entry in entries
    }
    samples = {entry["command"] for entry in CONTRIBUTIONS["sample_data"]}
    assert in_menus == ids - samples


def test_napari_offers_these_menus_to_plugins():
    menus = pytest.importorskip("napari._app_model.constants._menus")
    assert [menu for menu in CONTRIBUTIONS["menus"] if not menus.is_menu_contributable(menu)] == []


def test_the_icon_is_a_picture_in_the_package():
    package, _, name = MANIFEST["icon"].partition(":")
    text = importlib.resources.files(package).joinpath(name).read_text(encoding="utf-8")
    assert text.startswith("<svg ")
    assert "href" not in text  # nothing is fetched


def test_no_key_of_ours_is_one_of_naparis():
    from app_model.types import KeyBinding  # noqa: PLC0415
    from napari.utils.shortcuts import default_shortcuts  # noqa: PLC0415

    from napari_dinocell.widgets.editing import KEYS as OURS  # noqa: PLC0415

    theirs = {str(key) for keys in default_shortcuts.values() for key in keys}
    assert {"P", "Ctrl+R"} <= theirs
    ours = {str(KeyBinding.from_str(key)) for key in OURS.values()}
    assert len(ours) == len(OURS)
    assert not ours & theirs
    assert "keybindings" not in CONTRIBUTIONS  # napari would not bind them


def test_the_names_of_samples_are_those_of_core():
    from napari_dinocell.core.samples import SAMPLES  # noqa: PLC0415

    found = {entry["key"]: entry["display_name"] for entry in CONTRIBUTIONS["sample_data"]}
    assert found == {sample.key: sample.title for sample in SAMPLES}


def test_the_manifest_at_the_top_is_the_one_in_the_package():
    assert (ROOT / "napari.yaml").resolve() == PATH
