from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_dinocell.core.pretrain.augment import Photometry
from napari_dinocell.core.pretrain.channels import ChannelGroup
from napari_dinocell.core.pretrain.strategies import make_strategy
from napari_dinocell.core.pretrain.views import CropRanges, SampleViews, draw_views, render_views

SMALL = CropRanges(global_size=32, local_size=16, n_local=3)


def tile(n_channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n_channels, 64, 64)).astype(np.float32)


def draw(
    channels: np.ndarray, sample: int = 0, strategy: str = "mean_vs_single", **options: object
) -> SampleViews:
    options = {"seed": 5, "crops": SMALL} | options
    available = options.pop("available", (True,) * len(channels))
    return draw_views(
        channels, available, sample=sample, strategy=make_strategy(strategy), **options
    )


def without_photometry(views: SampleViews) -> SampleViews:
    def plain(group):
        return tuple(v and replace(v, photometry=Photometry()) for v in group)

    return SampleViews(plain(views.globals), plain(views.locals), plain(views.answers))


def test_invariant_24_views_depend_on_seed_and_sample_alone():
    first = draw(tile(), sample=3)
    np.random.default_rng(0).random(5)
    assert draw(tile(), sample=3) == first
    assert draw(tile(), sample=4) != first
    assert draw(tile(), sample=3, seed=6) != first


def test_invariant_24_pixels_do_not_depend_on_the_rest_of_the_batch():
    tiles = np.stack([tile(seed=s) for s in range(4)])
    views = [draw(t, sample=s, with_answers=True) for s, t in enumerate(tiles)]
    whole = render_views(torch.from_numpy(tiles), views)
    half = render_views(torch.from_numpy(tiles[2:]), views[2:])
    for a, b in zip(whole, half, strict=True):
        torch.testing.assert_close(
            a[:, 2:], b, rtol=0, atol=1e-5
        )  # gamma magnifies rounding near 0


def test_crops_come_crop_first_in_their_sizes():
    tiles = np.stack([tile(seed=s) for s in range(4)])
    crops = render_views(torch.from_numpy(tiles), [draw(t) for t in tiles])
    assert crops.globals.shape == (2, 4, 1, 32, 32)
    assert crops.locals.shape == (3, 4, 1, 16, 16)
    assert crops.answers is None
    five = render_views(torch.from_numpy(tiles), [draw(t, strategy="pairwise") for t in tiles])
    assert five.globals.shape == (5, 4, 1, 32, 32)


def test_no_local_crops_are_possible():
    crops = render_views(
        torch.from_numpy(tile()[None]), [draw(tile(), crops=replace(SMALL, n_local=0))]
    )
    assert len(crops.locals) == 0


def test_all_crops_of_a_sample_lie_elsewhere():
    views = draw(tile())
    assert len({v.geometry for v in (*views.globals, *views.locals)}) == 5


def test_crops_lie_as_before_when_another_strategy_renders_them():
    a, b = draw(tile()), draw(tile(), strategy="separate")
    assert [v.geometry for v in a.globals] == [v.geometry for v in b.globals]
    assert [v.photometry for v in a.locals] == [v.photometry for v in b.locals]


def test_invariant_18_answers_share_the_geometry_and_nothing_else():
    for sample in range(20):
        views = draw(tile(), sample=sample, with_answers=True)
        for view, answer in zip(views.globals, views.answers, strict=True):
            assert answer.geometry == view.geometry
            assert answer.rendering != view.rendering
            assert answer.photometry != view.photometry


def test_invariant_18_asking_for_answers_leaves_all_other_pixels_bit_equal():
    tiles = torch.from_numpy(tile()[None])
    plain = render_views(tiles, [draw(tile())])
    asked = render_views(tiles, [draw(tile(), with_answers=True)])
    assert torch.equal(plain.globals, asked.globals)
    assert torch.equal(plain.locals, asked.locals)
    assert asked.answers.shape == asked.globals.shape


