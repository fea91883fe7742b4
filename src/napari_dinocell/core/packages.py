"""Models for other programs: ONNX, and packages of the BioImage Model Zoo (bioimage.io).

Both hold the network for tiles of the card's side. What comes before (normalization, scale) and
after (peak, fill, flooding) stands in the package's documentation.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from napari_dinocell import __version__
from napari_dinocell.core.images import read_image
from napari_dinocell.core.intensity import intensity_range, normalize
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.files import load_model
from napari_dinocell.core.model.network import DINOCell
from napari_dinocell.core.overlay import overlay
from napari_dinocell.core.samples import sample_path
from napari_dinocell.core.segmenter import Segmenter
from napari_dinocell.core.writing import make_folder, whole_file

__all__ = ["write_bioimageio", "write_onnx"]

_OPSET = 20
# Warns of each operation of torchvision, which is not asked for.
_REGISTRATION = logging.getLogger("torch.onnx._internal.exporter._registration")
_SAMPLE = "fluorescence"
_TERMS = ("NOTICE", "LICENSE-Apache-2.0.txt")


def write_onnx(name_or_path: str | Path, output: str | Path) -> None:
    """Write the network of a model as ONNX.

    Input `plane`: (B, 3, T, T) float32, normalized; gray is repeated; T is the card's tile.
    Output `distance`: (B, 1, T, T) float32 in [0, 1].

    Raises
    ------
    FileNotFoundError, ModelFileError
        As `load_model`.
    ValueError
        If the file is there already, does not end with .onnx, or a package is missing.
    OSError
        If it cannot be written.
    """
    output = _checked(output, ".onnx")
    network, card = load_model(name_or_path)
    with whole_file(output) as temporary:
        _save_onnx(network, card, temporary)


def write_bioimageio(name_or_path: str | Path, output: str | Path) -> None:
    """Write a model as a package of the BioImage Model Zoo, with ONNX weights.

    Errors as in `write_onnx`; the ending is .zip.
    """
    output = _checked(output, ".zip")
    spec = _package("bioimageio.spec")
    network, card = load_model(name_or_path)
    with tempfile.TemporaryDirectory() as folder:
        description = _describe(network, card, Path(folder))
        with whole_file(output) as temporary:
            spec.save_bioimageio_package(description, output_path=temporary)


def _save_onnx(network: DINOCell, card: ModelCard, path: Path) -> None:
    _package("onnxscript")
    # Two planes: what is 1 in an example becomes a constant of the graph.
    plane = torch.zeros(2, 3, card.tile, card.tile)
    with _silent(_REGISTRATION), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and its packages about themselves
        program = torch.onnx.export(
            network.eval(),
            (plane,),
            dynamo=True,
            input_names=["plane"],
            output_names=["distance"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Let through errors only; what the caller's process had set comes back."""
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _describe(network: DINOCell, card: ModelCard, folder: Path) -> Any:
    """Description of the package; its files lie in the folder until it is saved."""
    m = _package("bioimageio.spec").model.v0_5
    image = read_image(sample_path(_SAMPLE))
    pixels = np.asarray(image.array[: card.tile, : card.tile])
    low, high = card.input.percentiles
    raw = np.repeat(pixels[None, None].astype(np.float32), 3, axis=1)
    scale = m.ScaleRangeKwargs(
        axes=[m.AxisId(axis) for axis in ("channel", "y", "x")],
        min_percentile=low,
        max_percentile=high,
        eps=1e-6,
    )
    bounds = np.percentile(raw, (low, high))
    plane = ((raw - bounds[0]) / (bounds[1] - bounds[0] + scale.eps)).astype(np.float32)
    with torch.inference_mode():
        distance = network(torch.from_numpy(plane)).numpy()
    _save_onnx(network, card, folder / "weights.onnx")
    np.save(folder / "test-input.npy", raw)
    np.save(folder / "test-output.npy", distance)
    _cover(network, card, pixels, folder / "cover.png")
    (folder / "README.md").write_text(_document(card), encoding="utf-8")
    side, terms = card.tile, _copy_terms(card, folder)

    def file(name: str) -> Any:
        return m.FileDescr(source=folder / name)

    space = {"y": {"id": m.AxisId("y")}, "x": {"id": m.AxisId("x")}}
    return m.ModelDescr(
        name=_zoo_name(card.name),
        description="Distance map of cells: peak and fill, two thresholds, turn it into instances.",
        authors=[m.Author(name="the napari-dinocell developers")],
        attachments=[file(name) for name in terms],
        documentation=file("README.md"),
        covers=[file("cover.png")],
        tags=["segmentation", "cells", "nuclei", "instance-segmentation", "2d"],
        inputs=[
            m.InputTensorDescr(
                id=m.TensorId("plane"),
                description="Gray, repeated three times, or RGB.",
                axes=[
                    m.BatchAxis(),
                    m.ChannelAxis(channel_names=[m.Identifier(c) for c in ("r", "g", "b")]),
                    *(m.SpaceInputAxis(size=side, **axis) for axis in space.values()),
                ],
                data=m.IntervalOrRatioDataDescr(type="float32"),
                preprocessing=[m.ScaleRangeDescr(kwargs=scale)],
                test_tensor=file("test-input.npy"),
            )
        ],
        outputs=[
            m.OutputTensorDescr(
                id=m.TensorId("distance"),
                description="0 outside of cells, highest amid a cell.",
                axes=[
                    m.BatchAxis(),
                    m.ChannelAxis(channel_names=[m.Identifier("distance")]),
                    *(m.SpaceOutputAxis(size=side, **axis) for axis in space.values()),
                ],
                data=m.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
                test_tensor=file("test-output.npy"),
            )
        ],
        weights=m.WeightsDescr(
            onnx=m.OnnxWeightsDescr(source=folder / "weights.onnx", opset_version=_OPSET)
        ),
        config=m.Config.model_validate(
            {"napari-dinocell": card.model_dump(mode="json", include=_TOLD)}
        ),
    )


