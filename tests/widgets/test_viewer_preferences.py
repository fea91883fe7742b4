"""Preferences: in napari's settings where it keeps those of plugins, else in a file of our own."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from napari import settings
from napari.utils.notifications import notification_manager
from synthetic import discs

from napari_dinocell.widgets.preferences import (
    PLUGIN,
    SECTION,
    Preferences,
    fallback_file,
    read_preferences,
)

MANIFEST = Path(__file__).resolve().parents[2] / "src" / "napari_dinocell" / "napari.yaml"


@pytest.fixture
def own_file(npe2pm, monkeypatch, tmp_path):
    """Where napari knows no preferences of ours: the manifest is not registered."""
    for name in ("XDG_CONFIG_HOME", "APPDATA", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    clear = getattr(settings, "_clear_plugin_settings_cache", lambda: None)
    clear()
    path = fallback_file()
    assert tmp_path in path.parents
    path.parent.mkdir(parents=True)
    yield path
    clear()


def test_without_a_file_the_defaults_hold(own_file):
    assert read_preferences() == Preferences()


def test_the_file_is_read_each_time(own_file, tmp_path):
    own_file.write_text(json.dumps({"device": "cpu", "cache_folder": str(tmp_path)}))
    assert read_preferences() == Preferences("cpu", str(tmp_path))
    own_file.write_text(json.dumps({"preview_delay_ms": 1000}))
    assert read_preferences().preview_delay_ms == 1000


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "cannot be read"),
        ('{"devise": "cpu"}', "holds devise; known are device"),
        ("[1]", "no object"),
        ('{"device": 3}', "device is 3; expected str"),
        ('{"preview_delay_ms": true}', "preview_delay_ms is True; expected int"),
        ('{"preview_delay_ms": 7}', "give 50 to 5000"),
        ('{"cache_folder": "/absent/folder"}', "there is no folder"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(own_file, content, part):
    own_file.write_text(content)
    with pytest.raises(ValueError, match=part):
        read_preferences()


@pytest.mark.skipif(
    not hasattr(settings, "get_plugin_settings"), reason="napari keeps none before 0.9"
)
def test_napari_shows_and_keeps_them(request):
    from npe2 import PluginManifest  # noqa: PLC0415

    request.getfixturevalue("plugin_settings")
    request.getfixturevalue("npe2pm").register(PluginManifest.from_file(MANIFEST))
    assert read_preferences() == Preferences()
    stored = settings.get_plugin_settings(PLUGIN)
    getattr(stored, SECTION).device = "cpu"
    assert read_preferences() == replace(Preferences(), device="cpu")
    assert "device: cpu" in Path(stored.config_path).read_text()


@pytest.mark.qt
def test_what_is_preferred_is_what_the_panels_begin_with(own_file, tmp_path, segmented):
    chosen = {"device": "cpu", "cache_folder": str(tmp_path), "preview_delay_ms": 77}
    own_file.write_text(json.dumps(chosen))
    _, panel = segmented(discs())
    assert panel.form.device.value == "cpu"
    assert panel.preview._rest.interval() == 77
    assert panel.engine.extra["stub"].maps_folder == tmp_path


@pytest.mark.qt
def test_a_preferred_device_that_is_not_there_is_said_when_a_model_is_loaded(
    own_file, make_panel, wait
):
    own_file.write_text('{"device": "cuda:9"}')
    _, panel = make_panel(discs())
    assert panel.form.device.value == "cuda:9"
    assert "auto" in panel.form.device.choices
    panel.form.model.value = "small"
    wait(lambda: "⚠" in panel.status.text())
    assert "cuda:9" in panel.status.text()
    assert not panel.button.isEnabled()
    panel.form.device.value = "cpu"
    wait(panel.button.isEnabled)


@pytest.mark.qt
def test_a_preference_that_cannot_be_used_is_said_by_the_window_and_stops_nothing(
    own_file, segmented
):
    own_file.write_text('{"device": 3}')
    said = []

    def listen(event):
        said.append((str(event.message), threading.current_thread()))

    notification_manager.notification_ready.connect(listen)
    try:
        segmented(discs())
    finally:
        notification_manager.notification_ready.disconnect(listen)
    assert "device is 3; expected str. Until then the defaults" in said[0][0]
    # A message from another thread can end the program.
    assert {thread for _, thread in said} == {threading.main_thread()}
