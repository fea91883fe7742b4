from dataclasses import asdict

import pytest
import torch

from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.pretrain.augment import PhotometryRanges
from napari_dinocell.core.pretrain.config import PhotometrySettings, SSLConfig, ViewSettings
from napari_dinocell.core.pretrain.loop import pretrain
from napari_dinocell.core.pretrain.network import ENCODERS
from napari_dinocell.core.pretrain.views import CropRanges
from napari_dinocell.core.training.config import (
    Section,
    dump_config,
    load_config,
    shipped_configs,
)

from .test_probe import discs as discs

SHIPPED = shipped_configs(self_supervised=True)


def test_a_run_reads_every_setting(configured, discs, monkeypatch, tmp_path):
    weights = {
        f"backbone.{k}": v for k, v in VisionTransformer(ENCODERS["tiny"]).state_dict().items()
    }
    torch.save(weights, tmp_path / "start.pth")
    probe = f"probe={{source: {discs}, every: 3, steps: 1, batch: 1, images: 1}}"
    words = (f"model.weights={tmp_path / 'start.pth'}", "loss.gram=1", "look_every=3", probe)
    config = configured(*words, "epochs=0.25", "heads.steps=2", "look_fields=2")
    read: set[tuple[str, str]] = set()

    def noting(self: Section, name: str) -> object:
        read.add((type(self).__name__, name))
        return object.__getattribute__(self, name)

    monkeypatch.setattr(Section, "__getattribute__", noting)
    pretrain(config)
    monkeypatch.undo()
    # These sections are handed over whole; the next test holds them against what takes them.
    handed_over = (ViewSettings, PhotometrySettings)
    sections = [type(v) for v in vars(config).values() if isinstance(v, Section)] + [SSLConfig]
    assert len(sections) == 10
    wanted = {(k.__name__, n) for k in sections if k not in handed_over for n in k.model_fields}
    assert wanted - read == set()


def test_crop_and_photometry_settings_are_those_of_what_takes_them():
    crops = ViewSettings().model_dump(exclude={"strategy", "brightfield_share"})
    assert crops == asdict(CropRanges())
    assert PhotometrySettings().model_dump() == asdict(PhotometryRanges())


@pytest.mark.parametrize("name", ["ssl_smoke", "ssl_1gpu", "ssl_8gpu"])
def test_presets_load_and_read_back(name, tmp_path):
    config = load_config(SSLConfig, SHIPPED[name])
    again = tmp_path / "again.yaml"
    again.write_text(dump_config(config), encoding="utf-8")
    assert load_config(SSLConfig, again) == config


def test_presets_of_supervised_training_and_of_this_are_apart():
    assert not SHIPPED.keys() & shipped_configs().keys()


def test_presets_of_one_and_eight_gpus_see_as_many_tiles():
    one, eight = (load_config(SSLConfig, SHIPPED[name]) for name in ("ssl_1gpu", "ssl_8gpu"))
    tiles = [c.stage_b_steps * c.batch for c in (one, eight)]
    assert tiles[0] == pytest.approx(tiles[1], rel=0.01)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimiser.lr=1", "did you mean 'optimizer.lr'"),
        ("views.stratgy=separate", "did you mean 'views.strategy'"),
        ("model.pretrained_weights=x", "Unknown setting 'model.pretrained_weights'"),
        ("views.strategy=both", "mean_vs_single"),
        ("batch=5", "tiles_per_field"),
        ("views.global_size=30", "multiple of 8"),
        ("views.global_size=512", "larger than tiles"),
        ("model.encoder=vits8-learned", "model.rescale=1"),
        ("data.sources=[]", "data.sources"),
        ("data.endpoint=127.0.0.1:9000", "data.endpoint"),
        ("views.aspect=[0, 1]", "views.aspect.0: .* greater than 0"),
        ("views.global_area=[0.9, 0.1]", "views.global_area: .* not be above the second"),
        ("photometry.gain=[2, 1]", "photometry.gain: .* not be above the second"),
        ("photometry.photons=[0, 9]", "photometry.photons.0: .* greater than 0"),
        ("loss.mask_ratio=[0.5, 1.5]", "loss.mask_ratio.1: .* less than or equal to 1"),
    ],
)
def test_a_wrong_setting_is_one_sentence(configured, override, words):
    with pytest.raises(ValueError, match=words) as caught:
        configured(override)
    assert "\n" not in str(caught.value)
