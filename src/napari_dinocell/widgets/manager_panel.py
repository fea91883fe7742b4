"""The panel of installed models: what each is, and import, rename, delete, export."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QInputDialog,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_dinocell.widgets.column import Column
from napari_dinocell.widgets.jobs import Job, Steps, Ticket
from napari_dinocell.widgets.own_watch import OwnModelsWatch
from napari_dinocell.widgets.runner import Runner

if TYPE_CHECKING:
    from napari_dinocell.core.model.card import ModelCard

__all__ = ["FORMATS", "ManagerPanel", "card_text"]

_LINES = 6

FORMATS = {
    "file": ("One file", ".safetensors"),
    "onnx": ("ONNX", ".onnx"),
    "bioimageio": ("BioImage Model Zoo", ".zip"),
}
"""Title and ending of what a model can be exported as."""


class ManagerPanel(QWidget):
    """Lists bundled and own models with their cards.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The viewer, given by napari; not used.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.cards: dict[str, tuple[str, ModelCard]] = {}
        self._looking: Job | None = None
        self._new = ""  # to be chosen when it is listed
        self.list = QListWidget()
        self.list.setAccessibleName("Models")
        self.list.setFixedHeight(_LINES * 2 * self.fontMetrics().height())
        self.list.currentItemChanged.connect(self._show)
        self.text = QLabel()
        self.text.setAccessibleName("Card of the model")
        self.text.setWordWrap(True)
        self.text.setTextFormat(Qt.TextFormat.PlainText)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.import_button = self._button("Import …", "Copy a model file to your own.")
        self.import_button.clicked.connect(self._ask_import)
        self.rename_button = self._button("Rename …", "Give one of your own another name.")
        self.rename_button.clicked.connect(self._ask_rename)
        self.delete_button = self._button("Delete …", "Delete one of your own models.")
        self.delete_button.clicked.connect(self._ask_delete)
        self.export_button = self._button("Export as", "Write the model for another computer.")
        menu = QMenu(self)
        for kind, (title, _) in FORMATS.items():
            menu.addAction(f"{title} …").triggered.connect(self._asker(kind))
        self.export_button.setMenu(menu)
        self.runner = Runner("", None, self._take)
        self.runner.busy.connect(lambda is_busy: self._show())
        buttons = QGridLayout()
        buttons.setContentsMargins(0, 0, 0, 0)
        for number, button in enumerate(
            (self.import_button, self.export_button, self.rename_button, self.delete_button)
        ):
            buttons.addWidget(button, number // 2, number % 2)
        content = QWidget()
        inner = QVBoxLayout(content)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addWidget(self.list)
        inner.addLayout(buttons)
        inner.addWidget(self.runner)
        inner.addWidget(self.text)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(Column(content))
        self._watch = OwnModelsWatch(self)
        self._watch.changed.connect(self._look)

    @property
    def name(self) -> str:
        """The chosen model; empty if there is none."""
        item = self.list.currentItem()
        return "" if item is None else str(item.data(Qt.ItemDataRole.UserRole))

    def choose(self, name: str) -> None:
        """Choose a model, if it is there."""
        for row in range(self.list.count()):
            item = self.list.item(row)
            if item is not None and item.data(Qt.ItemDataRole.UserRole) == name:
                self.list.setCurrentRow(row)

    # -- changes ----------------------------------------------------------------------------------

    def import_file(self, path: Path) -> None:
        """Begin to copy a model file to the user's own."""

        def work(ticket: Ticket) -> Steps:
            yield f"Importing {path.name} …"
            new = _manage().import_model(path).name
            return f"Imported {new}.", new

        self.runner.start(work)

    def rename(self, new: str) -> None:
        """Begin to give the chosen model another name."""
        name = self.name

        def work(ticket: Ticket) -> Steps:
            yield f"Renaming {name} …"
            _manage().rename_model(name, new)
            return f"{name} is called {new} now.", new

        self.runner.start(work)

    def delete(self) -> None:
        """Begin to delete the chosen model."""
        name = self.name

        def work(ticket: Ticket) -> Steps:
            yield f"Deleting {name} …"
            _manage().delete_model(name)
            return f"Deleted {name}.", ""

        self.runner.start(work)

    def export(self, kind: str, path: Path) -> None:
        """Begin to write the chosen model as one of `FORMATS`."""
        name = self.name

        def work(ticket: Ticket) -> Steps:
            yield f"Writing {path.name} …"
            import_module("napari_dinocell.core.models").FORMATS[kind](name, path)
            return f"Wrote {path.name}.", ""

        self.runner.start(work)

    def _take(self, outcome: tuple[str, str]) -> str:
        sentence, self._new = outcome
        self._watch.ask()
        return sentence

    # -- the list ---------------------------------------------------------------------------------

    def _look(self) -> None:
        if self._looking is not None and self._looking.is_running:
            self._watch.ask_later()
            return

        def work(ticket: Ticket) -> Steps:
            yield None
            return _manage().installed()

        self._looking = Job(work, self)
        self._looking.succeeded.connect(self._found)
        self._looking.failed.connect(self.runner.say_wrong)
        self._looking.start()

    def _found(self, found: list[tuple[str, str, ModelCard]]) -> None:
        self._watch.begin()
        before = self.name
        self.cards = {name: (kind, card) for name, kind, card in found}
        self.list.clear()
        for name, kind, _ in found:
            item = QListWidgetItem(f"{name}   ({kind})")
            item.setData(Qt.ItemDataRole.UserRole, name)
            self.list.addItem(item)
        if found:
            self.list.setCurrentRow(0)
        self.choose(before)
        if self._new in self.cards:
            self.choose(self._new)
            self._new = ""
        self._show()

    def _show(self, *_: Any) -> None:
        kind, card = self.cards.get(self.name, ("", None))
        is_free = self.runner.job is None
        self.text.setText("" if card is None else card_text(card))
        for button in (self.rename_button, self.delete_button):
            button.setEnabled(kind == "own" and is_free)
        self.export_button.setEnabled(card is not None and is_free)
        self.import_button.setEnabled(is_free)

    # -- questions --------------------------------------------------------------------------------

    def _button(self, text: str, tip: str) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tip)
        return button

    def _ask_import(self, *_: Any) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self, "Import a model", "", "Model (*.safetensors)")
        if chosen:
            self.import_file(Path(chosen))

    def _ask_rename(self, *_: Any) -> None:
        new, is_given = QInputDialog.getText(self, "Rename", "New name:", text=self.name)
        if is_given and new != self.name:
            self.rename(new)

    def _ask_delete(self, *_: Any) -> None:
        question = f"Delete the model “{self.name}”? This cannot be undone."
        if QMessageBox.question(self, "Delete", question) == QMessageBox.StandardButton.Yes:
            self.delete()

    def _asker(self, kind: str) -> Any:
        def ask(*_: Any) -> None:
            title, ending = FORMATS[kind]
            # What is there is never replaced, so there is nothing to be asked about it.
            chosen, _ = QFileDialog.getSaveFileName(
                self,
                title,
                f"{self.name}{ending}",
                f"{title} (*{ending})",
                options=QFileDialog.Option.DontConfirmOverwrite,
            )
            if chosen:
                self.export(kind, Path(chosen if chosen.endswith(ending) else chosen + ending))

        return ask


def card_text(card: ModelCard) -> str:
    """What a biologist wants to know of a model, as lines."""
    lines = [
        f"Cells of about {card.diameter:g} px; peak {card.peak:.2g}, fill {card.fill:.2g}.",
    ]
    if card.adaptation:
        sentence = card.adaptation.get("sentence", "")
        lines.append(f"Adapted from {card.adaptation.get('base', '?')}. {sentence}".strip())
    sets = card.scores.get("validation", {}).get("sets", {})
    if sets and not card.adaptation:
        lines.append("On validation images, the diameter given, AP50 / OP_CSB:")
        lines += [f"  {name}: {s['ap50']:.2f} / {s['op_csb']:.2f}" for name, s in sets.items()]
    if card.data:
        lines.append(f"Trained on {', '.join(card.data)}.")
    if card.licenses:
        lines.append("Licenses:")
        lines += [f"  {name}: {text}" for name, text in card.licenses.items()]
    if card.notes:
        lines.append(card.notes)
    return "\n".join(lines)


def _manage() -> Any:
    return import_module("napari_dinocell.core.model.manage")
