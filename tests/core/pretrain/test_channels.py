from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_dinocell.core.pretrain.channels import ChannelGroup, FieldViews, Rendering
from napari_dinocell.core.stream.manifest import Manifest
from napari_dinocell.core.stream.records import FieldRecord
from napari_dinocell.core.stream.sources import SourceSettings
from napari_dinocell.core.stream.windows import finish

PLATE = (ChannelGroup((0, 1, 2, 3, 4)), ChannelGroup((5, 6, 7), "brightfield"))
AERIAL = (
    ChannelGroup((0, 1, 2), "joint"),
    ChannelGroup((3,), "joint"),
    ChannelGroup((4,), "joint"),
)


def views(available=(True,) * 8, groups=PLATE, seed=0, **options) -> FieldViews:
    return FieldViews(np.random.default_rng(seed), available, groups, **options)


def field(n_channels: int = 8) -> np.ndarray:
    return np.random.default_rng(1).random((n_channels, 6, 5)).astype(np.float32)


def normalized(raw: np.ndarray, folder: Path) -> tuple[np.ndarray, list[bool]]:
    """A square field as a run sees it: planes, and which show something."""
    path = folder / "field.tif"
    tifffile.imwrite(path, raw.astype(np.float32), photometric="minisblack")
    names = tuple(f"stain {c}" for c in range(len(raw)))
    manifest = Manifest([FieldRecord("s", "b", "p", "A01", "1", names, (str(path),))])
    reader = SourceSettings(n_threads=1).open(manifest, seed=0)
    try:
        read = reader.read(0)
    finally:
        reader.stop()
    return finish(read.channels, read.ranges, raw.shape[1]), [not r.is_empty for r in read.ranges]


def test_invariant_23_mean_is_the_average_of_the_fluorescence_planes():
    planes = field()
    mean = views().mean.apply(planes)
    np.testing.assert_allclose(mean, planes[:5].mean(axis=0, keepdims=True), rtol=0, atol=1e-6)


def test_invariant_23_brightfield_never_alters_the_mean():
    planes = field()
    before = views().mean.apply(planes)
    planes[5:] = 1e6
    assert np.array_equal(views().mean.apply(planes), before)


def test_invariant_23_gain_and_offset_of_the_camera_leave_the_normalized_field_unchanged(tmp_path):
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:96, :96]
    cells = 1000 * np.exp(-((yy % 24 - 12) ** 2 + (xx % 24 - 12) ** 2) / 30) + rng.normal(
        0, 5, (96, 96)
    )
    raw = np.stack([cells, cells.T + 300])
    planes, available = normalized(raw, tmp_path)
    changed, _ = normalized(raw * np.array([1.7, 0.4])[:, None, None] + 50, tmp_path)
    assert available == [True, True]
    np.testing.assert_allclose(changed, planes, rtol=0, atol=1e-3)


def test_empty_channels_are_marked_and_neither_drawn_nor_averaged(tmp_path):
    noise = np.random.default_rng(0).normal(500, 5, (64, 64))
    planes, available = normalized(np.stack([np.arange(4096.0).reshape(64, 64), noise]), tmp_path)
    assert available == [True, False]
    assert (planes[1] == 0).all()
    offer = FieldViews(np.random.default_rng(0), available)
    assert offer.parts == (Rendering(((1.0, 0.0),)),)
    assert offer.mean == offer.parts[0]


def test_all_channels_are_fluorescence_unless_said_otherwise():
    offer = FieldViews(np.random.default_rng(0), (True,) * 4)
    assert len(offer.parts) == 4
    assert offer.mean.weights == ((0.25,) * 4,)
    assert offer.brightfield is None


def test_one_brightfield_plane_per_sample_is_drawn_with_its_own_probability():
    offer = views(brightfield_share=0.2)
    rng = np.random.default_rng(0)
    drawn = [offer.single(rng) for _ in range(4000)]
    planes = {r for r in drawn if r not in offer.parts}
    assert planes == {offer.brightfield}
    assert np.mean([r == offer.brightfield for r in drawn]) == pytest.approx(0.2, abs=0.03)
    others = [sum(r == part for r in drawn) / 4000 for part in offer.parts]
    assert others == pytest.approx([0.16] * 5, abs=0.03)
    assert {views(seed=seed).brightfield.name for seed in range(40)} == {
        "channel 5",
        "channel 6",
        "channel 7",
    }


def test_brightfield_is_not_drawn_unless_asked_for():
    offer, rng = views(), np.random.default_rng(0)
    assert all(offer.single(rng) != offer.brightfield for _ in range(200))
    assert offer.brightfield not in offer.singles(rng, 50)


def test_field_of_brightfield_alone_shows_it_everywhere():
    offer = views(groups=(ChannelGroup((5, 6, 7), "brightfield"),))
    rng = np.random.default_rng(0)
    assert offer.mean == offer.brightfield
    assert offer.single(rng) == offer.brightfield
    assert offer.singles(rng, 2) == [offer.brightfield] * 2
    assert offer.other(rng, offer.mean) is None


def test_joint_channels_are_one_view_in_color_and_count_once_in_the_mean():
    offer = views((True,) * 5, AERIAL)
    color, infrared, _ = offer.parts
    planes = field(5)
    assert np.array_equal(color.apply(planes), planes[:3])
    assert np.array_equal(infrared.apply(planes), planes[3:4])
    expected = (planes[:3].mean(axis=0) + planes[3] + planes[4]) / 3
    np.testing.assert_allclose(offer.mean.apply(planes)[0], expected, atol=1e-6)


def test_joint_channels_other_than_three_are_averaged():
    offer = views((True,) * 4, (ChannelGroup((0, 1), "joint"), ChannelGroup((2, 3), "joint")))
    assert [part.weights for part in offer.parts] == [((0.5, 0.5, 0, 0),), ((0, 0, 0.5, 0.5),)]


def test_single_views_differ_while_there_are_enough():
    offer, rng = views(), np.random.default_rng(0)
    for _ in range(20):
        assert len(set(offer.singles(rng, 5))) == 5
        twelve = offer.singles(rng, 12)
        assert min(twelve.count(part) for part in offer.parts) == 2


def test_other_rendering_is_never_the_same_one():
    offer, rng = views(brightfield_share=0.3), np.random.default_rng(0)
    for rendering in (offer.mean, *offer.parts, offer.brightfield):
        others = {offer.other(rng, rendering) for _ in range(100)}
        assert rendering not in others
        assert None not in others
        assert len(others) >= 5
    assert offer.mean in {offer.other(rng, offer.parts[0]) for _ in range(100)}


def test_field_with_one_channel_has_no_other_rendering():
    offer, rng = FieldViews(np.random.default_rng(0), (True,)), np.random.default_rng(0)
    assert offer.single(rng) == offer.mean
    assert offer.other(rng, offer.mean) is None


@pytest.mark.parametrize(
    ("available", "groups", "message"),
    [
        ((False, False), None, "shows anything"),
        ((True, True), (ChannelGroup((0, 2)),), "names channel 2; the field has 0 to 1"),
        ((True, True), (ChannelGroup((0, 1)), ChannelGroup((1,), "brightfield")), "twice"),
    ],
)
def test_wrong_groups_are_named(available, groups, message):
    with pytest.raises(ValueError, match=message):
        views(available, groups)
