"""Projection head: from a token to scores for the prototypes.

The head of DINO (arXiv:2104.14294, section 3.1) as DINOv3 uses it: a plain last layer. The CLS
token and the patches have heads of their own. Heads live during pre-training only; they are not
part of a model file.
"""

import torch
from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """Three linear layers to a unit vector, then its scalar products with K prototypes.

    The bottleneck vector has length 1, so a logit is at most the length of its prototype.

    Parameters
    ----------
    width : int
        D of the tokens.
    n_prototypes : int
        K. 8192 suits batches around 64: Sinkhorn-Knopp gives each prototype M / K samples, so that
        far more prototypes than samples say little per step.
    hidden, bottleneck : int
        Widths of the two hidden layers and of the unit vector.
    weight_norm : bool
        Keep each prototype at length 1 (DINOv2). Logits then start at a standard deviation of
        bottleneck ** -0.5 = 0.0625 instead of 0.02, and a new head leaves ln K earlier: the
        fallback when a head on frozen features does not learn.
    """

    def __init__(
        self,
        width: int,
        n_prototypes: int = 8192,
        *,
        hidden: int = 2048,
        bottleneck: int = 256,
        weight_norm: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("n_prototypes", n_prototypes), ("hidden", hidden)):
            if value < 1:
                raise ValueError(f"Projection head got {name} = {value}; it must be at least 1.")
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, bottleneck),
        )
        self.prototypes = nn.Linear(bottleneck, n_prototypes, bias=False)
        self.weight_norm = weight_norm
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights: normal of standard deviation 0.02, cut at 2 (absolute); biases 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Scores of tokens (..., D) for the prototypes, (..., K)."""
        z = self.mlp(tokens)
        # Half precision has no 1e-12: the norm of a zero vector would divide by 0.
        z = nn.functional.normalize(z, dim=-1, eps=1e-6 if z.dtype == torch.float16 else 1e-12)
        if self.weight_norm:
            return nn.functional.linear(z, nn.functional.normalize(self.prototypes.weight, dim=-1))
        return self.prototypes(z)  # type: ignore[no-any-return]