def test_invariant_18_patches_of_view_and_answer_show_the_same_place():
    base = tile(1)
    field = np.concatenate([base, 0.5 * base + 0.2, 2 * base])  # increasing functions of one image
    views = without_photometry(draw(field, with_answers=True))
    crops = render_views(torch.from_numpy(field[None]), [views])
    for view, answer in zip(crops.globals[:, 0, 0], crops.answers[:, 0, 0], strict=True):
        patches = [
            torch.nn.functional.unfold(x[None, None], 8, stride=8)[0].T for x in (view, answer)
        ]
        centered = [p - p.mean(dim=1, keepdim=True) for p in patches]
        a, b = (p / p.norm(dim=1, keepdim=True) for p in centered)
        assert torch.equal((a @ b.T).argmax(dim=1), torch.arange(16))


def test_field_with_one_channel_has_no_answer_and_is_marked():
    one, three = tile(1), tile(3)
    tiles = np.stack([np.concatenate([one, np.zeros_like(three[:2])]), three])
    views = [draw(one, with_answers=True), draw(three, with_answers=True)]
    crops = render_views(torch.from_numpy(tiles), views)
    assert crops.has_answer.tolist() == [[False, True], [False, True]]
    assert (crops.answers[:, 0] == 0).all()
    assert (crops.answers[:, 1] != 0).any()


def test_padding_of_fields_with_fewer_channels_is_never_shown():
    two = tile(2)
    padded = [np.concatenate([two, np.full((2, 64, 64), fill, np.float32)]) for fill in (0, 1e6)]
    a, b = (render_views(torch.from_numpy(p[None]), [draw(two)]) for p in padded)
    assert torch.equal(a.globals, b.globals)


def test_color_and_gray_views_share_a_batch_and_gray_planes_stay_equal():
    groups = (ChannelGroup((0, 1, 2), "joint"), ChannelGroup((3,), "joint"))
    field = tile(4)
    samples = [draw(field, sample=s, groups=groups, strategy="separate") for s in range(8)]
    crops = render_views(torch.from_numpy(field[None]).expand(8, -1, -1, -1), samples)
    assert crops.globals.shape == (2, 8, 3, 32, 32)
    is_color = [s.globals[0].rendering.n_planes == 3 for s in samples]
    assert set(is_color) == {False, True}
    for i, color in enumerate(is_color):
        planes = crops.globals[0, i]
        assert torch.equal(planes[0], planes[1]) == (not color)


def test_empty_channel_is_not_shown():
    for sample in range(10):
        views = draw(tile(), sample=sample, available=(True, False, True))
        shown = {r.rendering.name for r in (*views.globals, *views.locals)}
        assert shown <= {"mean", "channel 0", "channel 2"}
        assert all(row[1] == 0 for v in views.globals for row in v.rendering.weights)


def test_crops_avoid_background():
    field = np.zeros((1, 64, 64), np.float32)
    field[:, :20, :20] = tile(1)[:, :20, :20]
    lively = blind = 0
    for sample in range(60):
        for view in draw(field, sample=sample).locals:
            lively += view.geometry.top < 20 and view.geometry.left < 20
        for view in draw(field, sample=sample, crops=replace(SMALL, n_redraws=0)).locals:
            blind += view.geometry.top < 20 and view.geometry.left < 20
    assert lively > 1.5 * blind


def test_second_global_crop_is_blurred_less_often():
    views = [draw(tile(), sample=s) for s in range(300)]
    first, second = (
        np.mean([v.globals[g].photometry.blur_sigma > 0 for v in views]) for g in (0, 1)
    )
    assert first == pytest.approx(0.5, abs=0.1)
    assert second == pytest.approx(0.1, abs=0.06)


def test_availability_of_another_field_is_refused():
    with pytest.raises(ValueError, match=r"expected \(C, Y, X\) and C"):
        draw(tile(), available=(True,))
