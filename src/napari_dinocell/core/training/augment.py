"""Random changes of a crop: which, how strong, how often, and those of the pixel values.

Everything here works on a plane that is already normalized as in inference (about [0, 1]).
The geometry is in `crops.py`, because image and labels share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import ndimage

from napari_dinocell.core.intensity import CLIP

FloatArray = npt.NDArray[np.float32]

# Optical density of hematoxylin, eosin and DAB (Ruifrok and Johnston 2001), rows of unit length.
_STAINS = np.array(
    [[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]], dtype=np.float32
)
_STAINS /= np.linalg.norm(_STAINS, axis=1, keepdims=True)
_UNSTAIN = np.linalg.inv(_STAINS).astype(np.float32)


class AugmentConfig(BaseModel):
    """Probabilities of the changes (0 = never) and their ranges.

    Lengths are in px of the crop, intensities in units of the normalized range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flip: float = Field(0.5, ge=0, le=1, description="mirror; each axis on its own")
    rotate: float = Field(0.5, ge=0, le=1, description="any angle; else a multiple of 90 degrees")
    right_angle: float = Field(1.0, ge=0, le=1, description="random multiple of 90 degrees")
    scale: float = Field(0.9, ge=0, le=1, description="random factor around the diameter")
    scale_range: tuple[float, float] = (0.6, 1.6)
    native_scale: float = Field(0.1, ge=0, le=1, description="leave out scaling to the diameter")
    shear: float = Field(0.25, ge=0, le=1, description="mild shear and unequal scale of the axes")
    shear_limit: float = Field(0.12, ge=0, le=0.5)
    elastic: float = Field(0.25, ge=0, le=1)
    elastic_limit: float = Field(6.0, ge=0, description="largest shift, px")
    elastic_spacing: int = Field(48, ge=8, description="distance of independent shifts, px")

    gamma: float = Field(0.5, ge=0, le=1)
    gamma_range: tuple[float, float] = (0.5, 1.6)
    illumination: float = Field(0.3, ge=0, le=1, description="smooth background and shading")
    illumination_limit: float = Field(0.4, ge=0, le=1)
    blur: float = Field(0.25, ge=0, le=1)
    blur_range: tuple[float, float] = (0.4, 1.8)
    noise: float = Field(0.4, ge=0, le=1, description="shot and read noise, sometimes correlated")
    noise_limit: float = Field(0.1, ge=0, le=0.5)
    invert_gray: float = Field(0.25, ge=0, le=1)
    invert_color: float = Field(0.05, ge=0, le=1)
    stretch: float = Field(0.5, ge=0, le=1, description="jitter of the normalization: contrast")
    stretch_limit: float = Field(0.15, ge=0, le=0.5)

    stain: float = Field(0.5, ge=0, le=1, description="strength of each stain, color only")
    stain_limit: float = Field(0.3, ge=0, le=1)
    color_gain: float = Field(0.3, ge=0, le=1, description="gain of each channel, color only")
    channel_shuffle: float = Field(0.1, ge=0, le=1)
    channel_dropout: float = Field(0.05, ge=0, le=1)
    to_gray: float = Field(0.25, ge=0, le=1)
    tint: float = Field(0.04, ge=0, le=1, description="gray shown in one color, as in screenshots")

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Self:
        for name in ("scale_range", "gamma_range", "blur_range"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is {low} to {high}; it must ascend from above 0")
        return self

    @classmethod
    def off(cls, **changes: Any) -> AugmentConfig:
        """Return the configuration that changes nothing but what `changes` names."""
        chances = {
            name: 0.0
            for name, field in cls.model_fields.items()
            if field.annotation is float and not name.endswith("_limit")
        }
        return cls.model_validate(chances | changes)


@dataclass(frozen=True)
class Pixels:
    """A crop and a sample of its whole plane, changed alike.

    The sample stands for the plane: its percentiles after the changes are those by which
    inference would normalize the changed plane. Percentiles of the crop would not do: a crop
    without cells would be blown up to pure noise.
    """

    crop: FloatArray  # (C, Y, X), C is 1 or 3
    sample: FloatArray  # (C, N)


def change_pixels(pixels: Pixels, config: AugmentConfig, rng: np.random.Generator) -> Pixels:
    """Change colors, tone, shading, sharpness and noise at random; normalize again.

    Parameters
    ----------
    pixels : Pixels
        Normalized; one channel or three.
    config : AugmentConfig
        Probabilities and ranges.
    rng : Generator
        The only source of randomness.

    Returns
    -------
    Pixels
        Normalized by the percentiles of the changed sample if anything was changed.
    """
    start = pixels
    if pixels.crop.shape[0] == 3:
        pixels = _change_colors(pixels, config, rng)
    invert = config.invert_gray if pixels.crop.shape[0] == 1 else config.invert_color
    if rng.random() < invert:
        pixels = Pixels(1 - pixels.crop, 1 - pixels.sample)
    if rng.random() < config.gamma:
        gamma = _log_uniform(rng, config.gamma_range)
        pixels = Pixels(_power(pixels.crop, gamma), _power(pixels.sample, gamma))
    if rng.random() < config.illumination:
        pixels = _shade(pixels, config.illumination_limit, rng)
    if rng.random() < config.blur:
        sigma = rng.uniform(*config.blur_range)
        pixels = Pixels(ndimage.gaussian_filter(pixels.crop, (0, sigma, sigma)), pixels.sample)
    if rng.random() < config.noise:
        pixels = _add_noise(pixels, config.noise_limit, rng)
    if pixels.crop.shape[0] == 1 and rng.random() < config.tint:
        gains = rng.choice([0.0, 1.0], (3, 1)).astype(np.float32)
        gains = np.maximum(gains, rng.uniform(0, 0.3, (3, 1)).astype(np.float32))
        pixels = Pixels(pixels.crop * gains[..., None], pixels.sample * gains)
    low, high = 0.0, 1.0
    if pixels is not start:
        low, high = (float(v) for v in np.percentile(pixels.sample, (1.0, 99.8)))
    if rng.random() < config.stretch:
        width = high - low
        low += width * rng.uniform(-1, 1) * config.stretch_limit
        high += width * rng.uniform(-1, 1) * config.stretch_limit
    if (low, high) == (0.0, 1.0):
        return pixels
    gain = np.float32(1 / max(high - low, 1e-3))
    offset = np.float32(low)
    return Pixels(
        np.clip((pixels.crop - offset) * gain, *CLIP),
        np.clip((pixels.sample - offset) * gain, *CLIP),
    )


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))


