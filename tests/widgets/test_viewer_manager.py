"""The panel of models in a real viewer."""

import pytest
from qtpy.QtWidgets import QMessageBox

from napari_dinocell.core.model.files import load_model, save_model
from napari_dinocell.core.model.own import own_model_path, own_models

pytestmark = pytest.mark.qt


@pytest.fixture
def manager(make_napari_viewer_proxy, wait):
    from napari_dinocell.widgets.manager_panel import ManagerPanel  # noqa: PLC0415

    viewer = make_napari_viewer_proxy()
    panel = ManagerPanel(viewer)
    viewer.window.add_dock_widget(panel, name="Models")
    wait(lambda: panel.list.count() == 2)
    return panel


def names(panel):
    return list(panel.cards)


def test_bundled_models_are_shown_with_their_cards_and_cannot_be_changed(manager):
    manager.choose("vits8")
    assert manager.name == "vits8"
    text = manager.text.text()
    assert "AP50 / OP_CSB" in text
    assert "dsb2018_fluo" in text
    assert "CC0" in text
    assert not manager.rename_button.isEnabled()
    assert not manager.delete_button.isEnabled()
    assert manager.export_button.isEnabled()


def test_a_model_comes_gets_a_name_is_exported_and_goes(manager, wait, tmp_path, monkeypatch):
    network, card = load_model("small")
    save_model(tmp_path / "mine.safetensors", network, card)
    manager.import_file(tmp_path / "mine.safetensors")
    wait(lambda: "mine" in names(manager))
    assert manager.runner.status.text() == "Imported mine."
    assert manager.name == "mine", "what is new is chosen"
    assert manager.delete_button.isEnabled()
    manager.rename("yours")
    wait(lambda: "yours" in names(manager) and "mine" not in names(manager))
    assert manager.name == "yours"
    manager.export("file", tmp_path / "out.safetensors")
    wait(lambda: manager.runner.status.text() == "Wrote out.safetensors.")
    assert load_model(tmp_path / "out.safetensors")[1].name == "yours"
    answers = iter((QMessageBox.StandardButton.No, QMessageBox.StandardButton.Yes))
    monkeypatch.setattr(QMessageBox, "question", lambda *_: next(answers))
    manager.delete_button.click()
    assert own_models() == ("yours",)
    manager.delete_button.click()
    wait(lambda: names(manager) == ["small", "vits8"])
    assert own_models() == ()


def test_mistakes_are_told_and_change_nothing(manager, wait, tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"no model")
    manager.import_file(tmp_path / "broken.safetensors")
    wait(lambda: manager.runner.status.text().startswith("⚠"))
    assert "broken.safetensors" in manager.runner.status.text()
    manager.export("file", tmp_path / "broken.safetensors" / "out.safetensors")
    wait(lambda: manager.runner.status.text().startswith("⚠ The folder"))
    assert names(manager) == ["small", "vits8"]


def test_lists_follow_the_folder(manager, make_panel, wait):
    _, segment = make_panel()
    network, card = load_model("small")
    save_model(own_model_path("from a shell"), network, card)
    wait(lambda: "from a shell" in names(manager))
    wait(lambda: "from a shell" in segment.form.model.choices)
    before = segment.form.model.value
    own_model_path("from a shell").unlink()
    wait(lambda: "from a shell" not in segment.form.model.choices)
    assert segment.form.model.value == before
