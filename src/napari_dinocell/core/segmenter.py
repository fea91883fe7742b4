"""The main path: image -> planes -> tiles -> network -> maps -> Prediction."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from torch import nn

from napari_dinocell.core.axes import output_axes, output_shape
from napari_dinocell.core.device import default_batch_size, resolve_device
from napari_dinocell.core.diameter import choose_scaling, estimate_scaling
from napari_dinocell.core.images import Image
from napari_dinocell.core.inference import (
    Cancel,
    PlaneTask,
    Progress,
    Report,
    TileNetwork,
    check_cancel,
    run_tiles,
    whole_map,
)
from napari_dinocell.core.instances import warm_up
from napari_dinocell.core.intensity import IntensityRange
from napari_dinocell.core.job import Diameter, ImageJob, ImageSource, Options, open_image
from napari_dinocell.core.mapstore import MEMORY_BYTES
from napari_dinocell.core.model.blocks import fold_batch_norm
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.files import default_model, load_model, tensors_sha256
from napari_dinocell.core.prediction import Prediction, Scaling

__all__ = ["Prediction", "Segmenter"]

log = logging.getLogger(__name__)


class Segmenter:
    """A model on a device: distance maps, and through them labels, of any image.

    Parameters
    ----------
    network : nn.Module
        (B, 1 or 3, Y, X) normalized planes -> (B, 1, Y, X) maps in [0, 1]. It is copied, and batch
        normalization is folded in the copy.
    card : ModelCard
        How the network wants its input and how its maps are cut.
    device : str or torch.device
        "auto", or one that is there.
    batch_size : int, optional
        Tiles per forward pass; the device's default if None.
    memory_bytes : int
        Maps of one prediction above this go to a temporary file.

    Attributes
    ----------
    maps_folder : Path or None
        Where that file is made; None takes the system's folder for temporary files.
    """

    def __init__(
        self,
        network: nn.Module,
        card: ModelCard,
        device: str | torch.device = "auto",
        batch_size: int | None = None,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.card = card
        self._memory_bytes = memory_bytes
        self.maps_folder: Path | None = None
        self.device = resolve_device(device)
        folded = fold_batch_norm(network).to(self.device)
        self.network = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batch_size = batch_size or default_batch_size(self.device)
        self._tiles = TileNetwork(self.network, self.device, self.batch_size)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None = None,
        device: str | torch.device = "auto",
        batch_size: int | None = None,
    ) -> Segmenter:
        """Load a model.

        Parameters
        ----------
        name_or_path : str or Path, optional
            Bundled name or model file; None takes `default_model`.
        device : str or torch.device
            "auto" takes CUDA, then MPS, then the CPU.
        batch_size : int, optional
            Tiles per forward pass.

        Raises
        ------
        FileNotFoundError, ModelFileError
            As `load_model`.
        ValueError
            If the device is not there.

        Examples
        --------
        >>> labels = Segmenter.from_pretrained().predict("cells.tif").labels()  # doctest: +SKIP
        """
        found = resolve_device(device)
        network, card = load_model(name_or_path or default_model(found.type))
        segmenter = cls(network, card, found, batch_size)
        warm_up()
        log.info("Model %s runs on %s, %d tiles at once.", card.name, found, segmenter.batch_size)
        return segmenter

    @cached_property
    def model_hash(self) -> str:
        """SHA-256 of the weights in use."""
        return tensors_sha256(self.network.state_dict())

    def predict(
        self,
        image: ImageSource,
        axes: str | None = None,
        *,
        channel: int | str | None = None,
        diameter: Diameter = "auto",
        pixel_size_um: float | tuple[float, float] | None = None,
        ranges: Sequence[IntensityRange] | None = None,
        progress: Progress | None = None,
        cancel: Cancel | None = None,
        batch_size: int | None = None,
    ) -> Prediction:
        """Distance maps of all planes of an image.

        Parameters
        ----------
        image : Image, array, or path
        axes : str, optional
            One letter per dimension out of `TZCYXS`; needed for arrays that are not (Y, X).
        channel : int or str, optional
            Position or name; needed where there are several.
        diameter : float, "auto", Scaling or None
            Median diameter of the cells in px of the image: it is resized so that they have the
            model's. "auto" goes by the pixel size where image and model know theirs, and estimates
            the diameter elsewhere (about three tiles). A `Scaling` is that of another prediction,
            to be taken again. None resizes nothing.
        pixel_size_um : float or (float, float), optional
            µm per px, or (y, x); overrides the image's.
        ranges : sequence of IntensityRange, optional
            Normalization per plane, instead of that of the planes themselves.
        progress : callable, optional
            `progress(done, total)` in tiles; ascends from 0 to the total.
        cancel : callable, optional
            Asked at least once per batch; True stops.
        batch_size : int, optional
            Tiles per forward pass, this time.

        Returns
        -------
        Prediction

        Raises
        ------
        Cancelled
            If `cancel()` returned True; nothing is left behind.
        ValueError, TypeError, ImageFileError
            If the image or an option cannot be used.
        """
        options = Options(channel, diameter, ranges, cancel)
        job = self._open(open_image(image, axes, pixel_size_um), options)
        report = Report(progress, len(job.grid) * len(job.planes))
        return next(self._run([job], self._sized(batch_size), cancel, report.advance))

    def predict_many(
        self,
        images: Iterable[ImageSource],
        *,
        channel: int | str | None = None,
        diameter: Diameter | list[Diameter] = "auto",
        cancel: Cancel | None = None,
        batch_size: int | None = None,
    ) -> Iterator[Prediction]:
        """Distance maps of many images; batches hold tiles of several of them.

        Parameters
        ----------
        images : iterable of Image, (Y, X) array, or path
            Drawn as needed, a few batches ahead of the result.
        channel, diameter, cancel, batch_size
            As in `predict`; a list of diameters has one per image.

        Yields
        ------
        Prediction
            One per image, in order, equal to what `predict` gives.

        Raises
        ------
        ValueError
            If there are more images than diameters, or fewer; and as in `predict`.
        """
        each = diameter if isinstance(diameter, list) else repeat(diameter)
        jobs = (
            self._open(open_image(image, None, None), Options(channel, one, None, cancel))
            for image, one in zip(images, each, strict=isinstance(diameter, list))
        )
        yield from self._run(jobs, self._sized(batch_size), cancel)

    def estimate(
        self, image: ImageSource, axes: str | None = None, *, channel: int | str | None = None
    ) -> Scaling:
        """The scale that `predict` would take for `diameter="auto"` where no pixel size tells it.

        Parameters
        ----------
        image, axes, channel
            As in `predict`.

        Returns
        -------
        Scaling
            With the `diameter` of the cells in px of the image; None where none were found.
        """
        options = Options(channel, None, None, None)
        return self._estimate(self._open(open_image(image, axes, None), options), None)

    def _sized(self, batch_size: int | None) -> TileNetwork:
        if batch_size is None:
            return self._tiles
        return TileNetwork(self.network, self.device, batch_size)

    def _open(self, image: Image, options: Options) -> ImageJob:
        """Look at an image: its planes, and at which scale they go through the network."""
        job = ImageJob(self.card, image, options.channel, options.ranges, self._memory_bytes)
        job.maps_folder = self.maps_folder
        estimate = partial(self._estimate, job, options.cancel)
        job.scaling = choose_scaling(self.card, options.diameter, image.pixel_size_um, estimate)
        return job

    def _estimate(self, job: ImageJob, cancel: Cancel | None) -> Scaling:
        """Estimate the scale on the middle plane, or on others where that shows nothing."""
        n = len(job.planes)
        visible = map(job.normalized, dict.fromkeys((n // 2, n // 4, (3 * n) // 4)))
        tile, overlap = self.card.tile, self.card.overlap
        map_of = partial(whole_map, network=self._tiles, tile=tile, overlap=overlap, cancel=cancel)
        return estimate_scaling((p for p in visible if p is not None), self.card, map_of)

    def _run(
        self,
        jobs: Iterable[ImageJob],
        network: TileNetwork,
        cancel: Cancel | None,
        advance: Callable[[int], Any] | None = None,
    ) -> Iterator[Prediction]:
        """Run the planes of all jobs as one stream of tiles; yield each job when it is complete."""
        opened: list[ImageJob] = []

        def tasks() -> Iterator[PlaneTask]:
            for job in jobs:
                opened.append(job)
                for number in range(len(job.planes)):
                    check_cancel(cancel)
                    task = job.task(number)
                    if task.plane is None and advance is not None:
                        advance(len(task.grid))
                    yield task

        try:
            for _ in run_tiles(tasks(), network, cancel, advance):
                opened[0].n_done += 1
                if opened[0].n_done == len(opened[0].planes):
                    prediction = self._finish(opened[0])
                    opened.pop(0)
                    yield prediction
        finally:
            for job in opened:
                job.store.close()

    def _finish(self, job: ImageJob) -> Prediction:
        notes = job.notes()
        for note in notes:
            log.warning("%s%s", f"{job.image.source}: " if job.image.source else "", note)
        return Prediction(
            job.store,
            output_axes(job.image.axes),
            output_shape(job.image),
            job.indices,
            [job.range_of(number) for number in range(len(job.planes))],
            job.scaling,
            self.card,
            pixel_size_um=job.image.pixel_size_um,
            notes=notes,
            model_hash=lambda: self.model_hash,
            run={"device": str(self.device), "precision": "float32"},
        )
