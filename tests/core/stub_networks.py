"""Networks without weights, through the real interface, for tests of everything around them."""

import torch
from torch import nn
from torch.nn.functional import avg_pool2d

from napari_dinocell.core.model.card import ModelCard
from napari_dinocell.core.model.small import SmallDecoderConfig, SmallEncoderConfig


def box_mean(x, radius):
    """Mean over (2 radius + 1)² pixels, zeros beyond the edge; along one axis after the other."""
    side = 2 * radius + 1
    rows = avg_pool2d(x, (side, 1), 1, (radius, 0))
    return avg_pool2d(rows, (1, side), 1, (0, radius))


class Stub(nn.Module):
    """Map = gray values, cut to [0, 1]. Records the shapes of the batches it gets."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def features(self, x):
        self.seen.append(tuple(x.shape))
        return [x.mean(1, keepdim=True)]

    def decode(self, features, x):
        return features[0].clamp(0, 1)

    def forward(self, x):
        return self.decode(self.features(x), x)


class Blur(Stub):
    """Three box blurs, a receptive field of 6 radius + 1 px. Padded with zeros as convolutions are.

    The map is wrong at tile edges, and has no plateaus, on which rounding would decide.
    """

    def __init__(self, radius=5):
        super().__init__()
        self.radius = radius

    def decode(self, features, x):
        y = features[0]
        for _ in range(3):
            y = box_mean(y, self.radius)
        return y.clamp(0, 1)


class OutOfMemory(Stub):
    """Fails like an allocator for more than `limit` tiles."""

    def __init__(self, limit, error=torch.OutOfMemoryError):
        super().__init__()
        self.limit = limit
        self.error = error

    def features(self, x):
        if len(x) > self.limit:
            self.seen.append(len(x))
            raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().features(x)


class Broken(Stub):
    """Fails for another reason than memory."""

    def features(self, x):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


class ColorProbe(Stub):
    """Map = first channel minus last: 0 for gray."""

    def features(self, x):
        self.seen.append(tuple(x.shape))
        return [x[:, :1] - x[:, -1:]]


class MidScale(Stub):
    """Sees discs of about `diameter` px only: a band-pass, as a trained network is one.

    A disc of radius r in the window of radius d / 2 and its surroundings of radius d gives most
    when r fits the inner window.
    """

    def __init__(self, diameter=24):
        super().__init__()
        self.inner, self.outer = int(diameter * 0.35), int(diameter * 0.8)

    def decode(self, features, x):
        gray = features[0].clamp(0, 1)
        inner, outer = box_mean(gray, self.inner), box_mean(gray, self.outer)
        return ((inner - outer) * gray * 1.5).clamp(0, 1)


def stub_card(**changes):
    """Card of a stub: thresholds far from 0, 1 and each other, tile and overlap as usual."""
    architecture = {
        "encoder": SmallEncoderConfig().model_dump(mode="json"),
        "decoder": SmallDecoderConfig().model_dump(mode="json"),
    }
    fields = {
        "name": "stub",
        "architecture": architecture,
        "peak": 0.6,
        "fill": 0.3,
        "diameter": 24.0,
    }
    return ModelCard(**fields | changes)
