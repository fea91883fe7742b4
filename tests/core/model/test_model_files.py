import json

import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from napari_dinocell.core.errors import ModelFileError
from napari_dinocell.core.model.blocks import fold_batch_norm
from napari_dinocell.core.model.files import (
    BackboneReference,
    ModelCard,
    load_backbone,
    load_model,
    read_card,
    save_backbone,
    save_model,
)
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.model.store import halve_matrices, tensors_sha256

from .tiny import ROPE as CONFIG
from .tiny import card, image, network, vit


@pytest.fixture
def pair(tmp_path):
    """A network on a backbone that was read from a file, saved as model file `tiny`."""
    source = network("vit")
    save_backbone(tmp_path / "backbone.safetensors", source.encoder, {"license": "CC0"})
    encoder, reference = load_backbone(tmp_path / "backbone.safetensors")
    made = DINOCell(encoder, source.decoder).eval()
    saved = save_model(tmp_path / "tiny.safetensors", made, card(made, backbone=reference))
    return made, saved, tmp_path


def test_model_on_a_shared_backbone_comes_back_exactly(pair):
    made, saved, folder = pair
    loaded, its_card = load_model(folder / "tiny.safetensors")
    x = image(1, 1, 16, 24)
    assert torch.equal(loaded(x), made(x))
    assert its_card == saved == read_card(folder / "tiny.safetensors")
    assert not loaded.training
    assert all(p.requires_grad for p in loaded.parameters())


def test_model_file_holds_the_decoder_alone(pair):
    _, _, folder = pair
    assert all(key.startswith("decoder.") for key in load_file(folder / "tiny.safetensors"))


def test_full_export_needs_no_backbone_file(pair):
    made, saved, folder = pair
    save_model(folder / "alone" / "full.safetensors", made, saved, full=True)
    loaded, its_card = load_model(folder / "alone" / "full.safetensors")
    x = image(1, 1, 16, 24)
    assert torch.equal(loaded(x), made(x))
    assert its_card.backbone == saved.backbone


def test_convolutional_model_comes_back_within_half_precision_and_then_exactly(tmp_path):
    made, x = network("small"), image(1, 1, 16, 24)
    save_model(tmp_path / "one.safetensors", made, card(made))
    first, its_card = load_model(tmp_path / "one.safetensors")
    save_model(tmp_path / "two.safetensors", first, its_card)
    second, _ = load_model(tmp_path / "two.safetensors")
    assert (first(x) - made(x)).abs().max() < 0.02
    assert torch.equal(second(x), first(x))


def test_backbone_is_looked_for_in_given_folders_too(pair, tmp_path_factory):
    _, _, folder = pair
    elsewhere = tmp_path_factory.mktemp("library")
    (folder / "backbone.safetensors").rename(elsewhere / "backbone.safetensors")
    with pytest.raises(ModelFileError, match=r"needs the backbone file backbone\.safetensors"):
        load_model(folder / "tiny.safetensors")
    load_model(folder / "tiny.safetensors", folders=[elsewhere])


def test_backbone_of_the_right_name_with_other_weights_is_refused(pair, tmp_path_factory):
    _, _, folder = pair
    elsewhere = tmp_path_factory.mktemp("library")
    (folder / "backbone.safetensors").rename(elsewhere / "backbone.safetensors")
    save_backbone(folder / "backbone.safetensors", vit(CONFIG, seed=9).float())
    with pytest.raises(ModelFileError, match="its hash differs"):
        load_model(folder / "tiny.safetensors")
    load_model(folder / "tiny.safetensors", folders=[elsewhere])  # a wrong one hides no right one


def test_backbone_is_never_read_outside_the_known_folders(pair):
    made, saved, folder = pair
    (folder / "inner").mkdir()
    reference = BackboneReference(file="../backbone.safetensors", sha256=saved.backbone.sha256)
    path = folder / "inner" / "tiny.safetensors"
    save_model(path, made, saved.model_copy(update={"backbone": reference}))
    with pytest.raises(ModelFileError, match="was not found"):
        load_model(path)


def test_changed_encoder_is_not_saved_under_the_name_of_its_backbone(pair):
    made, saved, folder = pair
    made.encoder.norm.bias.data += 1
    before = (folder / "tiny.safetensors").read_bytes()
    with pytest.raises(ValueError, match="encoder is not the one of backbone"):
        save_model(folder / "tiny.safetensors", made, saved)
    assert (folder / "tiny.safetensors").read_bytes() == before


def test_folded_network_is_not_saved(tmp_path):
    made = network("small")
    with pytest.raises(ValueError, match="normalizations are folded"):
        save_model(tmp_path / "tiny.safetensors", fold_batch_norm(made), card(made))


def test_hash_sees_values_names_and_shapes_but_neither_order_nor_precision():
    state = {"a": image(2, 3).half(), "b": image(4).half(), "n": torch.tensor(3)}
    reference = tensors_sha256(state)
    assert tensors_sha256(dict(reversed(state.items()))) == reference
    assert (
        tensors_sha256(
            {key: value.float() for key, value in state.items() if key != "n"} | {"n": state["n"]}
        )
        == reference
    )
    for change in (
        {"a": state["a"] + 1},
        {"a": state["a"].reshape(3, 2)},
        {"c": state["b"]},
        {"n": torch.tensor(4)},
    ):
        assert tensors_sha256(state | change) != reference


