"""Distillation of a backbone with learned positions into the DINOv3 form, on tiny networks."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from napari_dinocell.core.model.files import load_backbone, save_backbone
from napari_dinocell.core.model.vit import VisionTransformer, ViTConfig
from napari_dinocell.core.pretrain.distill import main
from napari_dinocell.core.pretrain.distillation import Distillation, dinov3_form, distance

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
    training = Distillation(teacher, student, steps=80, lr=3e-3)
    for step in range(80):
        training.advance(crops(8, step))
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


@pytest.fixture
def command(teacher, fields, tmp_path):
    """Words of the command that writes `name`, 24 steps with a checkpoint after every fourth."""
    save_backbone(tmp_path / "old.safetensors", teacher)

    def words(name, *more):
        options = ["--axes", "CYX", "--steps", "24", "--batch", "4", "--size", "32", "--lr", "1e-3"]
        paths = [str(tmp_path / "old.safetensors"), str(fields), "--out", str(tmp_path / name)]
        return [*paths, *options, "--device", "cpu", "--checkpoint-every", "4", *more]

    return words


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("checkpoint-*.pt"))


def test_a_run_that_was_killed_or_stopped_goes_on_bit_by_bit(command, one_thread, tmp_path, capsys):
    assert main(command("whole.safetensors")) == 0
    whole, wanted = load_backbone(tmp_path / "whole.safetensors")[0], capsys.readouterr().out
    assert checkpoints(tmp_path / "whole-checkpoints")[-1] == "checkpoint-0000024.pt"

    # kill -9 in the middle
    module = [sys.executable, "-m", "napari_dinocell.core.pretrain.distill"]
    process = subprocess.Popen(
        [*module, *command("killed.safetensors")],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    folder = tmp_path / "killed-checkpoints"
    while process.poll() is None and not checkpoints(folder):
        time.sleep(0.005)
    process.kill()
    _, errors = process.communicate()
    assert checkpoints(folder), errors.decode()
    assert not (tmp_path / "killed.safetensors").exists()

    # then SIGTERM while it goes on
    def ask_when_it_runs(newest):
        while checkpoints(folder)[-1:] == [newest]:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    newest = checkpoints(folder)[-1]
    if newest < "checkpoint-0000016.pt":
        thread = threading.Thread(target=ask_when_it_runs, args=[newest])
        thread.start()
        assert main(command("killed.safetensors")) == 130
        thread.join()
        assert newest < checkpoints(folder)[-1] < "checkpoint-0000024.pt"
        assert not (tmp_path / "killed.safetensors").exists()
        capsys.readouterr()

    assert main(command("killed.safetensors")) == 0
    assert capsys.readouterr().out == wanted
    resumed, _ = load_backbone(tmp_path / "killed.safetensors")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_checkpoint_of_another_backbone_is_refused(teacher, command, tmp_path, capsys):
    assert main(command("new.safetensors", "--steps", "1")) == 0
    with torch.no_grad():
        teacher.cls_token.add_(1)
    save_backbone(tmp_path / "old.safetensors", teacher)
    capsys.readouterr()
    assert main(command("new.safetensors")) == 2
    assert "checkpoint is of another backbone" in capsys.readouterr().err
    assert main(command("new.safetensors", "--steps", "1", "--resume", "never")) == 0


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
