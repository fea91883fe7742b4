"""Measures of agreement on features whose answer is known, and the verdict on them."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu, spearmanr

from napari_dinocell.core.model.files import save_backbone
from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.pretrain import agreement
from napari_dinocell.core.pretrain.config import DataSettings
from napari_dinocell.core.pretrain.consistency import main, measure
from napari_dinocell.core.pretrain.gallery import (
    AttentionProbe,
    Embedded,
    GalleryTile,
    embed,
    read_gallery,
)
from napari_dinocell.core.pretrain.health import feature_spread, rank_me
from napari_dinocell.core.pretrain.looks import attention_sheet, component_sheet
from napari_dinocell.core.pretrain.network import ENCODERS
from napari_dinocell.core.pretrain.open import open_backbone
from napari_dinocell.core.pretrain.run import source_settings
from napari_dinocell.core.pretrain.sources import open_fields
from napari_dinocell.core.training.config import dump_config

N_GROUPS, N_TILES, N_CHANNELS, N_PATCHES, WIDTH = 6, 5, 3, 16, 64


def report_of(make_cls):
    """Report on features ``make_cls(rng, field (D,), channel (C, D)) -> (C, D)`` of each tile."""
    rng = np.random.default_rng(0)
    channels = rng.normal(size=(N_CHANNELS, WIDTH))
    tiles, features = [], []
    for index in range(N_GROUPS * N_TILES):
        field = rng.normal(size=WIDTH)
        cls = make_cls(rng, field, channels).astype(np.float32)
        patches = rng.normal(size=(N_CHANNELS, N_PATCHES, WIDTH)).astype(np.float32)
        attention = rng.random((N_CHANNELS, 2, N_PATCHES)).astype(np.float32)
        pixels = rng.random((N_CHANNELS, 32, 32)).astype(np.float32)
        names = ("DNA", "ER", "AGP")
        tiles.append(GalleryTile(pixels, names, str(index), f"plate{index % N_GROUPS}"))
        features.append(Embedded(cls, patches, attention))
    return measure(tiles, features)


def noise(rng):
    return rng.normal(size=(N_CHANNELS, WIDTH))


FEATURES = {
    "Consistent": lambda rng, field, channel: field + 0.2 * channel + 0.1 * noise(rng),
    "Collapsed": lambda rng, field, channel: 1.0 + 1e-3 * (field + 0.1 * noise(rng)),
    "Inconsistent": lambda rng, field, channel: channel + noise(rng),
}


@pytest.mark.parametrize("verdict", FEATURES)
def test_the_verdict_tells_consistent_collapsed_and_stain_bound_features_apart(verdict):
    assert report_of(FEATURES[verdict]).verdict().startswith(verdict)


def test_a_constant_network_has_cosine_1_and_fails():
    report = report_of(lambda rng, field, channel: np.ones((N_CHANNELS, WIDTH)))
    assert report.same.value == pytest.approx(1)
    assert report.order.value == pytest.approx(0.5)
    assert report.retrieval.value == pytest.approx(report.chance.value)
    assert report.verdict().startswith("Collapsed")


def test_a_shared_mean_gives_unrelated_features_a_high_cosine_but_no_margin():
    report = report_of(lambda rng, field, channel: 3.0 + noise(rng))
    assert report.same.value == pytest.approx(0.9, abs=0.02)
    assert report.margin.value == pytest.approx(0, abs=0.05)
    assert not report.verdict().startswith("Consistent")


def test_centering_leaves_other_tiles_at_minus_one_over_the_rest():
    report = report_of(FEATURES["Consistent"])
    assert report.centered_other.value == pytest.approx(-1 / (N_TILES - 1), abs=0.02)


def test_cosine_measures_equal_loops_over_pairs():
    z = np.random.default_rng(1).normal(size=(4, 3, 8))
    same, channel, other = [], [], []
    for f in range(4):
        for g in range(4):
            for i in range(3):
                for j in range(3):
                    a, b = z[f, i], z[g, j]
                    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                    if f == g and i != j:
                        same.append(cosine)
                    elif f != g:
                        (channel if i == j else other).append(cosine)
    cosines = agreement.similarities(z)
    expected = [np.mean(x) for x in (same, channel, other)]
    assert agreement.cosine_triplet(cosines) == pytest.approx(expected)
    u = mannwhitneyu(same, channel).statistic
    assert agreement.ordering(cosines) == pytest.approx(u / len(same) / len(channel))


def test_rank_correlations_are_spearmans():
    maps = np.random.default_rng(2).random((2, 3, 20))
    correlations = agreement.rank_correlations(maps)
    expected = spearmanr(maps[0, 1], maps[1, 2]).statistic
    assert correlations[1, 2, 0, 1] == pytest.approx(expected)


def test_patches_find_their_place_in_another_channel_or_do_so_by_chance():
    rng = np.random.default_rng(3)
    place = rng.normal(size=(1, 36, 12))
    hits, chance = agreement.dense_retrieval(np.concatenate([place, place + 0.1]), 6)
    assert hits == 1
    assert chance == pytest.approx((4 * 4 + 16 * 6 + 16 * 9) / 36**2)
    hits, _ = agreement.dense_retrieval(rng.normal(size=(2, 36, 12)), 6)
    assert hits == pytest.approx(chance, abs=0.15)


def test_intervals_are_over_groups():
    interval = agreement.bootstrap([0.0, 1.0] * 50)
    assert interval.value == 0.5
    assert interval.low == pytest.approx(0.4, abs=0.02)
    assert interval.high == pytest.approx(0.6, abs=0.02)
    assert np.isnan(agreement.bootstrap([0.3]).low)


def test_effective_rank_is_that_of_the_subspace_and_spread_1_for_all_directions():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(32, 4, generator=generator)).Q
    flat = torch.randn(4000, 4, generator=generator) @ basis.T
    assert rank_me(flat) == pytest.approx(4, rel=0.01)
    assert feature_spread(torch.randn(4000, 32, generator=generator)) == pytest.approx(1, rel=0.02)
    assert feature_spread(torch.ones(10, 32)) == pytest.approx(0, abs=1e-6)


def test_measuring_needs_two_tiles_of_a_group_with_two_channels():
    tile = GalleryTile(np.zeros((1, 32, 32), np.float32), ("DNA",), "f", "g")
    seen = Embedded(np.ones((1, 4)), np.ones((1, 16, 4)), np.ones((1, 2, 16)))
    with pytest.raises(ValueError, match="no two are of one group"):
        measure([tile, tile], [seen, seen])


@pytest.fixture(scope="module")
def backbone():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VisionTransformer(ENCODERS["tiny"]).eval()


def test_attention_is_what_the_network_uses(backbone):
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad(), AttentionProbe(backbone) as probe:
        seen = {}
        handle = backbone.blocks[-1].attn.proj.register_forward_pre_hook(
            lambda _, inputs: seen.update(mixed=inputs[0])
        )
        backbone(image)
        weights = probe.cls_to_patches()  # (B, H, N)
        handle.remove()
        tokens, _ = probe._seen
        config = backbone.config
        values = backbone.blocks[-1].attn.qkv(tokens)[..., 2 * config.width :]
        values = values.unflatten(-1, (config.heads, -1)).transpose(1, 2)  # (B, H, N, D_head)
    assert (weights.sum(dim=-1) < 1).all()
    # What the patches do not explain of the mixed values comes from the five prefix tokens.
    mixed = seen["mixed"][:, 0].unflatten(-1, (config.heads, -1))
    rest = mixed - torch.einsum("bhn,bhnd->bhd", weights, values[:, :, backbone.n_prefix :])
    prefix = values[:, :, : backbone.n_prefix]
    solved = torch.linalg.lstsq(prefix.mT.double(), rest[..., None].double()).solution[..., 0]
    torch.testing.assert_close(solved.sum(-1).float() + weights.sum(-1), torch.ones(2, 3))
    assert (solved > 0).all()


def test_embedding_does_not_depend_on_the_batch_and_pictures_have_a_row_per_tile(backbone):
    rng = np.random.default_rng(0)
    tiles = [
        GalleryTile(rng.random((n, 32, 32)).astype(np.float32), ("c",) * n, str(n), "g")
        for n in (2, 3)
    ]
    one, other = embed(backbone, tiles, batch=1), embed(backbone, tiles, batch=4)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.cls, b.cls, rtol=1e-4, atol=1e-5)
    assert [f.cls.shape for f in one] == [(2, 96), (3, 96)]
    assert attention_sheet(tiles[1], one[1]).shape == (3 * 114, (1 + 3) * 114, 3)
    assert component_sheet(tiles, one).shape == (2 * 114, 6 * 114, 3)


OPTIONS = ("--side", "32", "--tiles-per-field", "4", "--device", "cpu", "--json")


def printed(backbone, folder, tmp_path, capsys, *options):
    """Figures that the command prints of a backbone, on fields below a folder."""
    save_backbone(tmp_path / "b.safetensors", backbone)
    assert main([str(tmp_path / "b.safetensors"), str(folder), *OPTIONS, *map(str, options)]) == 0
    return json.loads(capsys.readouterr().out)["backbone"]


def gallery(folder, cut_short=None):
    """Tiles of all fields below a folder, of which one file is cut short after it was listed."""
    data = DataSettings(sources=(str(folder),), axes="CYX", held_out=0)
    listed, _ = open_fields(data)
    if cut_short is not None:
        cut_short.write_bytes(cut_short.read_bytes()[:500])
    return read_gallery(listed, source_settings(data), side=32, tiles_per_field=4)


def test_the_command_prints_what_is_measured_on_all_fields(backbone, fields, tmp_path, capsys):
    report = printed(backbone, fields, tmp_path, capsys, "--axes", "CYX", "--split", "all")
    tiles = gallery(fields)
    expected = measure(tiles, embed(open_backbone(tmp_path / "b.safetensors", "tiny"), tiles))
    assert report.pop("verdict") == expected.verdict()
    assert report == json.loads(json.dumps(asdict(expected)))
    assert (report["n_groups"], report["n_tiles"]) == (4, 32)
    assert report["chance"]["value"] == pytest.approx(1 / 8)


def test_the_command_looks_at_the_fields_that_the_run_held_out(
    backbone, fields, configured, tmp_path, capsys
):
    config = configured("data.held_out=0.5", "data.split_seed=3")
    (tmp_path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    _, held_out = open_fields(config.data)
    usual, _ = open_fields(DataSettings(sources=(str(fields),), axes="CYX"))
    assert 0 < len(held_out) < len(usual)  # by default no plate is held out, so all are looked at
    report = printed(backbone, fields, tmp_path, capsys, "--run-config", tmp_path / "config.yaml")
    assert report["n_tiles"] == 4 * len(held_out)
    assert report["n_groups"] == len({r.plate_id for r in held_out})


def test_a_field_that_cannot_be_read_is_left_out_and_no_other_shown_twice(fields):
    whole = gallery(fields)
    shown = [tile.field for tile in gallery(fields, fields / "plate1" / "field5.tif")]
    assert shown == [tile.field for tile in whole if not tile.field.endswith("field5")]
    assert len(shown) == 28


def test_a_single_group_decides_nothing_and_has_no_interval(backbone, fields, tmp_path, capsys):
    report = printed(backbone, fields / "plate1", tmp_path, capsys, "--axes", "CYX")
    assert report["n_groups"] == 1
    assert report["margin"]["low"] is None
    if not report["verdict"].startswith("Collapsed"):
        assert "single group" in report["verdict"]


def test_a_channel_that_no_field_has_is_named_with_those_that_there_are(
    backbone, fields, tmp_path, capsys
):
    save_backbone(tmp_path / "b.safetensors", backbone)
    words = [str(tmp_path / "b.safetensors"), str(fields), "--axes", "CYX", "--channel", "DAN"]
    assert main(words) == 2
    assert "channel DAN; there are 1, 2, 3" in capsys.readouterr().err


def test_fields_that_show_nothing_are_one_sentence(fields):
    listed, _ = open_fields(DataSettings(sources=(str(fields),), axes="CYX", held_out=0))
    with pytest.raises(ValueError, match="None of 8 fields shows anything"):
        read_gallery(listed, source_settings(DataSettings(sources=("x",))), least_std=9)
