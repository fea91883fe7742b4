"""Segment many files: one after the other, past broken ones, with a record that grows."""

from __future__ import annotations

import errno
import logging
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from napari_dinocell.core.axes import output_axes
from napari_dinocell.core.console import sentence
from napari_dinocell.core.errors import OutputFileError
from napari_dinocell.core.exports import to_json, write_table
from napari_dinocell.core.images import Image, read_image
from napari_dinocell.core.job import Diameter
from napari_dinocell.core.link import check_link
from napari_dinocell.core.progress import Watch
from napari_dinocell.core.record import (
    FailedFile,
    FileRecord,
    ModelRecord,
    RunRecord,
    file_sha256,
    file_size,
    with_earlier_files,
)
from napari_dinocell.core.repetition import Repetition
from napari_dinocell.core.request import Request
from napari_dinocell.core.results import write_results
from napari_dinocell.core.segmenter import Prediction, Segmenter
from napari_dinocell.core.worklist import RUN_FILE, SUMMARY_FILE, Job
from napari_dinocell.core.writing import make_folder

__all__ = ["run_request"]

_log = logging.getLogger("napari_dinocell.batch")

AUTO = "auto"
LINKING = {"link": "along", "link_overlap": "min_overlap", "link_gap": "gap"}
THRESHOLDS = ("peak", "fill", "min_area", "min_prominence")
PER_FILE = ("thresholds", "normalization", "scaling", "notes")
# What one image can do wrong. Anything else is a fault of ours or of the machine and ends the run.
CONTENT_ERRORS = (ValueError, TypeError, OSError, MemoryError)
Opened = tuple[Job, Image]

_RECORD_EVERY_S = 10.0
_PACKAGES = ("napari-dinocell", "numpy", "scipy", "scikit-image", "torch", "numba", "tifffile")
_HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def run_request(
    request: Request,
    todo: Sequence[Job],
    *,
    overwrite: bool,
    watch: Watch,
    cancel: Callable[[], bool] | None = None,
) -> RunRecord:
    """Segment the inputs in `todo` and write their results, the run record and the summary.

    Parameters
    ----------
    request : Request
    todo : sequence of Job
        Those of its jobs that are to be done.
    overwrite : bool
        Whether results of other settings in the output folder may be given up.
    watch : Watch
    cancel : callable, optional
        Asked between batches of tiles whether to stop.

    Returns
    -------
    RunRecord
        With the files of this call, those that were there before, and the failed ones.

    Raises
    ------
    ValueError
        If the folder holds results of other settings, or the model has other weights than in the
        run that is repeated.
    OutputFileError
        If the output folder cannot be written to, or the disk is full.
    Cancelled, KeyboardInterrupt
        As they come; finished files and the record are whole.
    """
    make_folder(request.output)
    settings = request.settings
    name = None if settings.model == AUTO else settings.model
    segmenter = Segmenter.from_pretrained(name, settings.device, settings.batch)
    repetition = Repetition(request)
    record = _new_record(request, segmenter, repetition)
    record = with_earlier_files(record, request.output / RUN_FILE, overwrite=overwrite)
    record.write(request.output / RUN_FILE)  # also shows whether the folder can be written to
    return _Run(request, segmenter, record, repetition, watch, cancel).segment(todo)