def test_vectors_keep_their_precision_in_files():
    state = {
        "kernel": torch.ones(2, 2),
        "variance": torch.tensor([1e-9, 1e9]),
        "n": torch.tensor(1),
    }
    halved = halve_matrices(state)
    assert halved["kernel"].dtype == torch.float16
    assert torch.equal(halved["variance"], state["variance"])


def test_failed_writing_leaves_no_trace(tmp_path):
    target = tmp_path / "taken.safetensors"
    target.mkdir()  # a folder cannot be replaced by a file
    made = network("small")
    with pytest.raises(OSError, match="taken"):
        save_model(target, made, card(made))
    assert list(tmp_path.iterdir()) == [target]


def test_model_file_must_have_its_ending(tmp_path):
    made = network("small")
    with pytest.raises(ValueError, match=r"must end with \.safetensors"):
        save_model(tmp_path / "tiny.pth", made, card(made))


def rewrite(path, tensors=None, header=None):
    """The same file with other tensors or another header."""
    with safe_open(path, "pt") as file:
        old_header = file.metadata()
    tensors = load_file(path) if tensors is None else tensors
    save_file(tensors, path, metadata=old_header if header is None else header)


def lose_a_tensor(path):
    tensors = load_file(path)
    del tensors["decoder.head.bias"]
    rewrite(path, tensors)


def change_a_shape(path):
    rewrite(path, load_file(path) | {"decoder.head.bias": torch.zeros(2)})


def add_a_tensor(path):
    rewrite(path, load_file(path) | {"decoder.foot": torch.zeros(2)})


def damage_the_card(path):
    rewrite(path, header={"card": "{"})


def misspell_a_field(path):
    fields = json.loads(read_card(path).model_dump_json()) | {"piek": 0.4}
    rewrite(path, header={"card": json.dumps(fields)})


def truncate(path):
    path.write_bytes(path.read_bytes()[:-9])


def lose_the_card(path):
    rewrite(path, header={})


def misfit_the_architecture(path):
    fields = json.loads(read_card(path).model_dump_json())
    fields["architecture"]["decoder"]["inputs"] = 16
    rewrite(path, header={"card": json.dumps(fields)})


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lose_a_tensor, r"weights are missing in tiny\.safetensors \(first: decoder\.head\.bias\)"),
        (change_a_shape, r"decoder\.head\.bias .* has shape \(2,\), its card says \(1,\)"),
        (add_a_tensor, r"unknown in tiny\.safetensors \(first: decoder\.foot\)"),
        (damage_the_card, r"Model card of tiny\.safetensors"),
        (misspell_a_field, "piek"),
        (truncate, "not a whole safetensors file"),
        (lose_the_card, "has no model card"),
        (misfit_the_architecture, "does not fit"),
    ],
)
def test_damaged_model_files_are_refused_in_one_sentence(pair, damage, sentence):
    _, _, folder = pair
    damage(folder / "tiny.safetensors")
    with pytest.raises(ModelFileError, match=sentence) as caught:
        load_model(folder / "tiny.safetensors")
    assert "\n" not in str(caught.value)


def test_bare_weights_are_no_backbone_of_ours(tmp_path):
    save_file({"cls_token": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(ModelFileError, match=r"bare\.safetensors is no backbone file"):
        load_backbone(tmp_path / "bare.safetensors")


def test_decoder_file_that_names_no_backbone_is_refused(pair):
    _, _, folder = pair
    path = folder / "tiny.safetensors"
    fields = json.loads(read_card(path).model_dump_json()) | {"backbone": None}
    rewrite(path, header={"card": json.dumps(fields)})
    with pytest.raises(ModelFileError, match="names no backbone"):
        load_model(path)


def test_unknown_model_names_are_answered_with_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model unheard-of; give the path"):
        load_model("unheard-of")


@pytest.mark.parametrize(
    "fields",
    [
        {"fill": 0.5},
        {"peak": 1.0},
        {"overlap": 256},
        {"tile": 100},
        {"target": {"kind": "edt", "lift": 0.2}},
        {"target": {"kind": "lifted", "lift": 0}},
        {"backbone": {"file": "x", "sha256": "short"}},
        {"colour": True},
        {"architecture": {"encoder": {"kind": "vit"}}},
    ],
)
def test_inconsistent_cards_are_refused(fields):
    with pytest.raises(ValidationError):
        card(network("small"), **fields)


def test_card_survives_json_and_cannot_be_changed():
    made = card(network("vit"), confidence={"height": 2.5}, licenses={"set": "CC0"}, seed=3)
    assert ModelCard.model_validate_json(made.model_dump_json()) == made
    with pytest.raises(ValidationError, match="frozen"):
        made.peak = 0.3
