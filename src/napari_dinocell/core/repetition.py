"""What an earlier run tells the one that repeats it."""

from __future__ import annotations

import logging

from napari_dinocell.core.prediction import Scaling
from napari_dinocell.core.record import FileRecord, ModelRecord, file_sha256
from napari_dinocell.core.request import Request
from napari_dinocell.core.worklist import Job

__all__ = ["Repetition"]

_log = logging.getLogger("napari_dinocell.batch")

# Settings that an estimate of the diameter depends on.
_DECIDE_SCALE = ("model", "axes", "channel", "pixel_size_um", "diameter")


class Repetition:
    """The earlier run of a request; without one it knows nothing and accepts everything.

    Parameters
    ----------
    request : Request
    """

    def __init__(self, request: Request) -> None:
        self._run = request.earlier
        self._files = {} if self._run is None else {file.source: file for file in self._run.files}
        self._is_same_model = (
            self._run is not None and request.settings.model == self._run.settings.model
        )
        self._is_same_scale = self._run is not None and all(
            getattr(request.settings, name) == getattr(self._run.settings, name)
            for name in _DECIDE_SCALE
        )

    def check(self, model: ModelRecord, device: str) -> None:
        """Refuse a model of the earlier run's name that would give other results.

        Another device, which rounds in another order, is only warned about.

        Raises
        ------
        ValueError
        """
        if self._run is None:
            return
        if self._run.device not in ("", device):
            _log.warning(
                "The run that is repeated was on %s, this one is on %s; single pixels may differ.",
                self._run.device,
                device,
            )
        if not self._is_same_model:
            return
        differences = model.differences(self._run.model)
        if differences:
            raise ValueError(
                f"Model {model.name} is not that of the run to be repeated "
                f"({'; '.join(differences)} then); install that one, or choose one with --model."
            )

    def scaling(self, job: Job) -> Scaling | None:
        """How an image was resized then, if it would have to be estimated and is the same.

        An estimate chooses the best of several sizes, which other versions or threads might find
        in another order.
        """
        before = self._files.get(job.address)
        if before is None or not self._is_same_scale or before.sha256 is None:
            return None
        scaling = Scaling(**before.prediction["scaling"])
        if scaling.reason not in ("estimate", "no cells found"):
            return None
        return scaling if file_sha256(job.source) == before.sha256 else None

    def compare(self, done: FileRecord) -> None:
        """Warn where an input is not what it was."""
        before = self._files.get(done.source)
        if before is not None and before.sha256 != done.sha256:
            _log.warning("%s has changed since the run that is repeated.", done.source)
