"""Labeled data of a run: what is trained on, and what is scored."""

from pathlib import Path

from napari_dinocell.core.training.config import DataSettings
from napari_dinocell.core.training.data import LabeledDataset
from napari_dinocell.core.training.readers import read_index, read_labeled
from napari_dinocell.core.training.split import split_validation


def open_datasets(settings: DataSettings) -> tuple[LabeledDataset, LabeledDataset]:
    """Training images and validation images of a run.

    Validation images come from ``settings.validation`` if that is given; else from the val split
    where the source is a folder with an index.csv; else a part of each set is held out, whole groups
    at a time.
    """
    training = read_labeled(settings.source, "train", sets=settings.sets, weights=settings.sets)
    if settings.validation is None and not (Path(settings.source) / "index.csv").is_file():
        return split_validation(training, settings.held_out, settings.split_seed)
    folder = Path(settings.validation or settings.source)
    if (folder / "index.csv").is_file():
        validation = read_index(folder, "val", for_training=True)
        names = set(training.set_names)
        kept = [i for i, item in enumerate(validation) if item.set_name in names]
        return training, validation.subset(kept) if kept else validation
    return training, read_labeled(folder)
