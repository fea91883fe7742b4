"""The layer that a run makes and that the sliders write, for as long as it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QObject, QTimer, Signal

from napari_dinocell.widgets.catching_up import AT_ONCE, CatchUp
from napari_dinocell.widgets.engine import Result
from napari_dinocell.widgets.jobs import Job
from napari_dinocell.widgets.planes import plane_in_view, plane_view, window_in_view
from napari_dinocell.widgets.preferences import preferences
from napari_dinocell.widgets.screening import Screened, confidence_colors, screen, verified_areas

if TYPE_CHECKING:
    from napari_dinocell.core.instances import Cut, ThresholdTree

__all__ = ["DISTANCE_MAP", "METADATA_KEY", "Preview"]

METADATA_KEY = "napari_dinocell"
DISTANCE_MAP = "distance_map_of"  # in the metadata of a map
_AS_OF_NOW = -1  # no fingerprint: a plane in view gives way at once, and is looked at again later

Window = tuple[slice, slice]


class Preview(QObject):
    """A Labels layer that follows thresholds.

    Signals
    -------
    shown(object)
        Areas (px) of all cells of the plane in view: those of the preview and the verified ones.
    rested()
        All planes and the table are up to date.
    failed(str)
        One sentence.
    closed()
        The layer is gone, or no longer what it was.
    """

    shown = Signal(object)
    rested = Signal()
    failed = Signal(str)
    closed = Signal()

    def __init__(
        self, viewer: Any, layer: Any, result: Result, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.layer = layer
        self.result = result
        self.prediction = result.prediction
        self.defaults = self.prediction.thresholds()
        self.peak, self.fill = self.defaults.peak, self.defaults.fill
        self.min_area = self.defaults.min_area
        self.min_confidence = 0.0
        self.coefficients = self.prediction.model_card.confidence
        self.last_cut: Cut | None = None
        self._shown: Screened | None = None
        self._own_colors: Any = None
        self._tree: tuple[int, ThresholdTree] | None = None
        self._stale: set[int] = set()
        self.corrected: Any = None
        self._verified: dict[int, npt.NDArray[np.int64]] = {}
        self._gave_way: dict[int, int] = {}  # see `CatchUp`
        self._contour = 0
        self._job: Job | None = None
        self._is_open = True
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._delay = preferences().preview_delay_ms
        self._rest.timeout.connect(self._catch_up)
        viewer.dims.events.current_step.connect(self._plane_changed)
        viewer.layers.events.removed.connect(self._layer_removed)
        self._rest.start(self._delay)

    @property
    def plane(self) -> int:
        """Plane in view, as a position in `prediction.indices`."""
        return plane_in_view(self.prediction, self.layer, self.viewer.dims.point)

    @property
    def is_following(self) -> bool:
        """Whether a move of a slider is drawn at once."""
        return self._tree is not None and self._tree[0] == self.plane

    def move(self, peak: float, fill: float, min_area: int, min_confidence: float = 0.0) -> None:
        """Take other thresholds: the plane in view at once, the rest when the hand rests."""
        self.peak, self.fill, self.min_area = peak, fill, min_area
        self.min_confidence = min_confidence
        self._stale = set(range(self.prediction.n_planes))
        if self.layer.contour:
            self._contour, self.layer.contour = self.layer.contour, 0
        self._stop_job()
        self._draw()
        self._rest.start(self._delay)

    def values(self) -> dict[str, Any]:
        """Thresholds as arguments of `Prediction.cut`."""
        return {"peak": self.peak, "fill": self.fill, "min_area": self.min_area}

    def color_by_confidence(self, is_wanted: bool) -> None:
        """Show how sure each cell is, or tell cells apart again."""
        if not is_wanted:
            if self._own_colors is not None:
                self.layer.colormap, self._own_colors = self._own_colors, None
        elif self._own_colors is None and self.coefficients:
            self._own_colors = self.layer.colormap
            self._color()

    def close(self) -> None:
        """Let go of the prediction; the layer stays as it is."""
        if not self._is_open:
            return
        self._is_open = False
        self._rest.stop()
        self._stop_job()
        self.viewer.dims.events.current_step.disconnect(self._plane_changed)
        self.viewer.layers.events.removed.disconnect(self._layer_removed)
        self._tree = None
        self.closed.emit()

    def _draw(self) -> None:
        """Cut what is in view into the layer's own array."""
        if self._tree is None or self._tree[0] != self.plane or not self._check():
            return
        plane, tree = self._tree
        window = None
        if tree.quantized.size > AT_ONCE:
            window = window_in_view(self.layer, self.prediction.axes, tree.shape)
        self._make_room(int(np.count_nonzero(tree.heights > self.peak * 65535)))
        view = plane_view(self.layer.data, self.prediction, plane)
        try:
            cut = tree.cut(
                self.peak,
                self.fill,
                min_area=self.min_area,
                min_prominence=self.defaults.min_prominence,
                window=window,
                out=view if window is None else view[window],
            )
        except ValueError as error:
            self.failed.emit(str(error))
            return
        if window is None:
            self._stale.discard(plane)
        self._show(plane, cut, window)

    def _show(self, plane: int, cut: Cut, window: Window | None = None) -> None:
        """Draw a new cut of the plane in view, which is in the layer's array already."""
        self.last_cut = cut
        labels = plane_view(self.layer.data, self.prediction, plane)
        self._shown = self._screen(labels, plane, cut, window)
        self._color()
        self.layer.refresh(thumbnail=False, extent=False, highlight=False)
        if self.corrected is not None:
            self._gave_way[plane] = _AS_OF_NOW
        left = self._shown.areas
        self.shown.emit(np.concatenate([left[left > 0], self._verified_areas(plane)]))

    def _screen(
        self, labels: npt.NDArray[np.integer], plane: int, cut: Cut, window: Window | None = None
    ) -> Screened:
        """Leave in labels of a plane what is to be shown."""
        part = window or (slice(None), slice(None))
        over = None
        if self.corrected is not None:
            over = plane_view(self.corrected.data, self.prediction, plane)[part]
        return screen(labels[part], cut, over, self.coefficients, self.min_confidence)

    def _verified_areas(self, plane: int) -> npt.NDArray[np.int64]:
        """Of the corrected layer; counted once between two corrections."""
        if self.corrected is None:
            return np.zeros(0, np.int64)
        if plane not in self._verified:
            view = plane_view(self.corrected.data, self.prediction, plane)
            self._verified[plane] = verified_areas(view)
        return self._verified[plane]

    def _color(self) -> None:
        if self._own_colors is None or self._shown is None:
            return
        try:
            self.layer.colormap = confidence_colors(self._shown)
        except ValueError as error:
            self.color_by_confidence(False)
            self.failed.emit(str(error))

    def redraw(self) -> None:
        """Take a change of the corrected layer: the plane in view at once, the rest at rest."""
        self._verified.clear()
        # What it has under way gives way to corrections of a moment ago.
        self._stop_job()
        if not self.is_following:
            self._tree = None  # of a plane out of view: it is drawn anew when it is back
        self._draw()
        self._rest.start(self._delay if self.is_following else 0)

    def shown_plane(self, plane: int) -> npt.NDArray[np.int32]:
        """What the layer shows of one plane if nobody painted into it; needs its tree at hand."""
        assert self._tree is not None
        assert self._tree[0] == plane
        cut = self._tree[1].cut(**self.values(), min_prominence=self.defaults.min_prominence)
        labels = np.asarray(cut.labels, np.int32)
        self._screen(labels, plane, cut)
        return labels

    def _check(self) -> bool:
        """Detach from a layer whose array was replaced by something else."""
        if self._is_open and tuple(self.layer.data.shape) != self.prediction.shape:
            self.close()
        return self._is_open

    def _make_room(self, highest: int) -> None:
        """Widen the layer's type where ids may no longer fit."""
        if highest > np.iinfo(self.layer.data.dtype).max:
            self.layer.data = self.layer.data.astype(np.int32)

    def _plane_changed(self, event: Any = None) -> None:
        if self._is_open and not self.is_following:
            self._rest.start(0)

    def _layer_removed(self, event: Any) -> None:
        if event.value == self.layer:
            self.close()

    def _stop_job(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self._job = None

    def _catch_up(self) -> None:
        """Hand on rested: the tree of the plane in view first, then all that is stale."""
        if not self._check():
            return
        self._stop_job()
        if self._contour:
            self.layer.contour, self._contour = self._contour, 0
        rest = CatchUp(
            result=self.result,
            plane=self.plane,
            stale=frozenset(self._stale),
            gave_way=dict(self._gave_way),
            corrected=None if self.corrected is None else self.corrected.data,
            thresholds=self.values(),
            least=self.min_confidence,
        )
        job = Job(rest.steps, self)
        job.step.connect(lambda part: self._take(job, rest.plane, *part))
        job.failed.connect(self.failed.emit)
        job.succeeded.connect(lambda _: self._end(job))
        self._job = job
        job.start()

    def _take(self, job: Job, plane: int, name: str, content: Any) -> None:
        if job is not self._job or not self._check():
            return
        if name == "table":
            if content is not None:
                self.layer.features = content
        elif name == "behind":
            self._stale |= content
        elif name == "tree":
            before, self._tree = self._tree, (plane, content)
            if before is None or before[1] is not content or plane in self._stale:
                self._draw()
        else:
            self._write(*content)

    def _write(self, plane: int, cut: Cut, gave_way: int | None) -> None:
        labels: npt.NDArray[np.integer] = cut.labels
        self._make_room(int(cut.ids[-1]) if len(cut.ids) else 0)
        plane_view(self.layer.data, self.prediction, plane)[...] = labels
        self._stale.discard(plane)
        self._gave_way.pop(plane, None)
        if gave_way is not None:
            self._gave_way[plane] = gave_way
        if plane == self.plane:
            self._show(plane, cut)

    def _end(self, job: Job) -> None:
        if job is self._job and self._is_open:
            self._job = None
            self.layer.refresh(extent=False)
            self.rested.emit()
