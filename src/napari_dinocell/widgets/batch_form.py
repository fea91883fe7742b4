"""What is to be done with a folder of images: the questions of the batch panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_dinocell.widgets.preferences import preferences
from napari_dinocell.widgets.rows import add_rows, keep_narrow

if TYPE_CHECKING:
    from napari_dinocell.widgets.preview import Preview

__all__ = ["BatchForm", "BatchSettings", "FolderField"]

AS_IS, ESTIMATE, TYPED = "as in training", "estimate", "give it"
_LINKS = {
    "each plane by itself": None,
    "3-D objects (Z)": "z",
    "tracks (T)": "t",
    "3-D objects in time (Z and T)": "zt",
}
_KINDS = {
    "overlay": "Pictures with outlines",
    "table": "Tables (CSV)",
    "rois": "ImageJ ROIs",
    "geojson": "GeoJSON for QuPath",
}


@dataclass(frozen=True)
class BatchSettings:
    """Settings of a run, to be used for many images.

    Attributes
    ----------
    model, device : str
        As on the command line.
    channel : int or None
    diameter : float, "auto" or None
        px of the files.
    peak, fill, min_area : number or None
        The area in px of the files. The model's own where None.
    min_confidence : float
        That every cell must have.
    """

    model: str = "auto"
    device: str = "auto"
    channel: int | None = None
    diameter: float | str | None = "auto"
    peak: float | None = None
    fill: float | None = None
    min_area: int | None = None
    min_confidence: float = 0.0

    @classmethod
    def of(cls, preview: Preview) -> BatchSettings:
        """Those of the cells on screen, as the sliders stand."""
        how, part = preview.result.provenance, preview.result.part
        prediction = preview.prediction
        diameter = how["diameter"]
        if diameter is None and part.level and prediction.scaling.reason == "none":
            # The level had the size that the model knows; the files have another one.
            diameter = prediction.model_card.diameter
        if isinstance(diameter, int | float):
            diameter *= part.factor
        return cls(
            model=how["model"]["name"],
            device=preferences().device,
            channel=how["channel"],
            diameter=diameter,
            peak=float(preview.peak),
            fill=float(preview.fill),
            min_area=round(preview.min_area * part.factor**2),
            min_confidence=float(preview.min_confidence),
        )


class FolderField(QWidget):
    """A line for the path of a folder, and a button to choose one."""

    def __init__(self, name: str, tip: str) -> None:
        super().__init__()
        self.line = QLineEdit()
        self.line.setAccessibleName(name)
        self.line.setToolTip(tip)
        self._name = name
        browse = QPushButton("Browse …")
        browse.clicked.connect(self._browse)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.line, 1)
        layout.addWidget(browse)

    def _browse(self, *_: Any) -> None:
        chosen = QFileDialog.getExistingDirectory(self, self._name, self.line.text())
        if chosen:
            self.line.setText(chosen)
            self.line.setModified(True)


class BatchForm(QWidget):
    """The questions, each with the answer of `settings` where that has one.

    Parameters
    ----------
    settings : BatchSettings
    """

    def __init__(self, settings: BatchSettings) -> None:
        super().__init__()
        self.inputs = FolderField("Images", "Folder of the images.")
        self.output = FolderField("Results", "Folder for labels and tables; made if need be.")
        self.recursive = QCheckBox("Folders inside it, too")
        self.model, self.device = QComboBox(), QComboBox()
        self.model.setEditable(True)
        self.model.setToolTip("A bundled or an own model, or the path of a model file.")
        self.channel = QLineEdit()
        self.channel.setPlaceholderText("the only one")
        self.channel.setToolTip("Number from 0, or name, of the channel that shows the cells.")
        self.axes = QLineEdit()
        self.axes.setPlaceholderText("as the files say")
        self.axes.setToolTip("One letter per dimension, such as TZCYX, where files do not tell.")
        self.size = QComboBox()
        self.size.addItems([ESTIMATE, AS_IS, TYPED])
        self.diameter = _number(1, 10000, 1, 30.0, " px")
        self.own = QCheckBox("of the run on screen")
        self.own.setToolTip("Otherwise those of the model.")
        self.peak, self.fill = (_number(0.01, 0.99, 0.01, value) for value in (0.5, 0.1))
        self.min_area = QSpinBox()
        self.min_area.setRange(0, 10_000_000)
        self.min_area.setSuffix(" px")
        self.min_confidence = _number(0, 1, 0.01, 0)
        self.min_confidence.setToolTip(
            "Cells that are right with less probability than this are left out."
        )
        self.links = QComboBox()
        self.links.addItems(list(_LINKS))
        keep_narrow(self.links)
        self.links.setToolTip("Of stacks and movies: along which axes one cell keeps one id.")
        self.written = {kind: QCheckBox(text) for kind, text in _KINDS.items()}
        self._lay_out()
        self.size.currentTextChanged.connect(self._show_needed)
        self.own.toggled.connect(self._show_needed)
        self.inputs.line.textChanged.connect(self._propose)
        self.fill_in(settings)

    def _lay_out(self) -> None:
        self._rows = QFormLayout(self)
        self._rows.setContentsMargins(0, 0, 0, 0)
        also = QWidget()
        boxes = QVBoxLayout(also)
        boxes.setContentsMargins(0, 0, 0, 0)
        for box in self.written.values():
            boxes.addWidget(box)
        add_rows(
            self._rows,
            ("Images", self.inputs),
            ("", self.recursive),
            ("Results", self.output),
            ("Model", self.model),
            ("Channel", self.channel),
            ("Axes", self.axes),
            ("Cell size", self.size),
            ("Diameter", self.diameter),
            ("Thresholds", self.own),
            ("Peak", self.peak),
            ("Fill", self.fill),
            ("Minimum area", self.min_area),
            ("Confidence", self.min_confidence),
            ("One id for", self.links),
            ("Also write", also),
            ("Device", self.device),
        )

    def fill_in(self, settings: BatchSettings) -> None:
        """Take the answers of settings; what these do not speak of stays."""
        for box, value in ((self.model, settings.model), (self.device, settings.device)):
            if box.findText(value) < 0:
                box.addItem(value)
            box.setCurrentText(value)
        self.channel.setText("" if settings.channel is None else str(settings.channel))
        is_typed = isinstance(settings.diameter, float)
        if isinstance(settings.diameter, float):
            self.diameter.setValue(settings.diameter)
        chosen = TYPED if is_typed else ESTIMATE if settings.diameter == "auto" else AS_IS
        self.size.setCurrentText(chosen)
        if settings.peak is not None and settings.fill is not None:
            self.own.setChecked(True)
            self.peak.setValue(settings.peak)
            self.fill.setValue(settings.fill)
            self.min_area.setValue(settings.min_area or 0)
            self.min_confidence.setValue(settings.min_confidence)
        self._exact = settings
        self._show_needed()

    def offer(self, models: Sequence[str], devices: Sequence[str]) -> None:
        """Fill in what the computer has; choices stay."""
        for box, names in ((self.model, ["auto", *models]), (self.device, devices)):
            before = box.currentText()
            box.clear()
            box.addItems(list(dict.fromkeys([*names, before])))
            box.setCurrentText(before)

    def folders(self) -> tuple[Path, Path]:
        """Folder of the images and folder for the results.

        Raises
        ------
        ValueError
            One sentence about what is missing.
        """
        texts = [field.line.text().strip() for field in (self.inputs, self.output)]
        for text, what in zip(texts, ("of the images", "for the results"), strict=True):
            if not text:
                raise ValueError(f"Choose the folder {what}.")
        inputs, output = (Path(text).expanduser() for text in texts)
        if not inputs.is_dir():
            raise ValueError(f"{inputs} is no folder: choose the folder of the images.")
        return inputs, output

    def options(self) -> dict[str, Any]:
        """Settings as `make_request` wants them; what is left open is not there."""
        given = self._exact.diameter
        typed = _exact(self.diameter, given if isinstance(given, float) else None)
        options: dict[str, Any] = {
            "model": self.model.currentText().strip() or "auto",
            "device": self.device.currentText(),
            "channel": self.channel.text().strip() or None,
            "axes": self.axes.text().strip() or None,
            "diameter": {AS_IS: None, ESTIMATE: "auto", TYPED: typed}[self.size.currentText()],
            "link": _LINKS[self.links.currentText()],
        }
        if self.own.isChecked():
            options |= {
                "peak": _exact(self.peak, self._exact.peak),
                "fill": _exact(self.fill, self._exact.fill),
                "min_area": self.min_area.value(),
                "min_confidence": _exact(self.min_confidence, self._exact.min_confidence),
            }
        return {name: value for name, value in options.items() if value is not None}

    def kinds(self) -> list[str]:
        """Kinds of files to be written."""
        return ["labels", *(kind for kind, box in self.written.items() if box.isChecked())]

    def _propose(self, text: str) -> None:
        """A folder for the results, until the user has chosen one."""
        if not self.output.line.isModified():
            folder = Path(text.strip())
            self.output.line.setText(str(folder.with_name(f"{folder.name}_cells")) if text else "")

    def _show_needed(self, *_: Any) -> None:
        is_own = self.own.isChecked()
        needed = {self.diameter: self.size.currentText() == TYPED}
        own = (self.peak, self.fill, self.min_area, self.min_confidence)
        needed |= dict.fromkeys(own, is_own)
        for widget, is_needed in needed.items():
            widget.setVisible(is_needed)
            self._rows.labelForField(widget).setVisible(is_needed)


def _number(low: float, high: float, step: float, value: float, unit: str = "") -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setDecimals(3 if step < 1 else 1)
    box.setValue(value)
    box.setSuffix(unit)
    return box


def _exact(box: QDoubleSpinBox, given: float | None) -> float:
    """What was given, while the box still shows it; rounding must not change the cells."""
    shown = float(box.value())
    is_same = given is not None and abs(given - shown) <= 0.5 * 10 ** -box.decimals()
    return given if given is not None and is_same else shown
