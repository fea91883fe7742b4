"""Load backbone weights of any known layout and say what became of each tensor."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_dinocell.core.errors import ModelFileError
from napari_dinocell.core.model.layouts import layout_of, to_project_names, unwrap
from napari_dinocell.core.model.position import resample_positions
from napari_dinocell.core.model.store import State, read_tensors

_CONSTANTS = ("rope_embed.periods", "attn.qkv.bias_mask")


@dataclass(frozen=True)
class LoadReport:
    """What became of each tensor of a file and each tensor of a network.

    `loaded` were taken as they are, `converted` after a change that the text after the name tells,
    `constant` are in the network but follow from its configuration, `missing` are in the network
    but not in the file, `unexpected` the other way round.
    """

    source: str
    layout: str
    loaded: tuple[str, ...] = ()
    converted: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.layout} layout"]
        for kind in ("loaded", "converted", "constant", "missing", "unexpected"):
            names: tuple[str, ...] = getattr(self, kind)
            shown = "" if kind == "loaded" else "".join(f"\n    {name}" for name in _summary(names))
            lines.append(f"  {kind}: {len(names)}{shown}")
        return "\n".join(lines)


def load_weights(
    module: nn.Module,
    source: str | Path | Mapping[str, Tensor],
    *,
    optional: Collection[str] = ("mask_token",),
    ignore: Collection[str] = (),
) -> LoadReport:
    """Fill a vision transformer from a file or a state of any known layout.

    Patch kernels are folded to the module's patch, position tables resampled to its grid. A table
    of positions loaded into a network with RoPE gives its class row to the class token and is
    dropped.

    Parameters
    ----------
    module : VisionTransformer
        Changed only when everything fits.
    source : path or mapping
        `.safetensors`, or `.pth`/`.pt` read without executing anything in it.
    optional : names
        May be missing: they keep their present value. The mask token plays no part in segmentation.
    ignore : names
        May be in the file without a place in the module.

    Raises
    ------
    ModelFileError
        If the file is damaged or foreign, or anything is missing, unexpected or of a wrong shape.
    """
    if isinstance(source, (str, Path)):
        state, name = read_tensors(source), Path(source).name
    else:
        state, name = dict(source), "given state"
    state = unwrap(state)
    layout = layout_of(state)
    if layout is None:
        first = next(iter(state), "nothing")
        raise ModelFileError(
            f"{name} holds no DINOv2 or DINOv3 backbone (its first tensor is {first}); "
            "give a backbone file."
        )
    state, joined = to_project_names(state)
    own = module.state_dict()
    changes = dict.fromkeys(joined, "q, k and v joined")
    changes |= _fit(state, own)
    for key in [key for key in state if key.endswith(_CONSTANTS) and key in own]:
        if not torch.isfinite(state[key]).all():
            del state[key]  # some published files hold NaN where a constant was never set

    missing = [key for key in own if key not in state]
    constant = tuple(key for key in missing if key.endswith(_CONSTANTS))
    missing = [key for key in missing if key not in constant]
    unexpected = [key for key in state if key not in own]
    present = [key for key in own if key in state]
    report = LoadReport(
        source=name,
        layout=layout,
        loaded=tuple(key for key in present if key not in changes),
        converted=tuple(f"{key} ({changes[key]})" for key in own if key in changes),
        constant=constant,
        missing=tuple(missing),
        unexpected=tuple(unexpected),
    )
    _refuse_incomplete(report, state, own, optional, ignore)
    module.load_state_dict({key: state[key].to(own[key].dtype) for key in present}, strict=False)
    return report


def fold_patch_kernel(weight: Tensor, patch: int) -> Tensor:
    """Patch kernel for smaller patches: the old kernel applied to the enlarged patch.

    `w' = U^T w U` with U the interpolation of one axis from `patch` to the old size: nearest where
    the sizes divide (16 -> 8 sums 2x2 cells), else bilinear (14 -> 8). So convolving x with the
    result equals convolving the patch-wise enlarged x with `weight`, and the sum of the kernel
    stays. Interpolating the kernel itself would lose three quarters of its scale.

    Parameters
    ----------
    weight : (D, C, P, P) float
    patch : int
        At most P.

    Returns
    -------
    (D, C, patch, patch), dtype of `weight`; computed in float64.
    """
    old = weight.shape[-1]
    if weight.ndim != 4 or weight.shape[-2] != old or not 0 < patch <= old:
        raise ValueError(
            f"Patch kernel of shape {tuple(weight.shape)} cannot be folded to {patch}; "
            f"expected (D, C, P, P) with P >= {patch}."
        )
    if patch == old:
        return weight
    up = enlargement(patch, old)
    return torch.einsum("dcpq,pi,qj->dcij", weight.double(), up, up).to(weight.dtype)


def enlargement(small: int, large: int) -> Tensor:
    """(large, small) float64 matrix that interpolates one axis; its rows sum to 1."""
    unit = torch.eye(small, dtype=torch.float64)[None]  # (1, small, small): one impulse per row
    if large % small == 0:
        rows = functional.interpolate(unit, size=large, mode="nearest")
    else:
        rows = functional.interpolate(unit, size=large, mode="linear", align_corners=False)
    return rows[0].T


def _fit(state: State, own: Mapping[str, Tensor]) -> dict[str, str]:
    """Change tensors in place to the module's patch and positions; name -> what was done."""
    changes = {}
    kernel, wanted = state.get("patch_embed.proj.weight"), own.get("patch_embed.proj.weight")
    if kernel is not None and wanted is not None and kernel.ndim == 4:
        old, new = kernel.shape[-1], wanted.shape[-1]
        if new < old:
            state["patch_embed.proj.weight"] = fold_patch_kernel(kernel, new)
            changes["patch_embed.proj.weight"] = f"patch {old} folded to {new}"
    table = state.get("pos_embed.weight")
    if table is None:
        return changes
    if "pos_embed.weight" not in own:
        state["cls_token"] = state["cls_token"] + table[:, :1]
        del state["pos_embed.weight"]
        changes["cls_token"] = "its position added, the patches' positions dropped for RoPE"
    elif table.shape[1] != own["pos_embed.weight"].shape[1]:
        grid = round((own["pos_embed.weight"].shape[1] - 1) ** 0.5)
        state["pos_embed.weight"] = resample_positions(table, grid, grid)
        changes["pos_embed.weight"] = f"{table.shape[1] - 1} places resampled to {grid * grid}"
    return changes


def _refuse_incomplete(
    report: LoadReport,
    state: State,
    own: Mapping[str, Tensor],
    optional: Collection[str],
    ignore: Collection[str],
) -> None:
    missing = [key for key in report.missing if key not in optional]
    if missing:
        raise ModelFileError(
            f"{len(missing)} of {len(own)} weights are missing in {report.source} "
            f"(first: {missing[0]}); the file is for another architecture."
        )
    unexpected = [key for key in report.unexpected if key not in ignore]
    if unexpected:
        raise ModelFileError(
            f"{len(unexpected)} tensors of {report.source} have no place in the network "
            f"(first: {unexpected[0]}); the file is for another architecture."
        )
    for key, value in own.items():
        if key in state and state[key].shape != value.shape:
            raise ModelFileError(
                f"{key} of {report.source} has shape {tuple(state[key].shape)}, the network needs "
                f"{tuple(value.shape)}; the file is for another architecture."
            )


def _summary(names: tuple[str, ...], shown: int = 8) -> list[str]:
    rest = len(names) - shown
    return [*names[:shown], f"... and {rest} more"] if rest > 0 else list(names)
