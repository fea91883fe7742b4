"""Own models are found by name, beside the bundled ones."""

import pytest

from napari_dinocell.core.model.files import load_model, read_card, save_model
from napari_dinocell.core.model.own import own_folder, own_model_path, own_models, unused_name


@pytest.fixture(autouse=True)
def _own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_DINOCELL_HOME", str(tmp_path / "home"))


def test_a_model_that_was_put_into_the_library_is_loaded_by_its_name():
    network, card = load_model("small")
    assert own_models() == ()
    save_model(own_model_path("my cells"), network, card.model_copy(update={"name": "my cells"}))
    assert own_models() == ("my cells",)
    assert own_folder().parent.parent.name == "home"
    assert read_card("my cells").name == "my cells"
    with pytest.raises(FileNotFoundError, match="my cells"):
        load_model("other cells")


@pytest.mark.parametrize("name", ["", " ", "../escape", "a/b", "a\\b", ".hidden", "x:y", "a\x00"])
def test_names_that_are_no_file_names_are_refused(name):
    with pytest.raises(ValueError, match="cannot be a file"):
        own_model_path(name)


def test_new_names_are_free_and_possible():
    assert unused_name("image adapted") == "image adapted"
    own_folder().mkdir(parents=True)
    for _ in range(2):
        own_model_path(unused_name("a/b: adapted")).touch()
    assert own_models() == ("a b adapted", "a b adapted 2")
    assert unused_name("small", taken=("small",)) == "small 2"
    assert unused_name("///") == "adapted"
    assert own_model_path(unused_name("..\\..")).parent == own_folder()
