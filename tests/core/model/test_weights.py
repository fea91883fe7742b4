import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.nn import functional

from napari_dinocell.core.errors import ModelFileError
from napari_dinocell.core.model.store import read_tensors
from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.model.weights import enlargement, fold_patch_kernel, load_weights

from .tiny import LEARNED, ROPE, WIDTH, image, vit

DOUBLE = torch.float64


def dinov2_state(grid: int = 5, patch: int = 14) -> dict[str, torch.Tensor]:
    """Random weights under the official DINOv2 names."""
    config = LEARNED.model_copy(update={"position_grid": grid, "patch": patch})
    state = vit(config).state_dict()
    state["pos_embed"] = state.pop("pos_embed.weight")
    return state


def fresh(config) -> VisionTransformer:
    return VisionTransformer(config).double().eval()


@settings(deadline=None, max_examples=25)
@given(old=st.integers(1, 16), new=st.integers(1, 16), seed=st.integers(0, 99))
def test_folded_kernel_is_the_old_kernel_on_the_enlarged_patch(old, new, seed):
    old, new = max(old, new), min(old, new)
    kernel = image(3, 2, old, old, seed=seed, dtype=DOUBLE) - 0.5
    patch = image(1, 2, new, new, seed=seed + 1, dtype=DOUBLE)
    mode = {"mode": "nearest"} if old % new == 0 else {"mode": "bilinear", "align_corners": False}
    enlarged = functional.interpolate(patch, size=(old, old), **mode)
    expected = (kernel * enlarged).sum((1, 2, 3))
    folded = fold_patch_kernel(kernel, new)
    torch.testing.assert_close((folded * patch).sum((1, 2, 3)), expected)
    torch.testing.assert_close(folded.sum((2, 3)), kernel.sum((2, 3)))


def test_folding_16_to_8_sums_cells_of_2_by_2():
    kernel = image(4, 3, 16, 16, dtype=DOUBLE)
    torch.testing.assert_close(fold_patch_kernel(kernel, 8), 4 * functional.avg_pool2d(kernel, 2))


def test_rows_of_the_enlargement_sum_to_one():
    torch.testing.assert_close(enlargement(8, 14).sum(1), torch.ones(14, dtype=DOUBLE))


@pytest.mark.parametrize("shape", [(3, 2, 8, 14), (3, 8, 8), (3, 2, 4, 4)])
def test_kernels_that_cannot_be_folded_are_refused(shape):
    with pytest.raises(ValueError, match="cannot be folded to 8"):
        fold_patch_kernel(torch.zeros(shape), 8)


def test_own_names_load_completely_and_unchanged():
    source, target = vit(ROPE, seed=1), fresh(ROPE)
    report = load_weights(target, source.state_dict(), optional=())
    assert set(report.loaded) == set(source.state_dict())
    assert report.converted == report.constant == report.missing == report.unexpected == ()
    x = image(1, 3, 16, 24, dtype=DOUBLE)
    assert torch.equal(target(x).patches, source(x).patches)


def test_dinov2_file_is_folded_to_patch_8_and_reported():
    report = load_weights(fresh(LEARNED), dinov2_state())
    assert report.converted == ("patch_embed.proj.weight (patch 14 folded to 8)",)
    assert "converted: 1\n    patch_embed.proj.weight (patch 14 folded to 8)" in str(report)


def test_position_table_of_another_grid_is_resampled():
    target = fresh(LEARNED)
    report = load_weights(target, dinov2_state(grid=7))
    assert "pos_embed.weight (49 places resampled to 25)" in report.converted
    assert target.pos_embed.weight.shape == (1, 26, WIDTH)


def test_dinov2_file_in_a_rope_network_gives_its_class_position_to_the_class_token():
    state, target = dinov2_state(patch=8), fresh(ROPE)
    storage = target.storage_tokens.clone()
    report = load_weights(target, state, optional=("storage_tokens",))
    assert report.missing == ("storage_tokens",)
    expected = state["cls_token"] + state["pos_embed"][:, :1]
    torch.testing.assert_close(target.cls_token.data, expected)
    assert torch.equal(target.storage_tokens, storage)


def test_training_wrappers_and_heads_around_a_backbone_are_taken_off():
    source = vit(ROPE, seed=1)
    state = {f"module.backbone.{key}": value for key, value in source.state_dict().items()}
    state["module.dino_head.mlp.0.weight"] = torch.zeros(2, 2)
    report = load_weights(fresh(ROPE), state)
    assert report.unexpected == ()


