"""Prototypes: the mean feature of annotated cells, and what it does to the base's map."""

import numpy as np
import pytest
import torch

from napari_dinocell.core.adapt.evidence import Evidence
from napari_dinocell.core.adapt.examples import Example, annotate
from napari_dinocell.core.adapt.features import cache_features, read_windows
from napari_dinocell.core.adapt.prototypes import (
    Prototype,
    PrototypeNetwork,
    fit_prototypes,
    mean_prototype,
)
from napari_dinocell.core.adapt.windows import units_of
from napari_dinocell.core.intensity import IntensityRange
from napari_dinocell.core.overlaps import overlap_table
from napari_dinocell.core.prediction import Thresholds
from napari_dinocell.core.segmenter import Segmenter

from .specimens import BRIGHT, DIM, discs, lattice

AT = Thresholds(0.55, 0.2, 0, 0.0)
WHOLE = IntensityRange(0.0, 1.0, False)


def scene(seed):
    """Plane, labels and which cells the base overlooks."""
    rng = np.random.default_rng(seed)
    centers = lattice((160, 160), 24, rng, 3)
    is_dim = rng.random(len(centers)) < 0.4
    plane, labels = discs((160, 160), centers, 7, np.where(is_dim, DIM, BRIGHT), seed)
    return plane, labels, is_dim


def evidence_of(base, *examples):
    network, card = base
    annotations = [annotate(example, card) for example in examples]
    units = units_of(annotations)
    windows = cache_features(
        network, read_windows(annotations, units, card), AT, card,
        seconds=100, max_bytes=1 << 30, n_views=1,
    )  # fmt: skip
    return Evidence.of(annotations, windows, units)


def found(network, card, plane, labels, at=AT):
    prediction = Segmenter(network, card, "cpu").predict(plane, ranges=[WHOLE])
    table = overlap_table(labels, prediction.labels(at.peak, at.fill))
    best = np.zeros(len(table.true_ids))
    np.maximum.at(best, table.rows, table.ious)
    return best > 0.5


def only(labels, ids):
    return np.where(np.isin(labels, ids), labels, 0)


def test_similarity_is_the_mean_over_levels_of_the_cosine_from_the_center():
    center, direction = torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0])
    offsets = torch.tensor([[2.0, 0.0], [-3.0, 0.0], [0.0, 5.0], [1.0, 1.0]])
    fine = (center + offsets).T.reshape(1, 2, 2, 2)
    coarse = (center + offsets[:1]).T.reshape(1, 2, 1, 1)
    prototype = Prototype([center, center], [direction, direction])
    similarity = prototype.similarity([fine, coarse], (2, 2))
    assert similarity.flatten().tolist() == pytest.approx([1, 0, 0.5, (1 + 2**-0.5) / 2])


def test_the_prototype_of_one_cell_is_the_mean_of_its_tokens(small_base):
    plane, _ = discs((128, 128), [(40, 40), (88, 88)], 10, [BRIGHT, BRIGHT])
    labels = np.zeros((128, 128), np.int32)
    labels[32:48, 32:48] = 5  # two by two tokens of stride 8, exactly
    example = Example(plane, labels, scale=1.0, intensity=WHOLE)
    (window,) = evidence_of(small_base, example).windows
    level = window.views[0][3].float()
    y, x = ((32 - edge) // 8 for edge in window.box[:2])
    center = level.flatten(1).mean(1)
    wanted = level[:, y : y + 2, x : x + 2].flatten(1).mean(1) - center
    prototype = mean_prototype([window])
    assert torch.allclose(prototype.centers[3], center, atol=1e-5)
    assert torch.allclose(prototype.directions[3], wanted / wanted.norm(), atol=1e-4)


def test_without_weight_the_map_is_the_base_map(small_base):
    network, _ = small_base
    plane, labels, _ = scene(1)
    evidence = evidence_of(small_base, Example(plane, labels, intensity=WHOLE))
    prototype = mean_prototype(evidence.windows)
    image = torch.from_numpy(plane)[None, None]
    with torch.no_grad():
        same = PrototypeNetwork(network, prototype, weight=0.0, cutoff=0.3)
        assert torch.equal(same(image), network(image))
        raised = PrototypeNetwork(network, prototype, weight=0.5, cutoff=-1.0)
        assert (raised(image) >= network(image)).all()


def test_overlooked_cells_that_resemble_annotated_ones_are_found_in_another_image(small_base):
    plane, labels, is_dim = scene(0)
    ids = np.arange(1, len(is_dim) + 1)
    annotated = only(labels, [*ids[is_dim][:4], *ids[~is_dim][:4]])
    network, card = small_base
    evidence = evidence_of(small_base, Example(plane, annotated, intensity=WHOLE))
    model, at = fit_prototypes(network, evidence, AT, lift=card.target.lift)
    other, others, is_dim = scene(7)
    before = found(network, card, other, others)
    after = found(model, card, other, others, at)
    assert before[is_dim].mean() < 0.1, "the base must overlook dim cells"
    assert after[is_dim].mean() > 0.3
    assert after[~is_dim].mean() >= before[~is_dim].mean()


def test_without_a_cell_there_is_no_prototype(small_base):
    plane, labels, _ = scene(0)
    example = Example(plane, np.zeros_like(labels), background=labels == 3, intensity=WHOLE)
    with pytest.raises(ValueError, match="needs at least one"):
        fit_prototypes(small_base[0], evidence_of(small_base, example), AT, lift=0.2)