class _Run:
    """One call: reads, segments and writes group by group, and keeps the record."""

    def __init__(
        self,
        request: Request,
        segmenter: Segmenter,
        record: RunRecord,
        repetition: Repetition,
        watch: Watch,
        cancel: Callable[[], bool] | None,
    ) -> None:
        self._output = request.output
        self._kinds = request.kinds
        self._settings = request.settings
        self._segmenter = segmenter
        self._record = record
        self._files = {file.source: file for file in record.files}
        self._repetition = repetition
        self._failed: list[FailedFile] = []
        self._watch = watch
        settings = request.settings
        self._how: dict[str, Any] = {"channel": settings.channel, "cancel": cancel}
        self._saved = time.perf_counter()

    def segment(self, todo: Sequence[Job]) -> RunRecord:
        """All jobs; whatever ends this, the record and the summary tell what is finished."""
        try:
            for group in self._groups(todo):
                self._segment_group(group)
        finally:
            self._save()
        return self._record

    def _groups(self, todo: Sequence[Job]) -> Iterator[list[Opened]]:
        """Images that share batches of tiles: small ones together, others alone."""
        fills_a_batch = self._segmenter.batch_size * self._segmenter.card.tile**2
        settings = self._settings
        group: list[Opened] = []
        n_pixels = 0
        for job in todo:
            try:
                image = read_image(job.source, settings.axes, settings.pixel_size_um)
                if settings.link is not None:
                    check_link(output_axes(image.axes), settings.link)
            except CONTENT_ERRORS as error:
                self._fail(job, error)
                continue
            size = math.prod(image.shape)
            if size < fills_a_batch:
                group.append((job, image))
                n_pixels += size
                if n_pixels < 4 * fills_a_batch:
                    continue
            if group:
                yield group
                group, n_pixels = [], 0
            if size >= fills_a_batch:
                yield [(job, image)]
        if group:
            yield group

    def _segment_group(self, group: list[Opened]) -> None:
        """Together if that works; after an error each alone, which shows whose error it is."""
        left = deque(group)
        if len(group) > 1:
            start = time.perf_counter()
            images, diameters = [image for _, image in group], [self._diameter(j) for j, _ in group]
            predictions = self._segmenter.predict_many(images, diameter=diameters, **self._how)
            try:
                for prediction in predictions:
                    self._finish(*left[0], prediction, start)
                    left.popleft()
                    start = time.perf_counter()
            except CONTENT_ERRORS as error:
                _log.debug("One by one after: %s", sentence(error))
        for job, image in left:
            start = time.perf_counter()
            try:
                prediction = self._segmenter.predict(
                    image,
                    diameter=self._diameter(job),
                    progress=self._watch.within_file,
                    **self._how,
                )
                self._finish(job, image, prediction, start)
            except CONTENT_ERRORS as error:
                self._fail(job, error)

    def _diameter(self, job: Job) -> Diameter:
        return self._repetition.scaling(job) or self._settings.diameter

    def _finish(self, job: Job, image: Image, prediction: Prediction, start: float) -> None:
        settings = self._settings
        thresholds = {name: getattr(settings, name) for name in THRESHOLDS}
        links = {keyword: getattr(settings, name) for name, keyword in LINKING.items()}
        options: dict[str, Any] = {
            "channel": settings.channel,
            "linking": {key: value for key, value in links.items() if value is not None},
            "min_confidence": settings.min_confidence,
        }
        with prediction:
            figures = write_results(job, image, prediction, self._kinds, thresholds, **options)
            provenance = prediction.provenance(**thresholds)
        seconds = time.perf_counter() - start
        done = FileRecord(
            source=job.address,
            size_bytes=file_size(job.source),
            sha256=file_sha256(job.source),
            outputs=tuple(
                path.relative_to(self._output).as_posix() for path in job.outputs(self._kinds)
            ),
            axes=image.axes,
            shape=image.shape,
            dtype=str(image.dtype),
            pixel_size_um=image.pixel_size_um,
            count=figures.count,
            summary=to_json(figures.summary),
            prediction=to_json({key: provenance[key] for key in PER_FILE}),
            seconds=round(seconds, 3),
        )
        self._repetition.compare(done)
        # A result of another input of that name was replaced.
        self._files = {k: f for k, f in self._files.items() if f.outputs[-1] != done.outputs[-1]}
        self._files[done.source] = done
        size = ""
        if prediction.scaling.reason == "estimate":
            size = f" of about {prediction.scaling.diameter:.3g} px"
        self._watch.file_done(f"{job.source}: {figures.count} cells{size} in {seconds:.1f} s")
        if time.perf_counter() - self._saved > _RECORD_EVERY_S:
            self._save()

    def _fail(self, job: Job, error: Exception) -> None:
        if isinstance(error, OutputFileError) and _is_hopeless(error):
            raise error
        text = sentence(error).removeprefix(f"{job.source}: ")
        self._failed.append(FailedFile(source=job.address, error=text))
        self._watch.file_done(f"{job.source}: failed: {text}")

    def _save(self) -> None:
        self._record = self._record.model_copy(
            update={"files": tuple(self._files.values()), "failed": tuple(self._failed)}
        )
        self._record.write(self._output / RUN_FILE)
        if self._record.files:
            write_table(self._output / SUMMARY_FILE, self._record.summary_table())
        self._saved = time.perf_counter()


def _new_record(request: Request, segmenter: Segmenter, repetition: Repetition) -> RunRecord:
    """Of a run without files yet; settings as the model completes them."""
    card, settings = segmenter.card, request.settings
    model = ModelRecord(
        name=card.name,
        version=card.version,
        sha256=segmenter.model_hash,
        use_sha256=card.use_sha256,
    )
    repetition.check(model, str(segmenter.device))
    peak = card.peak if settings.peak is None else settings.peak
    fill = card.fill if settings.fill is None else settings.fill
    if peak <= fill:
        raise ValueError(
            f"Peak {peak} is not above fill {fill}; peak must be larger. (Model {card.name} has "
            f"peak {card.peak} and fill {card.fill}.)"
        )
    if settings.min_confidence is not None and not card.confidence:
        raise ValueError(
            f"Cells are to have a confidence of {settings.min_confidence}, but model {card.name} "
            "tells none; set --min-confidence to 0, or choose another model."
        )
    name = card.name if settings.model == AUTO else settings.model
    completed = settings.model_copy(update={"model": name, "peak": peak, "fill": fill})
    return RunRecord(
        created=datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        command=tuple(sys.argv),
        versions={name: version(name) for name in _PACKAGES},
        model=model,
        device=str(segmenter.device),
        settings=completed,
        name=request.name,
        kinds=request.kinds,
    )


def _is_hopeless(error: OutputFileError) -> bool:
    """Whether no other file could be written, either."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in _HOPELESS
