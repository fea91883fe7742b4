"""Photometric augmentation fit for microscopy: what stains, optics and cameras change.

In place of hue, saturation, solarization and gray-scale conversion, which mean nothing for one
stain. In the order in which they happen: response of the stain, illumination, optics, photons and
camera, gain and offset.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

_NO_FIELD = (0.0,) * 5


@dataclass(frozen=True)
class PhotometryRanges:
    """What is drawn, and how often (shares in [0, 1]), for planes whose cells span about [0, 1]."""

    gamma_share: float = 0.5
    log_gamma: float = 0.4
    """Gamma is exp of an even draw from minus to plus this."""
    illumination_share: float = 0.2
    illumination: float = 0.2
    """Largest deviation from even illumination."""
    blur_sigma: tuple[float, float] = (0.1, 1.5)
    """Px of the crop."""
    blur_shares: tuple[float, float, float] = (0.5, 0.1, 0.5)
    """Global crops of even index, of odd index, local crops."""
    noise_share: float = 0.5
    photons: tuple[float, float] = (50.0, 5000.0)
    """Photons at value 1, drawn evenly on the logarithm."""
    read_noise: tuple[float, float] = (0.0, 0.02)
    """Standard deviation."""
    gain_share: float = 0.8
    gain: tuple[float, float] = (0.6, 1.6)
    """Drawn evenly on the logarithm; together with the offset."""
    offset: tuple[float, float] = (-0.05, 0.10)
    inversion_share: float = 0.0
    """Dark on bright, for transfer to phase contrast."""


@dataclass(frozen=True)
class Photometry:
    """One draw; the defaults change nothing.

    Attributes
    ----------
    illumination : five floats
        Coefficients of u, v, u^2, u v, v^2, with u, v in [-1, 1] along y and x.
    blur_sigma : float
        Px; 0 is none.
    photons : float
        At value 1; infinite is none.
    noise_seed : int
        Of the pixel noise, so that it does not depend on the order of the crops.
    """

    gamma: float = 1.0
    illumination: tuple[float, ...] = _NO_FIELD
    blur_sigma: float = 0.0
    photons: float = math.inf
    read_noise: float = 0.0
    gain: float = 1.0
    offset: float = 0.0
    inverted: bool = False
    noise_seed: int = 0


def draw_photometry(
    rng: np.random.Generator, ranges: PhotometryRanges, *, blur_share: float
) -> Photometry:
    """Random photometry; every draw takes the same numbers from `rng`, whatever is switched off."""
    use = rng.random(6) < (
        ranges.gamma_share,
        ranges.illumination_share,
        blur_share,
        ranges.noise_share,
        ranges.gain_share,
        ranges.inversion_share,
    )
    gamma = math.exp(rng.uniform(-ranges.log_gamma, ranges.log_gamma))
    field = _draw_illumination(rng, ranges.illumination)
    sigma = rng.uniform(*ranges.blur_sigma)
    photons, read_noise = _log_uniform(rng, ranges.photons), rng.uniform(*ranges.read_noise)
    gain, offset = _log_uniform(rng, ranges.gain), rng.uniform(*ranges.offset)
    return Photometry(
        gamma=gamma if use[0] else 1.0,
        illumination=field if use[1] else _NO_FIELD,
        blur_sigma=sigma if use[2] else 0.0,
        photons=photons if use[3] else math.inf,
        read_noise=read_noise if use[3] else 0.0,
        gain=gain if use[4] else 1.0,
        offset=offset if use[4] else 0.0,
        inverted=bool(use[5]),
        noise_seed=int(rng.integers(2**62)),
    )


def apply_photometry(crops: Tensor, draws: Sequence[Photometry], n_planes: Sequence[int]) -> Tensor:
    """Change a batch of crops, each by its own draw.

    Parameters
    ----------
    crops : (B, P, Y, X) float tensor
        Normalized planes.
    draws : sequence of B Photometry
    n_planes : sequence of B int
        1 where all P planes of a crop are the same gray plane (its noise is then the same too),
        else P.

    Returns
    -------
    (B, P, Y, X) tensor
        Not clipped.

    Notes
    -----
    ::

        x = sign(x) |x|^gamma                          # stain
        x = x * (1 + illumination(u, v))               # lamp
        x = blur(x, sigma)                             # optics
        x = x + normal * sqrt(max(x, 0) / photons + read_noise^2)      # photons, camera
        x = gain x + offset
        x = 1 - x    where inverted

    Photon noise is the normal approximation of Poisson's (Foi et al. 2008,
    doi:10.1109/TIP.2008.2001399): a Poisson sampler could answer a rounding difference of one
    pixel, which another batch size suffices for, with another draw for all pixels after it.
    """
    x = crops.sign() * crops.abs() ** _column(crops, [d.gamma for d in draws])
    x = x * (1.0 + _illumination(crops, [d.illumination for d in draws]))
    x = _blur(x, [d.blur_sigma for d in draws])
    x = _noisy(x, draws, n_planes)
    x = x * _column(crops, [d.gain for d in draws]) + _column(crops, [d.offset for d in draws])
    return torch.where(_column(crops, [float(d.inverted) for d in draws]) > 0, 1.0 - x, x)


def _column(like: Tensor, values: Sequence[float]) -> Tensor:
    """(B, 1, 1, 1) tensor beside the crops."""
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None, None]


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1])))


def _draw_illumination(rng: np.random.Generator, largest: float) -> tuple[float, ...]:
    """Coefficients whose absolute sum, a bound of the field on [-1, 1]^2, is at most `largest`."""
    direction = rng.uniform(-1.0, 1.0, size=5)
    scale = rng.uniform(0.0, largest) / np.abs(direction).sum()
    return tuple(float(c) for c in direction * scale)


def _illumination(like: Tensor, coefficients: Sequence[Sequence[float]]) -> Tensor:
    """(B, 1, Y, X) deviation from even illumination."""
    sides = [torch.linspace(-1, 1, n, dtype=like.dtype, device=like.device) for n in like.shape[2:]]
    u, v = torch.meshgrid(*sides, indexing="ij")
    terms = torch.stack([u, v, u * u, u * v, v * v])  # (5, Y, X)
    weights = torch.tensor(coefficients, dtype=like.dtype, device=like.device)
    return torch.einsum("bt,tyx->byx", weights, terms)[:, None]


def _blur(x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Separable Gaussian, cut at three sigma, mirrored at the edges; sigma 0 changes nothing."""
    radius = math.ceil(3 * max(sigmas))
    if radius == 0:
        return x
    B, P, Y, X = x.shape
    taps = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    sigma = torch.tensor(sigmas, dtype=x.dtype, device=x.device)[:, None].clamp_min(1e-3)
    kernel = torch.exp(-0.5 * (taps / sigma) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(P, dim=0)  # (B P, taps)
    padded = nn.functional.pad(x, (radius,) * 4, mode="reflect").view(
        1, B * P, Y + 2 * radius, X + 2 * radius
    )
    with torch.autocast(x.device.type, enabled=False):
        rows = nn.functional.conv2d(padded, kernel[:, None, :, None], groups=B * P)
        return nn.functional.conv2d(rows, kernel[:, None, None, :], groups=B * P).view(B, P, Y, X)


def _noisy(x: Tensor, draws: Sequence[Photometry], n_planes: Sequence[int]) -> Tensor:
    generator = torch.Generator(x.device)
    noise = torch.zeros_like(x)
    for plane_noise, draw, n in zip(noise, draws, n_planes, strict=True):
        if math.isfinite(draw.photons) or draw.read_noise > 0.0:
            generator.manual_seed(draw.noise_seed)
            shape = (n, *x.shape[2:])
            plane_noise[:] = torch.randn(shape, generator=generator, dtype=x.dtype, device=x.device)
    per_light = _column(x, [1.0 / draw.photons for draw in draws])
    read = _column(x, [draw.read_noise for draw in draws])
    return x + noise * torch.sqrt(x.clamp_min(0.0) * per_light + read * read)
