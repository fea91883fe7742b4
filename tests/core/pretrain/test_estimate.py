import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
import tifffile
import torch
import zarr
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from napari_dinocell.core.model.vit import VIT_S, VisionTransformer
from napari_dinocell.core.pretrain.estimate import Estimate, estimate, forward_macs, step_flop
from napari_dinocell.core.pretrain.network import ENCODERS
from napari_dinocell.core.pretrain.regularize import BlockRunning
from napari_dinocell.core.pretrain.start import make_network
from napari_dinocell.core.pretrain.step import Student, forward_backward
from napari_dinocell.core.pretrain.teacher import make_teacher

from .test_step import make_batch


@contextmanager
def counted():
    """Counter of operations; the fused attention of a CPU would not be counted."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter


@pytest.mark.parametrize("size", [32, 64])
def test_multiplications_of_a_forward_pass_are_those_that_torch_counts(size):
    backbone = VisionTransformer(ENCODERS["tiny"])
    with torch.no_grad(), counted() as counter:
        backbone(torch.zeros(1, 3, size, size))
    assert 2 * forward_macs(ENCODERS["tiny"], size) == counter.get_total_flops()


def test_a_crop_of_224_costs_45_gflop():
    assert 2 * forward_macs(VIT_S, 224) == pytest.approx(45.1e9, rel=0.002)


@pytest.mark.parametrize(("cross", "gram"), [(0, 0), (0.5, 0), (0.5, 1)])
def test_operations_of_a_step_are_nearly_those_that_torch_counts(configured, cross, gram):
    words = ("model.drop_path=0", f"loss.cross={cross}", f"loss.gram={gram}", "batch=4")
    config = configured(*words)
    network = make_network(config)
    student = Student(network, BlockRunning(), config.model.rescale, config.seed)
    with counted() as counter:
        forward_backward(
            student, make_teacher(network), make_batch(config), config,
            step=0, temperature=0.05, anchor=make_teacher(network) if gram else None,
        )  # fmt: skip
    # torch also counts the crops' resampling, and no gradient of the first layer's input.
    assert step_flop(config) == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_a_dry_run_extrapolates_what_it_measured_and_writes_nothing(configured, tmp_path, fields):
    config = configured(f"data.cache={tmp_path / 'cache'}")
    found = estimate(config)
    stored = sum(path.stat().st_size for path in fields.rglob("*.tif")) / 8e6
    assert found.field_mb == pytest.approx(stored)
    assert (found.n_fields, found.n_steps, found.n_tiles, found.n_reads) == (8, 20, 80, 40)
    assert found.total_gb == pytest.approx(40 * stored / 1e3)
    assert found.compute_h == pytest.approx(20 * found.step_s / 3600)
    assert found.step_s > 0
    text = str(found)
    for word in ("GB", "h computing", "TFLOP", "memory", "$"):
        assert word in text
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache").exists()


def test_ome_zarr_images_are_measured_by_their_pixels(configured, tmp_path, fields):
    for path in fields.rglob("*.tif"):
        group = zarr.open_group(tmp_path / "zarr" / f"{path.stem}.ome.zarr", mode="w")
        group.create_array("0", data=tifffile.imread(path))
        axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space"} for n in "yx")]
        scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
        dataset = {"path": "0", "coordinateTransformations": scale}
        image = {"axes": axes, "datasets": [dataset]}
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    found = estimate(configured(f"data.sources=[{tmp_path / 'zarr'}]"))
    assert found.field_mb == pytest.approx(3 * 80 * 80 * 2 / 1e6)
    assert found.read_h > 0


def test_processes_of_a_dry_run_measure_together_and_one_of_them_reports(run_file, fields):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["-m", "napari_dinocell.core.train_ssl", str(run_file), "--dry-run"]
    result = subprocess.run(
        [sys.executable, *torchrun, *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("fields ") == 1
    assert " on 2 x cpu; " in result.stdout
    assert "20 steps, 80 tiles, 40 reads (5.0 per field)" in result.stdout
    stored = sum(path.stat().st_size for path in fields.rglob("*.tif")) / 8e6
    assert float(re.search(r"of ([\d.]+) MB", result.stdout)[1]) == pytest.approx(stored, abs=0.01)


def test_the_share_of_the_peak_is_that_of_all_devices():
    one = Estimate(8, 20, 80, 40, 1.0, 10.0, 1.0, 989 / 2, 4.0, "NVIDIA H100 80GB HBM3")
    assert ", 50% of its peak" in str(one)
    eight = replace(one, n_devices=8, tflop=989 * 2)
    assert " on 8 x NVIDIA H100" in str(eight)
    assert ", 25% of its peak" in str(eight)
