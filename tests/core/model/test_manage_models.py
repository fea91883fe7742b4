"""Own models come, get other names, and go; bundled ones stay; exports load elsewhere."""

import json

import numpy as np
import pytest
import torch

from napari_dinocell.core import models
from napari_dinocell.core.errors import ModelFileError
from napari_dinocell.core.model.files import load_model, save_model
from napari_dinocell.core.model.library import library_folder
from napari_dinocell.core.model.manage import (
    delete_model,
    import_model,
    import_unless_there,
    rename_model,
    write_model,
)
from napari_dinocell.core.model.own import own_models

PLANE = torch.from_numpy(np.random.default_rng(0).random((1, 1, 64, 64), np.float32))


@pytest.fixture(autouse=True)
def _own_home(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_DINOCELL_HOME", str(tmp_path / "home"))


@pytest.fixture
def decoder_file(tmp_path):
    """A model that holds a changed decoder, and names the flagship's encoder."""
    network, card = load_model("vits8")
    with torch.no_grad():
        next(network.decoder.parameters()).mul_(1.01)
    save_model(tmp_path / "mine.safetensors", network, card)
    return tmp_path / "mine.safetensors"


def map_of(name):
    with torch.inference_mode():
        return load_model(name)[0](PLANE).numpy()


def test_an_imported_model_is_the_same_model_under_its_name(decoder_file):
    before = map_of(decoder_file)
    assert import_model(decoder_file, "my cells").name == "my cells"
    assert own_models() == ("my cells",)
    decoder_file.unlink()
    np.testing.assert_array_equal(map_of("my cells"), before)
    assert list((library_folder() / "encoders").glob("*.safetensors"))
    rename_model("my cells", "hers")
    assert own_models() == ("hers",)
    np.testing.assert_array_equal(map_of("hers"), before)
    delete_model("hers")
    assert own_models() == ()


def test_the_same_model_comes_once_and_another_one_of_its_name_gets_a_number(
    decoder_file, tmp_path
):
    assert import_unless_there(decoder_file) == "mine"
    assert import_unless_there(decoder_file) is None
    rename_model("mine", "hers")
    assert import_unless_there(decoder_file) is None, "whatever it is called"
    write_model("hers", tmp_path / "mine whole.safetensors")
    assert import_unless_there(tmp_path / "mine whole.safetensors") is None
    network, card = load_model(decoder_file)
    with torch.no_grad():
        next(network.decoder.parameters()).mul_(1.01)
    save_model(tmp_path / "other" / "hers.safetensors", network, card)
    expected = map_of(tmp_path / "other" / "hers.safetensors")
    assert import_unless_there(tmp_path / "other" / "hers.safetensors") == "hers 2"
    np.testing.assert_array_equal(map_of("hers 2"), expected)
    assert own_models() == ("hers", "hers 2")


def test_an_exported_file_holds_the_encoder(decoder_file, tmp_path):
    import_model(decoder_file, "mine")
    write_model("mine", tmp_path / "whole" / "mine.safetensors")
    keys = (tmp_path / "whole" / "mine.safetensors").read_bytes()[:20000]
    assert b"encoder.blocks.0" in keys
    np.testing.assert_array_equal(map_of(tmp_path / "whole" / "mine.safetensors"), map_of("mine"))
    with pytest.raises(ValueError, match="is there already"):
        write_model("mine", tmp_path / "whole" / "mine.safetensors")


def test_what_cannot_be_is_refused_and_nothing_is_lost(tmp_path, decoder_file):
    import_model(decoder_file)
    for call in (
        lambda: rename_model("small", "tiny"),
        lambda: delete_model("vits8"),
        lambda: rename_model("absent", "tiny"),
        lambda: rename_model("mine", "small"),
        lambda: rename_model("mine", "a/b"),
        lambda: import_model(decoder_file),
        lambda: import_model(decoder_file, "vits8"),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            call()
    assert own_models() == ("mine",)
    with pytest.raises(FileNotFoundError):
        import_model(tmp_path / "absent.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no model")
    with pytest.raises(ModelFileError):
        import_model(tmp_path / "broken.safetensors")
    assert own_models() == ("mine",)


def test_the_command_does_all_of_it(decoder_file, tmp_path, capsys):
    assert models.main(["import", str(decoder_file), "--name", "a"]) == 0
    assert models.main(["rename", "a", "b"]) == 0
    capsys.readouterr()
    assert models.main(["--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["kind"]) for row in rows] == [
        ("small", "bundled"),
        ("vits8", "bundled"),
        ("b", "own"),
    ]
    assert models.main(["list"]) == 0
    assert "bundled" in capsys.readouterr().out
    assert models.main(["export", "b", "-o", str(tmp_path / "b.safetensors")]) == 0
    assert models.main(["delete", "b"]) == 0
    assert own_models() == ()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["destroy"], "There is no action 'destroy'"),
        (["rename", "a"], "Usage: napari-dinocell models rename NAME NEW"),
        (["delete", "small"], "comes with the package"),
        (["export", "small"], "--output"),
        (["export", "small", "-o", "x.txt", "--format", "text"], "There is no format 'text'"),
        (["export", "small", "-o", "x.txt", "--format", "onnx"], "must end with .onnx"),
    ],
)
def test_mistakes_are_told_in_a_sentence(arguments, sentence, caplog, capsys):
    assert models.main(arguments) == 2
    assert sentence in caplog.text + capsys.readouterr().err
