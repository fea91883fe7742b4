"""Whole runs: resumption, processes, failures, starts, looks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from napari_dinocell.core.errors import Cancelled, ModelFileError
from napari_dinocell.core.model.files import load_backbone
from napari_dinocell.core.pretrain.loop import pretrain
from napari_dinocell.core.pretrain.open import open_backbone
from napari_dinocell.core.train_ssl import main
from napari_dinocell.core.training import checkpoint

MODULE = ["-m", "napari_dinocell.core.train_ssl"]


def start(*words, launcher=()):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *launcher, *MODULE, *map(str, words)],
        env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def trained(folder):
    state = checkpoint.load("auto", folder)
    assert state is not None
    return state


def log(folder):
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def assert_same_state(one, other):
    assert one["step"] == other["step"]
    assert one["recent"] == other["recent"]
    assert one["data"] == other["data"]
    for part in ("student", "teacher"):
        for name, value in one[part].items():
            assert torch.equal(value, other[part][name]), (part, name)
    moments = [state["optimizer"]["state"] for state in (one, other)]
    assert moments[0].keys() == moments[1].keys()
    for key, values in moments[0].items():
        for name, value in values.items():
            assert torch.equal(value, moments[1][key][name]), (key, name)


def test_invariant_25_a_killed_run_goes_on_bit_by_bit(run_file, configured, tmp_path, fields):
    # 20 steps, of which 4 train the heads alone. The killed run reads in processes of its own, and
    # goes on from a copy of the fields in another place.
    gram = "loss.gram=0.5"  # its anchor is made anew
    process = start(run_file, f"out={tmp_path / 'killed'}", "data.processes=2", gram)
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            if line.startswith("step 10/"):
                process.send_signal(signal.SIGKILL)
                break
        rest = process.stderr.read()
    assert process.wait() == -signal.SIGKILL, rest
    assert 9 <= trained(tmp_path / "killed")["step"] < 20
    shutil.copytree(fields, tmp_path / "copy")
    moved = f"data.moved={{{fields}: {tmp_path / 'copy'}}}"
    pretrain(configured(f"out={tmp_path / 'killed'}", moved, gram))
    pretrain(configured(f"out={tmp_path / 'whole'}", gram))
    assert_same_state(trained(tmp_path / "killed"), trained(tmp_path / "whole"))
    assert trained(tmp_path / "whole")["step"] == 20
    whole = {entry["step"]: entry["loss/total"] for entry in log(tmp_path / "whole")}
    for entry in log(tmp_path / "killed"):
        assert entry["loss/total"] == whole[entry["step"]]


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
# With Adam's usual eps a gradient of the size of a rounding error makes a step of full size.
SAME = ("optimizer.eps=0.1", "model.drop_path=0", "epochs=1", "optimizer.warmup_epochs=0")
SAME += ("loss.gram=0.5",)


def run_in_two_processes(*words):
    with start(*words, launcher=TORCHRUN) as process:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    return errors


def assert_close_runs(one, other):
    """Weights and all losses of two runs of 8 steps agree to 1e-5."""
    states = trained(one), trained(other)
    for part in ("student", "teacher"):
        whole = [torch.cat([v.flatten() for v in s[part].values()]).double() for s in states]
        assert (whole[1] - whole[0]).norm() <= 1e-5 * whole[0].norm()
    steps = ([entry for entry in log(f) if "loss/total" in entry] for f in (one, other))
    pairs = list(zip(*steps, strict=True))
    assert len(pairs) == 8
    for name in ("total", "dino", "ibot", "koleo", "cross", "gram"):
        ours, theirs = (
            [entry[f"loss/{name}"] for entry in both] for both in zip(*pairs, strict=True)
        )
        assert theirs == pytest.approx(ours, rel=1e-5), name


def test_two_processes_equal_one(run_file, configured, tmp_path):
    run_in_two_processes(run_file, f"out={tmp_path / 'two'}", *SAME)
    pretrain(configured(f"out={tmp_path / 'one'}", *SAME))
    assert_close_runs(tmp_path / "one", tmp_path / "two")


def test_two_processes_with_slices_of_each_tensor_equal_one(run_file, configured, tmp_path):
    # The first 4 of 8 steps train the heads alone.
    shared = (*SAME, "shard=always", "recompute=true")
    words = run_in_two_processes(run_file, f"out={tmp_path / 'two'}", *shared, "look_every=8")
    assert "Each of 2 processes keeps slices" in words
    pretrain(configured(f"out={tmp_path / 'one'}", *SAME))
    assert_close_runs(tmp_path / "one", tmp_path / "two")
    assert [e["look/step"] for e in log(tmp_path / "two") if "look/step" in e] == [8]

    # It goes on bit by bit; and one process goes on from what two have written, all the same.
    for folder in ("again", "alone"):
        (tmp_path / folder).mkdir()
        shutil.copy(tmp_path / "two" / "checkpoint-0000005.pt", tmp_path / folder)
    run_in_two_processes(run_file, f"out={tmp_path / 'again'}", *shared)
    assert_same_state(trained(tmp_path / "again"), trained(tmp_path / "two"))
    pretrain(configured(f"out={tmp_path / 'alone'}", *SAME))
    ours, theirs = trained(tmp_path / "one"), trained(tmp_path / "alone")
    for name, value in ours["student"].items():
        torch.testing.assert_close(theirs["student"][name], value, rtol=1e-5, atol=1e-6)
    # What is written is the whole backbone.
    backbones = [load_backbone(tmp_path / f / "small.safetensors")[0] for f in ("one", "two")]
    for name, value in backbones[0].state_dict().items():
        torch.testing.assert_close(backbones[1].state_dict()[name], value, rtol=2e-3, atol=1e-4)


def test_a_stop_request_writes_a_checkpoint_first(configured, tmp_path):
    def ask_when_it_runs():
        while not (tmp_path / "out" / "checkpoint-0000002.pt").exists():
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask_when_it_runs)
    thread.start()
    with pytest.raises(Cancelled):
        pretrain(configured("checkpoint_every=2"))
    thread.join()
    last = log(tmp_path / "out")[-1]["step"]
    assert trained(tmp_path / "out")["step"] == last < 20


def test_losses_that_are_not_finite_stop_the_run_and_name_the_batch(configured, tmp_path):
    with pytest.raises(FloatingPointError, match=r"fields \(fields//plate"):
        pretrain(configured("optimizer.lr=1e30", "heads.warmup=0", "heads.still=0"))
    (path,) = (tmp_path / "out").glob("failed-step-*.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    step = content["step"]
    assert content["samples"] == list(range(4 * step, 4 * step + 4))
    assert len(content["fields"]) == 4
    for entry in (tmp_path / "out").glob("checkpoint-*.pt"):
        state = torch.load(entry, weights_only=True)
        assert all(torch.isfinite(v).all() for v in state["student"].values())


def test_the_frozen_backbone_rests_and_then_moves(configured, tmp_path):
    pretrain(configured("heads.steps=2", "epochs=1"))
    states = {
        step: torch.load(tmp_path / "out" / f"checkpoint-{step:07d}.pt", weights_only=True)
        for step in (1, 2, 6)
    }

    def moved(a, b, part):
        ours, theirs = states[a]["student"], states[b]["student"]
        return any(not torch.equal(v, theirs[k]) for k, v in ours.items() if k.startswith(part))

    assert not moved(1, 2, "backbone")
    assert moved(1, 2, "dino_head.mlp")
    assert moved(2, 6, "backbone")


def test_the_result_is_the_teacher_and_loads_as_a_backbone(configured, tmp_path):
    path = pretrain(configured("epochs=1"))
    backbone, _ = load_backbone(path)
    teacher = trained(tmp_path / "out")["teacher"]
    for name, value in backbone.named_parameters():
        torch.testing.assert_close(value, teacher[f"backbone.{name}"], rtol=1e-3, atol=1e-4)
    from_checkpoint = open_backbone(tmp_path / "out" / "checkpoint-0000008.pt", "tiny")
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            from_checkpoint(image).cls, backbone(image).cls, rtol=1e-2, atol=1e-2
        )


def test_a_run_goes_on_from_backbone_and_heads_of_another(configured, tmp_path):
    pretrain(configured("epochs=1"))
    first = tmp_path / "out" / "checkpoint-0000008.pt"
    options = (f"model.weights={first}", f"model.heads={first}", "heads.steps=0", "epochs=0.25")
    options += ("optimizer.lr=1e-12", "optimizer.warmup_epochs=0", "optimizer.final_lr=0")
    pretrain(configured(*options, f"out={tmp_path / 'next'}"))
    teacher = torch.load(first, weights_only=True)["teacher"]
    for name, value in trained(tmp_path / "next")["student"].items():
        torch.testing.assert_close(value, teacher[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "kind", "words"),
    [
        (["model.weights=absent.safetensors"], FileNotFoundError, "absent.safetensors"),
        (["model.weights=OTHER"], ModelFileError, "another architecture"),
        (["model.heads=OTHER"], ModelFileError, "no dino_head"),
        (["data.sources=[absent]"], FileNotFoundError, "absent"),
        (["batch=16"], ValueError, "cannot be drawn from 8"),
        (["device=cuda:77"], ValueError, "cuda:77"),
    ],
)
def test_a_run_that_cannot_have_what_it_asks_for_does_not_start(
    configured, tmp_path, overrides, kind, words
):
    torch.save(
        {"cls_token": torch.zeros(1, 1, 96), "patch_embed.proj.weight": torch.zeros(96, 3, 8, 8)},
        tmp_path / "other.pth",
    )
    overrides = [word.replace("OTHER", str(tmp_path / "other.pth")) for word in overrides]
    with pytest.raises(kind, match=words):
        pretrain(configured(*overrides))
    assert not (tmp_path / "out" / "log.jsonl").exists()


def test_the_gate_stops_heads_that_do_not_learn(configured):
    with pytest.raises(RuntimeError, match="the heads do not learn"):
        pretrain(configured("heads.gate=0.5", "epochs=1"))


def test_a_checkpoint_of_another_order_is_refused(configured):
    pretrain(configured("epochs=0.25"))
    with pytest.raises(ValueError, match="order of samples depends on it"):
        pretrain(configured("seed=1"))
    with pytest.raises(ValueError, match="another network"):
        pretrain(configured("heads.prototypes=16"))


def test_looks_are_written_with_their_step_and_change_nothing(configured, tmp_path):
    pretrain(configured("epochs=1", "look_every=4", "look_fields=4"))
    pretrain(configured("epochs=1", f"out={tmp_path / 'blind'}"))
    one, other = trained(tmp_path / "out"), trained(tmp_path / "blind")
    assert_same_state(one, other)
    looks = [entry for entry in log(tmp_path / "out") if "look/step" in entry]
    assert [entry["look/step"] for entry in looks] == [4, 8]
    for entry in looks:
        assert 1 <= entry["look/cls_rank"] <= 16
        assert -1 <= entry["look/same"] <= 1
    names = sorted(path.name for path in (tmp_path / "out" / "looks").iterdir())
    assert names == [f"000000{n}-{k}.png" for n in (4, 8) for k in ("attention", "components")]


def test_the_log_holds_all_that_moves(configured, tmp_path):
    pretrain(configured("epochs=0.25"))
    entry = log(tmp_path / "out")[-1]
    groups = {
        "loss": ("total", "dino", "ibot", "koleo", "cross"),
        "schedule": (
            "lr", "head_lr", "weight_decay", "momentum", "teacher_temperature",
            "student_temperature",
        ),
        "gradient_norm": ("backbone", "dino_head", "ibot_head"),
        "health": ("target_entropy", "marginal_entropy", "prototypes_used"),
        "system": (
            "tiles_per_s", "data_wait_s", "data_wait_share", "log_share", "cache_hit_rate",
            "s3_errors",
        ),
    }  # fmt: skip
    for group, names in groups.items():
        for name in names:
            assert np.isfinite(entry[f"{group}/{name}"]), name


def test_offline_weights_and_biases_gets_numbers_and_pictures(run_file, tmp_path):
    pytest.importorskip("wandb", reason="needs the extra train")
    words = ("epochs=0.25", "wandb=offline", "look_every=2", "look_fields=2")
    with start(run_file, *words) as process:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    (stored,) = (tmp_path / "out" / "wandb").glob("offline-run-*/run-*.wandb")
    content = stored.read_bytes()
    for name in (b"loss/dino", b"look/retrieval", b"look/attention"):
        assert name in content


def test_a_mistake_of_the_user_is_one_sentence(run_file, capsys):
    assert main([str(run_file), "model.pretrained_weights=x"]) == 2
    assert "Unknown setting 'model.pretrained_weights'" in capsys.readouterr().err
    assert main(["ssl_smok"]) == 2
    assert "one of ssl_1gpu, ssl_8gpu, ssl_smoke" in capsys.readouterr().err
