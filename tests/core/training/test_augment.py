"""Changes of the pixel values: what each does, and that the result is normalized."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from napari_dinocell.core.intensity import CLIP, intensity_range, normalize
from napari_dinocell.core.training.augment import AugmentConfig, Pixels, change_pixels

SHAPE = (96, 96)


def rng(seed=0):
    return np.random.default_rng(seed)


def gray(seed=0):
    """A whole plane as crop, and all of its pixels as sample."""
    texture = ndimage.gaussian_filter(rng(seed).random(SHAPE), 3)
    crop = normalize(texture, intensity_range(texture))[None]
    return Pixels(crop, crop.reshape(1, -1))


def color(seed=0):
    textures = np.stack([ndimage.gaussian_filter(rng(seed + c).random(SHAPE), 3) for c in range(3)])
    plane = np.moveaxis(textures, 0, 2)
    crop = np.ascontiguousarray(np.moveaxis(normalize(plane, intensity_range(plane)), 2, 0))
    return Pixels(crop, crop.reshape(3, -1))


def changed(pixels, seed=0, **changes):
    return change_pixels(pixels, AugmentConfig.off(**changes), rng(seed)).crop


@pytest.mark.parametrize("pixels", [gray(), color()])
def test_nothing_enabled_changes_nothing(pixels):
    assert changed(pixels) is pixels.crop


def test_every_probability_can_be_turned_off():
    off = AugmentConfig.off().model_dump()
    ranges = {k for k in off if k.endswith(("_range", "_limit", "_spacing"))}
    assert all(off[name] == 0 for name in off.keys() - ranges)
    assert all(off[name] == AugmentConfig().model_dump()[name] for name in ranges)


def test_unknown_keys_and_impossible_probabilities_are_refused():
    with pytest.raises(ValidationError, match="gama"):
        AugmentConfig(gama=0.5)
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        AugmentConfig(gamma=1.5)
    with pytest.raises(ValidationError, match="scale_range"):
        AugmentConfig(scale_range=(1.5, 0.5))
    with pytest.raises(ValidationError, match="gamma_range"):
        AugmentConfig(gamma_range=(0.0, 1.0))


@pytest.mark.parametrize(
    "name", ["gamma", "illumination", "blur", "noise", "invert_gray", "stretch", "tint"]
)
def test_each_change_of_gray_acts_alone_and_deterministically(name):
    start = gray()
    a, b = changed(start, 1, **{name: 1.0}), changed(start, 1, **{name: 1.0})
    np.testing.assert_array_equal(a, b)
    assert a.shape[0] == (3 if name == "tint" else 1)
    assert np.abs(a - start.crop).max() > 1e-3
    np.testing.assert_array_equal(start.crop, gray().crop)


@pytest.mark.parametrize(
    "name",
    ["stain", "color_gain", "channel_shuffle", "channel_dropout", "to_gray", "invert_color"],
)
def test_each_change_of_color_acts_alone(name):
    start = color()
    result = changed(start, 1, **{name: 1.0})
    assert result.shape[0] == (1 if name == "to_gray" else 3)
    assert np.abs(result - start.crop).max() > 1e-3
    assert changed(gray(), 1, **{name: 1.0}) is not None


@pytest.mark.parametrize("name", ["gamma", "illumination", "noise", "invert_gray"])
@pytest.mark.parametrize("seed", range(5))
def test_changed_plane_is_normalized_as_inference_would(name, seed):
    result = changed(gray(seed), seed, **{name: 1.0})
    # The sample is the whole plane here, so the percentiles of the result are those of inference.
    low, high = np.percentile(result, (1.0, 99.8))
    # Noise differs between crop and sample, and the sample meets the shading at random places.
    tolerance = {"noise": 0.05, "illumination": 0.25}.get(name, 1e-4)
    assert low == pytest.approx(0, abs=tolerance)
    assert high == pytest.approx(1, abs=tolerance)


def test_inverted_plane_equals_the_normalized_inverse_of_the_raw_plane():
    raw = ndimage.gaussian_filter(rng(4).random(SHAPE), 3) ** 3
    crop = normalize(raw, intensity_range(raw))[None]
    inverse = normalize(-raw, intensity_range(-raw))
    result = changed(Pixels(crop, crop.reshape(1, -1)), invert_gray=1.0)[0]
    np.testing.assert_allclose(result, inverse, atol=1e-4)


def test_gamma_keeps_the_order_of_pixels():
    start = gray()
    for seed in range(5):
        result = changed(start, seed, gamma=1.0)
        before, after = start.crop.ravel(), result.ravel()
        order = np.argsort(before)
        assert (np.diff(after[order]) >= -1e-6).all()


def test_crop_without_cells_is_not_blown_up_to_noise():
    ground = 0.02 * rng().standard_normal((1, *SHAPE)).astype(np.float32)
    sample = np.concatenate([ground.ravel(), np.ones(5000, np.float32)])[None]
    for seed in range(5):
        result = changed(Pixels(ground, sample), seed, invert_gray=1.0, gamma=1.0)
        assert result.std() < 0.2


def test_noise_is_no_stronger_than_its_limit():
    flat = np.full((1, 256, 256), 0.5, np.float32)
    ramp = np.linspace(0, 1, 8192, dtype=np.float32)[None]
    for seed in range(6):
        result = change_pixels(Pixels(flat, ramp), AugmentConfig.off(noise=1.0), rng(seed)).crop
        # Read and shot noise of at most 0.1 each, the latter scaled by the value.
        assert 0 < result.std() <= 0.1 * np.sqrt(1.5) * 1.05
        assert result.mean() == pytest.approx(0.5, abs=0.1)


def test_stain_of_strength_one_changes_nothing_and_white_stays_white():
    start = color()
    inside = Pixels(np.clip(start.crop, 0.05, 1), np.clip(start.sample, 0.05, 1))
    result = change_pixels(inside, AugmentConfig.off(stain=1.0, stain_limit=0.0), rng()).sample
    span = np.percentile(inside.sample, (1.0, 99.8))
    expected = (inside.sample - span[0]) / (span[1] - span[0])
    np.testing.assert_allclose(result, np.clip(expected, *CLIP), atol=1e-3)
    white = Pixels(np.ones((3, 8, 8), np.float32), inside.sample)
    result = change_pixels(white, AugmentConfig.off(stain=1.0), rng(3)).crop
    np.testing.assert_allclose(result, result[0, 0, 0], atol=1e-5)


def test_shuffled_channels_are_the_same_channels():
    start = color()
    results = [changed(start, seed, channel_shuffle=1.0) for seed in range(10)]
    for result in results:
        assert {np.round(c, 3).tobytes() for c in np.sort(result.reshape(3, -1))} == {
            np.round(c, 3).tobytes() for c in np.sort(results[0].reshape(3, -1))
        }
    assert len({r.tobytes() for r in results}) > 2


def test_values_stay_in_the_range_of_inference():
    for seed in range(20):
        for start in (gray(seed), color(seed)):
            result = change_pixels(start, AugmentConfig(), rng(seed)).crop
            assert np.isfinite(result).all()
            assert CLIP[0] <= result.min() <= result.max() <= CLIP[1]
            assert result.dtype == np.float32
