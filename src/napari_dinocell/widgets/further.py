"""What may follow a run: a model that knows these cells, a whole folder, one id through planes."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QPushButton, QWidget

from napari_dinocell.widgets.adapt_panel import AdaptPanel
from napari_dinocell.widgets.batch_panel import BatchPanel, BatchSettings
from napari_dinocell.widgets.corrector import Corrector
from napari_dinocell.widgets.linking_panel import LinkingPanel
from napari_dinocell.widgets.preview import Preview

__all__ = ["FurtherSteps"]

_FOLDER = "Segment all images of a folder with these settings."
_SEVERAL_LAYERS = "In files one channel is segmented; these cells come from several layers."


class FurtherSteps(QWidget):
    """Buttons that open the panels for it, with the settings of the cells on screen.

    Parameters
    ----------
    viewer : napari viewer

    Signals
    -------
    model_wanted(str)
        Name of the model to segment with from now on.
    segment_wanted()
        The user wants to see what it finds.
    """

    model_wanted = Signal(str)
    segment_wanted = Signal()

    def __init__(self, viewer: Any, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self._preview: Preview | None = None
        self._corrector: Corrector | None = None
        self.adapting: AdaptPanel | None = None
        self._batch: BatchPanel | None = None
        self._linking: LinkingPanel | None = None
        self.adapt = QPushButton("Adapt the model …")
        self.adapt.setToolTip("Let the model learn the cells that you accepted or corrected.")
        self.adapt.clicked.connect(self._open_adapt)
        self.folder = QPushButton("Apply to a folder …")
        self.folder.clicked.connect(self._open_batch)
        self.link = QPushButton("Link planes …")
        self.link.setToolTip("Give one id to each 3-D object, or to each cell through time.")
        self.link.clicked.connect(self._open_link)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.adapt, 0, 0)
        layout.addWidget(self.folder, 0, 1)
        layout.addWidget(self.link, 1, 0)
        self.follow(None, None)

    def follow(self, preview: Preview | None, corrector: Corrector | None) -> None:
        """Take the settings of another preview and its corrections; None while there is none."""
        self._preview, self._corrector = preview, corrector
        self.adapt.setEnabled(preview is not None)
        is_alone = preview is not None and not preview.result.part.others
        self.folder.setEnabled(is_alone)
        self.folder.setToolTip(_FOLDER if preview is None or is_alone else _SEVERAL_LAYERS)
        if self.adapting is not None:
            self.adapting.follow(corrector)
        is_stack = preview is not None and preview.prediction.n_planes > 1
        self.link.setVisible(is_stack)

    def _open_adapt(self, *_: Any) -> None:
        if self._preview is None:
            return
        if self.adapting is None:
            self.adapting = AdaptPanel(self.viewer)
            self.adapting.model_wanted.connect(self.model_wanted.emit)
            self.adapting.segment_wanted.connect(self.segment_wanted.emit)
            self.adapting.verdict.can_segment = True
        self.adapting.follow(self._corrector)
        self.adapting.choose_base(self._preview.prediction.model_card.name)
        self._bring_up(self.adapting, "Adapt the model")

    def _open_batch(self, *_: Any) -> None:
        if self._preview is None:
            return
        settings = BatchSettings.of(self._preview)
        if self._batch is None:
            self._batch = BatchPanel(self.viewer, settings)
        else:
            self._batch.take(settings)
        self._bring_up(self._batch, "Segment a folder")

    def _open_link(self, *_: Any) -> None:
        if self._preview is None:
            return
        if self._linking is None:
            self._linking = LinkingPanel(self.viewer)
        if self._linking.runner.job is None:
            self._linking.labels.choose(self._preview.layer)
        self._bring_up(self._linking, "Link planes")

    def _bring_up(self, panel: QWidget, name: str) -> None:
        """Show a panel in its dock, or in a new one where the user has closed that."""
        dock = panel.parentWidget()
        if dock is None:
            self.viewer.window.add_dock_widget(panel, name=name, tabify=True)
        else:
            dock.show()
            dock.raise_()