def test_blocks_chunked_for_sharding_are_found():
    state = {
        key.replace("blocks.", "blocks.0.", 1): value
        for key, value in vit(ROPE).state_dict().items()
    }
    assert load_weights(fresh(ROPE), state).missing == ()


def test_unset_constants_of_a_file_are_replaced_by_computed_ones():
    state, target = vit(ROPE).state_dict(), fresh(ROPE)
    state["blocks.0.attn.qkv.bias_mask"] = torch.full((3 * WIDTH,), torch.nan)
    report = load_weights(target, state)
    assert report.constant == ("blocks.0.attn.qkv.bias_mask",)
    assert torch.isfinite(target(image(1, 3, 8, 8, dtype=DOUBLE)).cls).all()


def drop(state):
    del state["blocks.3.attn.qkv.weight"], state["blocks.3.norm1.bias"]


def add(state):
    state["blocks.9.norm1.weight"] = torch.ones(WIDTH)


def reshape(state):
    state["norm.weight"] = torch.ones(WIDTH + 1)


def enlarge(state):
    state["patch_embed.proj.weight"] = torch.ones(WIDTH, 3, 4, 4)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (drop, r"2 of 68 weights are missing in given state \(first: blocks\.3\.norm1\.bias\)"),
        (add, r"1 tensors of given state have no place .*blocks\.9\.norm1\.weight"),
        (reshape, r"norm\.weight of given state has shape \(25,\), the network needs \(24,\)"),
        (enlarge, r"patch_embed\.proj\.weight .* has shape \(24, 3, 4, 4\)"),
        (lambda state: state.clear(), "holds no DINOv2 or DINOv3 backbone"),
    ],
)
def test_incomplete_weights_are_an_error_and_change_nothing(damage, sentence):
    state, target = vit(ROPE, seed=1).state_dict(), vit(ROPE, seed=2)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    damage(state)
    with pytest.raises(ModelFileError, match=sentence):
        load_weights(target, state)
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_missing_and_unexpected_tensors_can_be_allowed_by_name():
    state = vit(ROPE).state_dict()
    del state["mask_token"]
    state["local_cls_norm.weight"] = torch.ones(WIDTH)
    report = load_weights(fresh(ROPE), state, ignore=("local_cls_norm.weight",))
    assert report.missing == ("mask_token",)
    assert report.unexpected == ("local_cls_norm.weight",)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_weights_come_from_both_kinds_of_file(tmp_path, ending):
    state, path = vit(ROPE).state_dict(), tmp_path / f"weights.{ending}"
    if ending == "pth":
        torch.save({"teacher": {f"backbone.{key}": v for key, v in state.items()}}, path)
    else:
        save_file(state, path)
    report = load_weights(fresh(ROPE), path)
    assert len(report.loaded) == len(state)
    assert report.source == path.name


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["bomb.pth", "bomb.pt", "bomb.safetensors"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_files_that_would_run_code_are_refused_without_running_it(tmp_path, name, is_zip):
    trace, path = tmp_path / "it ran", tmp_path / name
    content = {"cls_token": torch.zeros(1), "more": Bomb(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(ModelFileError, match=r"^bomb\."):
        read_tensors(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Bomb(trace)))
    assert trace.exists()  # so the bomb is real


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_truncated_files_are_refused(tmp_path, ending):
    path = tmp_path / f"short.{ending}"
    save_file({"a": torch.ones(100)}, path) if ending == "safetensors" else torch.save(
        {"a": torch.ones(100)}, path
    )
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ModelFileError, match=r"^short\."):
        read_tensors(path)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("picture.safetensors", b"\x89PNG\r\n\x1a\n" + bytes(50), "not a whole safetensors file"),
        ("empty.safetensors", b"", "not a whole safetensors file"),
        ("weights.onnx", b"x", r"ending '\.onnx'"),
        ("empty.pth", b"", "is damaged"),
    ],
)
def test_foreign_files_are_refused_in_one_sentence(tmp_path, name, content, sentence):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=sentence) as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


def test_files_without_named_tensors_are_refused(tmp_path):
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    with pytest.raises(ModelFileError, match="no tensors by name"):
        read_tensors(tmp_path / "list.pth")


def test_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors"):
        read_tensors(tmp_path / "nothing.safetensors")
