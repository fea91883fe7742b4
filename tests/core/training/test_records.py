import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_dinocell.core.model.network import build_network
from napari_dinocell.core.training.augment import AugmentConfig
from napari_dinocell.core.training.config import CropSettings
from napari_dinocell.core.training.records import CropRecords, sample_index

TINY = {
    "encoder": {"kind": "vit", "width": 24, "depth": 4, "heads": 2, "levels": (0, 1, 2, 3)},
    "decoder": {"kind": "unet", "inputs": 24, "widths": (8, 8, 8, 8), "stem": 4},
}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_network(TINY).eval()


def records(specimen, network, cache, **changes):
    settings = {
        "size": 64,
        "diameter": 18,
        "pool": 4,
        "cache": None if cache is None else str(cache),
    }
    return CropRecords(
        specimen.dataset(n=2),
        CropSettings.model_validate(settings | changes),
        AugmentConfig(),
        seed=3,
        encoder=network,
        teacher=network,
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 1000))
def test_each_epoch_is_a_permutation_of_the_pool(pool, epoch, seed):
    order = [sample_index(epoch * pool + i, pool=pool, seed=seed) for i in range(pool)]
    assert sorted(order) == list(range(pool))


def test_without_a_pool_every_crop_is_new():
    assert [sample_index(i, pool=0, seed=1) for i in range(5)] == [0, 1, 2, 3, 4]


def test_crops_read_back_equal_crops_made(specimen, network, tmp_path):
    made = records(specimen, network, tmp_path / "cache").batch([2, 0])
    read = records(specimen, network, tmp_path / "cache").batch([2, 0])
    for name in ("image", "distance", "labels", "teacher"):
        assert torch.equal(getattr(made, name), getattr(read, name)), name
    for one, other in zip(made.features, read.features, strict=True):
        assert torch.equal(one, other)


def test_a_record_holds_features_of_its_own_pixels(specimen, network):
    batch = records(specimen, network, None).batch([1])
    with torch.no_grad():
        expected = network.features(batch.image)
    for cached, level in zip(batch.features, expected, strict=True):
        torch.testing.assert_close(cached.float(), level, atol=2e-3, rtol=2e-3)


def test_a_damaged_record_is_made_again(specimen, network, tmp_path):
    first = records(specimen, network, tmp_path).batch([0])
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:50])
    again = records(specimen, network, tmp_path).batch([0])
    assert torch.equal(first.image, again.image)


def test_the_folder_stays_within_its_bound(specimen, network, tmp_path):
    bound = 200_000
    records(specimen, network, tmp_path, cache_gb=bound / 1e9).batch([0, 1, 2, 3])
    held = sum(f.stat().st_size for f in tmp_path.rglob("*.safetensors"))
    assert 0 < held <= bound * 1.05  # headers of the files are not counted


def test_other_weights_or_other_settings_never_share_records(specimen, network, tmp_path):
    records(specimen, network, tmp_path / "cache").batch([0])
    records(specimen, network, tmp_path / "cache", lift=0.1).batch([0])
    torch.manual_seed(1)
    records(specimen, build_network(TINY).eval(), tmp_path / "cache").batch([0])
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_pixels_that_nobody_annotated_are_marked(specimen):
    plane, labels = specimen.discs((160, 200), 9, 60)
    labels = labels.astype(np.int32)
    labels[:, 100:] = -1
    dataset = specimen.dataset(n=1)
    object.__setattr__(dataset[0], "labels", lambda: labels)
    cropped = CropRecords(dataset, CropSettings(size=96, diameter=18), AugmentConfig.off(), seed=0)
    batch = cropped.batch(range(8))
    assert (batch.labels == -1).any()
    assert (batch.labels >= 0).any()
    assert plane.shape == labels.shape
