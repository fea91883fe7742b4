"""What came of an adaptation: a verdict, scores, and what the user may do about it."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_dinocell.widgets.adapt_work import Outcome, keep
from napari_dinocell.widgets.jobs import Job, Steps, Ticket

__all__ = ["VerdictBox"]

_LEFT = 4  # px, as far as the automatic indent of other labels
_TITLES = {
    "better": "✓ Better: the adapted model is kept",
    "thresholds": "✓ Other thresholds are better",
    "unchanged": "= Nothing better was found",
    "unverified": "? Not verified",
}


class VerdictBox(QWidget):
    """Tells the verdict; keeps an unverified model if the user wants it, and takes a kept one back.

    Attributes
    ----------
    can_segment : bool
        Whether somebody hears `segment_wanted` and takes what is kept to segment with.

    Signals
    -------
    kept(object), undone(object)
        The `Outcome` whose model is now among the user's own, or no longer.
    failed(str)
        One sentence.
    segment_wanted()
        The user wants to see what the kept model finds.
    """

    kept = Signal(object)
    undone = Signal(object)
    failed = Signal(str)
    segment_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.outcome: Outcome | None = None
        self.can_segment = False
        self._job: Job | None = None
        self.title = QLabel()
        font = self.title.font()
        font.setBold(True)
        self.title.setFont(font)
        self.text = QLabel()
        for label, name in ((self.title, "Verdict"), (self.text, "Reason of the verdict")):
            label.setWordWrap(True)
            label.setAccessibleName(name)
            # With an automatic indent Qt wraps at one width and measures the height at another.
            label.setIndent(0)
            label.setContentsMargins(_LEFT, 0, 0, 0)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.keep_button = QPushButton("Keep it")
        self.keep_button.setToolTip("Put the adapted model among your own, and use it.")
        self.keep_button.clicked.connect(self._keep)
        self.segment_button = QPushButton("Segment again")
        self.segment_button.setToolTip("See what the adapted model finds.")
        self.segment_button.clicked.connect(self.segment_wanted.emit)
        self.undo_button = QPushButton("Undo")
        self.undo_button.setToolTip("Remove the adapted model and go back to its base.")
        self.undo_button.clicked.connect(self._undo)
        buttons = QHBoxLayout()
        buttons.addWidget(self.keep_button)
        buttons.addWidget(self.segment_button)
        buttons.addWidget(self.undo_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.title)
        layout.addWidget(self.text)
        layout.addLayout(buttons)
        self.clear()

    def clear(self) -> None:
        """There is no verdict."""
        self.outcome = None
        self.hide()

    def show_outcome(self, outcome: Outcome) -> None:
        """Tell what came of an adaptation."""
        self.outcome = outcome
        report = outcome.adapted.report
        self.title.setText(_TITLES[report.verdict])
        lines = [report.sentence(), *report.notes]
        if report.is_cancelled:
            lines.insert(0, "You stopped the training early.")
        if report.verdict == "unchanged":
            lines.append("Correct cells where the model is wrong, and adapt again.")
        if outcome.name:
            use = "is chosen" if self.can_segment else "can be chosen"
            lines.append(f"It is called “{outcome.name}” and {use} to segment with.")
        self.text.setText("\n".join(lines))
        self.keep_button.setVisible(report.verdict == "unverified" and not outcome.name)
        self.undo_button.setVisible(bool(outcome.name))
        self.segment_button.setVisible(bool(outcome.name) and self.can_segment)
        self.show()

    def _keep(self, *_: Any) -> None:
        outcome = self.outcome
        if outcome is None:
            return

        def work(ticket: Ticket) -> Steps:
            yield "Writing …"
            return keep(outcome)

        self.keep_button.setEnabled(False)
        self._job = Job(work, self)
        self._job.succeeded.connect(self._was_kept)
        self._job.failed.connect(self.failed.emit)
        self._job.ended.connect(lambda: self.keep_button.setEnabled(True))
        self._job.start()

    def _was_kept(self, outcome: Outcome) -> None:
        self.show_outcome(outcome)
        self.kept.emit(outcome)

    def _undo(self, *_: Any) -> None:
        outcome = self.outcome
        if outcome is None:
            return
        try:
            outcome.path.unlink(missing_ok=True)
        except OSError as error:
            self.failed.emit(str(error))
            return
        self.clear()
        self.undone.emit(outcome)
