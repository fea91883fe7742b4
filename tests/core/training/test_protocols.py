"""The shipped configurations of published protocols, run on tiny data in the layout they expect."""

import json

import numpy as np
import pytest

from napari_dinocell.core.evaluation import Evaluation
from napari_dinocell.core.model.files import load_model
from napari_dinocell.core.training.config import Config, load_config, shipped_configs
from napari_dinocell.core.training.loop import train
from napari_dinocell.core.training.validation import evaluate_model

TINY = (
    "steps=1", "batch=2", "crops.size=32", "crops.diameter=16", "device=cpu", "threads=1",
    "precision=float32", "model.encoder=small", "model.decoder_widths=[16,8,8,8]",
)  # fmt: skip


def run(name, source, out):
    overrides = [*TINY, f"data.source={source}", f"out={out}"]
    return train(load_config(Config, shipped_configs()[name], overrides))


def evaluated(model, folder) -> Evaluation:
    return evaluate_model(str(model), folder, "train", diameter="given", device="cpu")


@pytest.fixture
def pbl_folder(specimen):
    """Two images of another laboratory, as a folder of images and labels."""
    for i in range(2):
        plane, labels = specimen.discs((64, 64), 8, 20, seed=10 + i)
        specimen.write(f"PBL_HEK/images/{i}.png", plane)
        specimen.write(f"PBL_HEK/labels/{i}.png", labels.astype(np.uint16))
    return specimen.folder / "PBL_HEK"


def test_the_livecell_protocol_reads_its_json_and_is_scored_on_another_folder(
    specimen, tmp_path, pbl_folder
):
    images, annotations = [], []
    for i in range(4):
        name = f"A172_Phase_A{i}_1_00d00h00m_1.tif"
        plane, labels = specimen.discs((96, 96), 8, 40, seed=i)
        specimen.write(f"livecell/images/livecell_train_val_images/{name}", plane)
        images.append({"id": i, "file_name": name, "height": 96, "width": 96})
        for cell_id in range(1, labels.max() + 1):
            y, x = np.nonzero(labels == cell_id)
            angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            outline = np.stack([x.mean() + 8 * np.cos(angle), y.mean() + 8 * np.sin(angle)], 1)
            annotation = {"id": len(annotations), "image_id": i, "iscrowd": 0, "area": len(y)}
            annotations.append(annotation | {"segmentation": [outline.ravel().tolist()]})
    source = specimen.folder / "livecell" / "livecell_coco_train.json"
    source.write_text(json.dumps({"images": images, "annotations": annotations}))

    path = run("livecell", source, tmp_path / "out")

    _, card = load_model(path)
    assert card.data == ("livecell",)
    assert card.target.lift == 0
    assert set(evaluated(path, pbl_folder).to_json()["sets"]) == {"PBL_HEK"}


def test_the_cytoplasm_protocol_reads_pairs_of_color_images_and_masks(specimen, tmp_path):
    for i in range(4):
        plane, labels = specimen.discs((96, 96), 8, 40, seed=i, color=True)
        specimen.write(f"cyto/train/{i:03d}_img.png", plane)
        specimen.write(f"cyto/train/{i:03d}_masks.png", labels.astype(np.uint16))

    path = run("cytoplasm", specimen.folder / "cyto" / "train", tmp_path / "out")

    _, card = load_model(path)
    assert card.data == ("train",)
    assert card.input.color
