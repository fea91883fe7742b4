import torch

from napari_dinocell.core.model.files import load_backbone
from napari_dinocell.core.model.store import read_header
from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.pretrain.best import best_path, keep_best
from napari_dinocell.core.pretrain.loop import pretrain
from napari_dinocell.core.pretrain.network import ENCODERS

from .test_probe import discs as discs
from .test_runs import log


def test_only_a_better_backbone_takes_the_place_of_the_best(tmp_path):
    backbone = VisionTransformer(ENCODERS["tiny"])
    path = best_path(tmp_path, "run")
    written = [keep_best(path, backbone, score, n) for n, score in enumerate((0.3, 0.2, 0.3, 0.4))]
    assert written == [True, False, False, True]
    assert read_header(path)["step"] == "3"
    assert torch.equal(load_backbone(path)[0].norm.weight, backbone.norm.weight)


def test_a_run_keeps_the_best_of_its_probes_and_none_of_a_run_before(configured, discs, tmp_path):
    path = best_path(tmp_path / "out", "small")
    path.parent.mkdir()
    keep_best(path, VisionTransformer(ENCODERS["tiny"]), 1.0, 99)
    probe = f"probe={{source: {discs}, every: 2, steps: 1, batch: 1, images: 1}}"
    pretrain(configured("epochs=0.5", "heads.steps=2", probe))
    scores = {
        e["probe/step"]: e["probe/OP_CSB"] for e in log(tmp_path / "out") if "probe/step" in e
    }
    assert 4 in scores  # the last is never skipped
    header = read_header(path)
    assert float(header["OP_CSB"]) == max(scores.values())
    assert scores[int(header["step"])] == max(scores.values())
