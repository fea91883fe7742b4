"""Models in other programs' formats give the maps that ours give; judged by these programs."""

import gc
import warnings
import zipfile

import numpy as np
import pytest
import torch

from napari_dinocell.core.model.files import load_backbone, load_model, save_backbone, save_model
from napari_dinocell.core.packages import write_bioimageio, write_onnx

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The flagship's architecture with four narrow blocks of random weights."""
    from napari_dinocell.core.model.network import build_network  # noqa: PLC0415

    network, card = load_model("vits8")
    architecture = network.architecture
    architecture["encoder"] |= {"width": 64, "depth": 4, "heads": 2, "levels": [0, 1, 2, 3]}
    architecture["decoder"] |= {"inputs": 64, "widths": [16, 16, 8, 8]}
    torch.manual_seed(0)
    network = build_network(architecture).eval()
    folder = tmp_path_factory.mktemp("tiny")
    reference = save_backbone(folder / "encoder.safetensors", network.encoder)
    network.encoder = load_backbone(folder / "encoder.safetensors")[0]
    card = card.model_copy(update={"backbone": reference, "tile": 64, "overlap": 16})
    save_model(folder / "tiny.safetensors", network, card)
    return folder / "tiny.safetensors"


@pytest.mark.parametrize("model", ["small", "tiny"])
def test_onnx_gives_the_same_maps_in_batches_of_any_size(model, tiny, tmp_path):
    name = tiny if model == "tiny" else model
    network, card = load_model(name)
    write_onnx(name, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    for n in (1, 3):
        planes = rng.random((n, 3, card.tile, card.tile), np.float32)
        with torch.inference_mode():
            expected = network(torch.from_numpy(planes)).numpy()
        (found,) = session.run(["distance"], {"plane": planes})
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_package_passes_the_tests_of_the_model_zoo(tiny, tmp_path):
    core = pytest.importorskip("bioimageio.core")
    write_bioimageio(tiny, tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as package:
        names = package.namelist()
        assert any(name.endswith("rdf.yaml") for name in names)
        text = package.read(next(n for n in names if n.endswith("README.md"))).decode()
    assert "peak" in text
    assert "Apache-2.0 (DINOv2)" in text
    assert {"NOTICE", "LICENSE-Apache-2.0.txt"} <= {name.split("/")[-1] for name in names}
    summary = core.test_model(tmp_path / "model.zip", weight_format="onnx")
    assert summary.status == "passed", summary.display()
    with warnings.catch_warnings(action="ignore"):
        gc.collect()  # files that its packages leave open, before another test is blamed for them


@pytest.mark.parametrize("write", [write_onnx, write_bioimageio])
def test_nothing_is_overwritten(write, tiny, tmp_path):
    ending = ".onnx" if write is write_onnx else ".zip"
    taken = tmp_path / f"taken{ending}"
    taken.write_bytes(b"mine")
    with pytest.raises(ValueError, match="is there already"):
        write(tiny, taken)
    assert taken.read_bytes() == b"mine"
