"""Images of discs, and small networks that were really trained to find the bright ones."""

import numpy as np
import torch
from scipy import ndimage

from napari_dinocell.core.distance import distance_map
from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.decoder import UNetDecoderConfig
from napari_dinocell.core.model.network import build_network
from napari_dinocell.core.model.small import SmallDecoderConfig, SmallEncoderConfig
from napari_dinocell.core.model.vit import ViTConfig

LIFT = 0.2
BRIGHT, DIM = 0.8, 0.42

WIDTHS = (8, 8, 12, 12, 16)
SMALL = {
    "encoder": SmallEncoderConfig(widths=WIDTHS, blocks=(0, 1, 1, 1, 1)),
    "decoder": SmallDecoderConfig(inputs=WIDTHS, widths=(12, 12, 8, 8)),
}
VIT = {
    "encoder": ViTConfig(width=24, depth=4, heads=2, levels=(0, 1, 2, 3)),
    "decoder": UNetDecoderConfig(inputs=24, widths=(16, 12, 8, 8), stem=8),
}


def discs(shape, centers, radius, levels, seed=0):
    """Plane in [0, 1] and labels of discs of given gray levels on a dark, noisy ground."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    plane = np.full(shape, 0.15)
    labels = np.zeros(shape, np.int32)
    for number, ((cy, cx), level) in enumerate(zip(centers, levels, strict=True), start=1):
        inside = (y - cy) ** 2 + (x - cx) ** 2 <= radius**2
        plane[inside] = level
        labels[inside] = number
    plane = ndimage.gaussian_filter(plane, 1.0) + 0.02 * rng.standard_normal(shape)
    return plane.astype(np.float32), labels


def lattice(shape, pitch, rng=None, jitter=0.0):
    """Centers on a square grid of some pitch, px."""
    places = [
        (y, x)
        for y in np.arange(pitch / 2, shape[0], pitch)
        for x in np.arange(pitch / 2, shape[1], pitch)
    ]
    rng = rng or np.random.default_rng(0)
    return [(y + jitter * rng.uniform(-1, 1), x + jitter * rng.uniform(-1, 1)) for y, x in places]


def train_base(architecture, steps, seed=0):
    """Network that finds bright discs and takes dim ones for background."""
    torch.manual_seed(seed)
    network = build_network(architecture)
    network.train()
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(network.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, total_steps=steps)
    for _ in range(steps):
        images, targets = [], []
        for _ in range(4):
            centers = lattice((64, 64), 22, rng, 3)
            levels = rng.choice([BRIGHT, DIM, 0.15], len(centers), p=[0.6, 0.2, 0.2])
            levels = np.where(levels == BRIGHT, rng.uniform(0.7, 0.9, len(centers)), levels)
            plane, labels = discs((64, 64), centers, 7, levels, int(rng.integers(1 << 30)))
            bright = np.concatenate([[False], levels > 0.6])
            images.append(plane)
            targets.append(distance_map(np.where(bright[labels], labels, 0), LIFT))
        predicted = network(torch.from_numpy(np.stack(images))[:, None])
        target = torch.from_numpy(np.stack(targets))[:, None]
        loss = (predicted - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def card_of(network, **fields):
    return ModelCard.model_validate(
        {
            "name": "discs",
            "architecture": network.architecture,
            "peak": 0.55,
            "fill": 0.2,
            "diameter": 14,
            "tile": 128,
            "overlap": 32,
            "target": {"kind": "lifted", "lift": LIFT},
            # (0, 1): the planes are in this range already.
            "input": {"percentiles": (0.0, 100.0), "contrast_floor": 0.0},
            **fields,
        }
    )
