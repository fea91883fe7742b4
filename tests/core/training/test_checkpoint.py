import os
import signal
import subprocess
import sys

import pytest
import torch

from napari_dinocell.core.training import checkpoint


def state(value):
    return {"weights": torch.full((4,), float(value)), "best": 0.5}


def test_what_is_saved_loads_back(tmp_path):
    checkpoint.save(tmp_path, 7, state(3), keep=2)
    loaded = checkpoint.load("auto", tmp_path)
    assert loaded is not None
    assert loaded["step"] == 7
    assert torch.equal(loaded["weights"], torch.full((4,), 3.0))
    assert loaded["environment"]["torch"] == torch.__version__


def test_only_the_newest_are_kept(tmp_path):
    for step in (1, 2, 30):
        checkpoint.save(tmp_path, step, state(step), keep=2)
    assert [p.name for p in sorted(tmp_path.iterdir())] == [
        "checkpoint-0000002.pt",
        "checkpoint-0000030.pt",
    ]


def test_auto_passes_over_a_damaged_newest(tmp_path):
    checkpoint.save(tmp_path, 1, state(1), keep=3)
    newest = checkpoint.save(tmp_path, 2, state(2), keep=3)
    newest.write_bytes(newest.read_bytes()[:100])
    loaded = checkpoint.load("auto", tmp_path)
    assert loaded is not None
    assert loaded["step"] == 1


def test_never_and_an_empty_folder_start_anew(tmp_path):
    assert checkpoint.load("auto", tmp_path) is None
    checkpoint.save(tmp_path, 1, state(1), keep=1)
    assert checkpoint.load("never", tmp_path) is None


def test_a_named_checkpoint_must_be_there_and_whole(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        checkpoint.load(str(tmp_path / "absent.pt"), tmp_path)
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        checkpoint.load(str(tmp_path / "junk.pt"), tmp_path)


def test_a_pickle_with_code_is_not_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    torch.save({"step": 1, "evil": Evil()}, tmp_path / "checkpoint-0000001.pt")
    assert checkpoint.load("auto", tmp_path) is None
    assert not (tmp_path / "executed").exists()


def test_a_change_of_threads_is_warned_about(tmp_path, caplog):
    path = checkpoint.save(tmp_path, 1, state(1), keep=1)
    loaded = torch.load(path, weights_only=True)
    loaded["environment"]["threads"] = "999"
    torch.save(loaded, path)
    checkpoint.load("auto", tmp_path)
    assert "not bit by bit" in caplog.text


KILLED = """
import itertools, sys, torch
from pathlib import Path
from napari_dinocell.core.training import checkpoint
for step in itertools.count(1):
    checkpoint.save(Path(sys.argv[1]), step, {"weights": torch.full((500_000,), float(step))}, keep=2)
    print(step, flush=True)
"""


def test_a_process_killed_while_saving_leaves_a_good_checkpoint(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        for _ in range(5):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.wait()
    loaded = checkpoint.load("auto", tmp_path)
    assert loaded is not None
    assert loaded["step"] >= last
    assert (loaded["weights"] == loaded["step"]).all()
    # What it left half-written goes with the next one; what others are writing stays.
    (tmp_path / f"checkpoint-0000001.{process.pid}.part").write_bytes(b"half")
    (tmp_path / f"checkpoint-0000001.{os.getppid()}.part").write_bytes(b"half")
    checkpoint.save(tmp_path, last + 100, {"weights": loaded["weights"]}, keep=2)
    assert [p.name for p in tmp_path.glob("*.part")] == [f"checkpoint-0000001.{os.getppid()}.part"]