def _power(values: FloatArray, gamma: float) -> FloatArray:
    # Values below the first percentile keep their sign, values above 1 grow on.
    return np.sign(values) * np.abs(values) ** np.float32(gamma)


def _change_colors(pixels: Pixels, config: AugmentConfig, rng: np.random.Generator) -> Pixels:
    crop, sample = pixels.crop, pixels.sample
    if rng.random() < config.stain:
        limit = config.stain_limit
        gains = rng.uniform(1 - limit, 1 + limit, (3, 1)).astype(np.float32)
        mix = _UNSTAIN @ (gains * _STAINS)
        crop, sample = _restain(crop, mix), _restain(sample, mix)
    if rng.random() < config.color_gain:
        gains = rng.uniform(0.75, 1.25, (3, 1)).astype(np.float32)
        crop, sample = crop * gains[..., None], sample * gains
    if rng.random() < config.channel_shuffle:
        order = rng.permutation(3)
        crop, sample = crop[order], sample[order]
    if rng.random() < config.to_gray:
        # Luminance most often; another mixture of the channels shows the same cells.
        share = np.array([0.2125, 0.7154, 0.0721], dtype=np.float32)
        if rng.random() < 0.5:
            share = rng.dirichlet((1.0, 1.0, 1.0)).astype(np.float32)
        crop, sample = np.tensordot(share, crop, 1)[None], (share @ sample)[None]
    elif rng.random() < config.channel_dropout:
        kept = np.ones((3, 1), dtype=np.float32)
        kept[rng.integers(3)] = 0
        crop, sample = crop * kept[..., None], sample * kept
    return Pixels(crop, sample) if crop is not pixels.crop else pixels


def _restain(values: FloatArray, mix: FloatArray) -> FloatArray:
    """Change the strengths of the stains; `mix` acts on optical densities (rows)."""
    density = -np.log(np.clip(values, 0.02, 1.0)).reshape(3, -1)
    return np.exp(-(mix.T @ density)).reshape(values.shape)


def _shade(pixels: Pixels, limit: float, rng: np.random.Generator) -> Pixels:
    """Add a smooth background and multiply by a smooth gain, each a random quadratic."""
    terms = rng.normal(0, 1, (2, 5)).astype(np.float32)
    amounts = rng.uniform(0, limit, 2).astype(np.float32)
    _, height, width = pixels.crop.shape
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    shades = []
    for t, amount in zip(terms, amounts, strict=True):
        surface = t[0] * y + t[1] * x + t[2] * y * x + t[3] * y * y + t[4] * x * x
        shades.append(surface * (amount / max(float(np.abs(surface).max()), 1e-6)))
    places = rng.integers(height * width, size=pixels.sample.shape[1])
    add, gain = shades[0], 1 + shades[1]
    return Pixels(
        pixels.crop * gain + add,
        pixels.sample * gain.reshape(-1)[places] + add.reshape(-1)[places],
    )


def _add_noise(pixels: Pixels, limit: float, rng: np.random.Generator) -> Pixels:
    """Add read noise and shot noise (variance grows with the value), sometimes correlated."""
    read, shot = np.float32(limit) * rng.uniform(0, 1, 2).astype(np.float32) ** 2
    correlated = rng.random() < 0.4
    noisy = []
    for values in (pixels.crop, pixels.sample):
        noise = rng.standard_normal(values.shape, dtype=np.float32)
        if correlated and values.ndim == 3:
            sigma = 0.7
            # A Gaussian filter of width s leaves 1 / (4 pi s^2) of the variance of white noise.
            noise = ndimage.gaussian_filter(noise, (0, sigma, sigma))
            noise *= np.float32(2 * np.sqrt(np.pi) * sigma)
        variance = read**2 + shot**2 * np.clip(values, 0, None)
        noisy.append(values + np.sqrt(variance) * noise)
    return Pixels(noisy[0], noisy[1])
