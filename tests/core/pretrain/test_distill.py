"""Distillation of a backbone with learned positions into the DINOv3 form, on tiny networks."""

import json

import pytest
import torch

from napari_dinocell.core.model.files import load_backbone, save_backbone
from napari_dinocell.core.model.vit import VisionTransformer, ViTConfig
from napari_dinocell.core.pretrain.distill import dinov3_form, distance, distill, main

TEACHER = ViTConfig(
    width=48, depth=2, heads=3, levels=(0, 0, 1, 1), layer_scale=1.0, position="learned",
    position_grid=4, n_storage_tokens=0, mask_key_bias=False, norm_eps=1e-6,
)  # fmt: skip


@pytest.fixture
def teacher():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = VisionTransformer(TEACHER)
        for parameter in backbone.parameters():
            if parameter.ndim > 1:
                parameter.data.mul_(5)
        backbone.pos_embed.weight.data.normal_(std=2)  # places matter
    return backbone.requires_grad_(False).eval()


def crops(n, seed, size=32):
    """Blobs of random size and place."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 1, 8, 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)


def test_the_new_form_holds_the_old_weights_but_for_positions(teacher):
    student = dinov3_form(teacher)
    assert student.config.position == "rope"
    assert student.config.n_storage_tokens == 4
    old, new = teacher.state_dict(), student.state_dict()
    same = [name for name in old if name.startswith(("blocks", "norm", "patch_embed"))]
    assert len(same) > 20
    for name in same:
        assert torch.equal(old[name], new[name]), name
    assert torch.equal(new["cls_token"], old["cls_token"] + old["pos_embed.weight"][:, :1])
    with pytest.raises(ValueError, match="has RoPE already"):
        dinov3_form(student)


def test_distance_is_0_to_itself_and_2_to_what_is_unrelated(teacher):
    images = crops(2, 0)
    apart = distance(teacher, teacher, images)
    assert float(apart.cls) == float(apart.patches) == 0
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = VisionTransformer(TEACHER)
        other.pos_embed.weight.data.normal_(std=100)  # what the tokens then are
    other.requires_grad_(False)
    assert float(distance(teacher, other, images).patches) == pytest.approx(2, abs=0.2)


def test_the_student_comes_nearer_on_images_that_it_has_not_seen(teacher):
    student = dinov3_form(teacher)
    unseen = crops(16, 999)
    with torch.no_grad():
        before = distance(teacher, student, unseen)
    kept = {name: value.clone() for name, value in teacher.state_dict().items()}
    distill(teacher, student, (crops(8, step) for step in range(80)), steps=80, lr=3e-3)
    with torch.no_grad():
        after = distance(teacher, student, unseen)
    assert float(before.patches) > 0.1
    assert float(after.patches) < 0.85 * float(before.patches)
    assert float(after.cls) < float(before.cls)
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, kept[name]), name


def test_the_command_writes_a_start_in_the_dinov3_form(teacher, fields, tmp_path, capsys):
    save_backbone(tmp_path / "old.safetensors", teacher)
    words = [
        str(tmp_path / "old.safetensors"),
        str(fields),
        "--out",
        str(tmp_path / "new.safetensors"),
    ]
    options = ["--axes", "CYX", "--steps", "20", "--batch", "4", "--size", "32", "--lr", "1e-3"]
    assert main([*words, *options, "--device", "cpu"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["after"]["patches"] < figures["before"]["patches"]
    written, _ = load_backbone(tmp_path / "new.safetensors")
    assert written.config == dinov3_form(teacher).config


def test_a_file_that_needs_no_distillation_is_refused(teacher, fields, tmp_path, capsys):
    save_backbone(tmp_path / "new.safetensors", dinov3_form(teacher))
    words = [
        str(tmp_path / "new.safetensors"),
        str(fields),
        "--out",
        str(tmp_path / "x.safetensors"),
    ]
    assert main([*words, "--axes", "CYX", "--device", "cpu"]) == 2
    assert "has RoPE already" in capsys.readouterr().err
    assert not (tmp_path / "x.safetensors").exists()
