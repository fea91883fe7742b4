"""Segmentation of each channel by one decoder, folds over fields."""

import numpy as np
import pytest
import tifffile
import torch

from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.pretrain.channel_probe import ChannelScores, channel_probe
from napari_dinocell.core.pretrain.config import DataSettings
from napari_dinocell.core.pretrain.network import ENCODERS
from napari_dinocell.core.pretrain.run import source_settings
from napari_dinocell.core.pretrain.sources import open_fields


@pytest.fixture
def plate(tmp_path):
    """Four fields with discs in the first channel and noise in the second, three with labels."""
    (tmp_path / "labels").mkdir()
    (tmp_path / "plate").mkdir()
    y, x = np.indices((96, 96))
    for index in range(4):
        rng = np.random.default_rng(index)
        labels = np.zeros((96, 96), np.uint16)
        for cell_id, (cy, cx) in enumerate([(24, 24), (24, 72), (72, 24), (72, 72)], 1):
            cy, cx = np.array([cy, cx]) + rng.integers(-6, 7, 2)
            labels[(y - cy) ** 2 + (x - cx) ** 2 < 14**2] = cell_id
        noise = rng.normal(size=(2, 96, 96))
        stack = 3000 + 300 * noise + np.stack([20_000 * (labels > 0), 3000 * noise[1]])
        path = tmp_path / "plate" / f"w{index}.tif"
        tifffile.imwrite(path, np.clip(stack, 1, 65535).astype(np.uint16), photometric="minisblack")
        if index < 3:
            tifffile.imwrite(tmp_path / "labels" / f"BR1_w{index}.tif", labels)
    return tmp_path


def probe_of(plate, *, cut_short=None, **options):
    settings = DataSettings(sources=(str(plate / "plate"),), axes="CYX", held_out=0)
    fields, _ = open_fields(settings)
    if cut_short is not None:  # after the fields were listed, as in a manifest
        cut_short.write_bytes(cut_short.read_bytes()[:500])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = VisionTransformer(ENCODERS["tiny"]).eval()
    return channel_probe(
        backbone, fields, plate / "labels", source_settings(settings), torch.device("cpu"),
        crop=64, batch=4, **options,
    )  # fmt: skip


def test_a_channel_with_cells_is_segmented_and_one_of_noise_is_not(plate):
    scores = probe_of(plate, steps=60)
    assert set(scores.per_channel) == {"1", "2"}
    assert scores.per_channel["1"] > scores.per_channel["2"] + 0.2
    assert scores.spread == pytest.approx(abs(np.subtract(*scores.per_channel.values())))


def test_labels_must_belong_to_fields_and_to_one_each(plate):
    (plate / "labels" / "BR1_w2.tif").unlink()
    (plate / "labels" / "BR1_w1.tif").unlink()
    with pytest.raises(ValueError, match="1 of 4 fields have labels"):
        probe_of(plate)
    tifffile.imwrite(plate / "labels" / "BR2_w0.tif", np.zeros((96, 96), np.uint16))
    with pytest.raises(ValueError, match="several"):
        probe_of(plate)


def test_a_labeled_field_that_cannot_be_read_is_not_replaced_by_another(plate):
    with pytest.raises(ValueError, match=r"w1 cannot be read; take its labels out"):
        probe_of(plate, cut_short=plate / "plate" / "w1.tif")


def test_scores_are_told_with_their_spread():
    text = str(ChannelScores({"DNA": 0.5, "ER": 0.7}))
    assert text.endswith("mean 0.600, standard deviation 0.100, best minus worst 0.200")