_TOLD = {
    "peak",
    "fill",
    "min_area",
    "min_prominence",
    "diameter",
    "overlap",
    "target",
    "data",
    "licenses",
}


def _document(card: ModelCard) -> str:
    low, high = card.input.percentiles
    licenses = "\n".join(f"- {name}: {text}" for name, text in card.licenses.items())
    return f"""# {card.name}

A network of napari-dinocell {__version__}: from a microscope image to a map that is 0 outside of cells
and rises to its highest value amid each.

- Resize the image so that the median cell is {card.diameter:g} px wide.
- Normalize the whole plane, not each tile: percentile {low:g} becomes 0, percentile {high:g} becomes 1.
- Overlap tiles of {card.tile} px by {card.overlap} px and blend the maps.
- Cells are the basins of the map whose summit is above peak {card.peak:g}, cut at fill {card.fill:g}.

`napari-dinocell segment IMAGE` does all of that.

## Validation

Scores by data set are printed by `napari-dinocell info`. Test the model on labeled images of your
own before you rely on it: `napari-dinocell evaluate`.

## Training data and licenses

{licenses or "not stated"}
"""


def _copy_terms(card: ModelCard, folder: Path) -> list[str]:
    """Put the notice and license of the bundled encoder beside the weights that derive from it."""
    if card.backbone is None:
        return []
    texts = Path(str(files("napari_dinocell"))) / "resources" / "models"
    for name in _TERMS:
        shutil.copyfile(texts / name, folder / name)
    return list(_TERMS)


def _cover(network: DINOCell, card: ModelCard, pixels: npt.NDArray[Any], path: Path) -> None:
    prediction = Segmenter(network, card, "cpu").predict(pixels, diameter=card.diameter)
    shown = normalize(pixels, intensity_range(pixels))
    found = overlay(shown, prediction.labels())
    prediction.close()
    gray = np.repeat((np.clip(shown, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)
    both = np.concatenate([gray, found], axis=1)  # 2:1, as the zoo wants it
    Image.fromarray(both).save(path)


def _zoo_name(name: str) -> str:
    """Letters, digits, spaces and a few signs: what the zoo allows in a name."""
    kept = "".join(c if c.isalnum() or c in " _+-" else " " for c in name)
    return f"DINOCell {' '.join(kept.split())}"


def _checked(output: str | Path, ending: str) -> Path:
    output = Path(output)
    if output.suffix != ending:
        raise ValueError(f"{output} must end with {ending}; change its name.")
    if output.exists():
        raise ValueError(f"{output} is there already; give another name.")
    make_folder(output.parent)
    return output


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ValueError(
            f"Writing this format needs {error.name}: pip install 'napari-dinocell[export]'."
        ) from error
