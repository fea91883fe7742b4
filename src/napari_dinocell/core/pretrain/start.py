"""Where a run starts: the network with the weights that were asked for, and a check that it does.

A run that was asked to load weights and did not is the worst kind: it trains for days and ends as
if nothing had been given. So nothing is loaded by halves, and the losses of the very first step are
compared with what new heads must give.
"""

import logging
import math
from collections import deque
from collections.abc import Iterable

import torch

from napari_dinocell.core.errors import ModelFileError
from napari_dinocell.core.model.store import read_tensors
from napari_dinocell.core.model.vit import VisionTransformer
from napari_dinocell.core.model.weights import load_weights
from napari_dinocell.core.pretrain.config import SSLConfig
from napari_dinocell.core.pretrain.network import ENCODERS, SelfSupervisedNetwork

_log = logging.getLogger(__name__)


def make_network(config: SSLConfig) -> SelfSupervisedNetwork:
    """Network with the weights that the configuration asks for.

    Raises
    ------
    FileNotFoundError, ModelFileError
        If asked-for weights are not there or do not fit completely.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        backbone = VisionTransformer(ENCODERS[config.model.encoder])
        network = SelfSupervisedNetwork(backbone, config.heads)
    if config.model.weights is not None:
        report = load_weights(backbone, config.model.weights, optional=config.model.new_tensors)
        _log.info("%s", report)
    else:
        _log.info("The backbone %s starts from random weights.", config.model.encoder)
    if config.model.heads is not None:
        _load_heads(network, config.model.heads)
    return network


def check_initial_losses(dino: float, ibot: float, config: SSLConfig, n_masked: float) -> None:
    """Compare the first losses of new heads with those of a student without any preference.

    Parameters
    ----------
    dino, ibot : float
        Before the first step.
    n_masked : float
        Share of the global crops that have a mask: the iBOT loss is a mean over all.

    Raises
    ------
    ValueError
        If one is more than 2 % of ln K (0.15 at least) away.
    """
    expected = math.log(config.heads.prototypes)
    for name, value, wanted in (
        ("DINO", dino, expected),
        ("iBOT", ibot, expected * n_masked),
    ):
        if not abs(value - wanted) <= max(0.02 * expected, 0.15):  # so that nan is refused
            raise ValueError(
                f"The first {name} loss is {value:.3f}, new heads must give {wanted:.3f}; heads, "
                "targets or crops are wired wrongly, or heads that were trained before are in use."
            )


class Gate:
    """Stops a run whose heads did not learn on the frozen backbone.

    Heads that stay at ln K will not start to learn later; with a backbone that learns from them
    they would only ruin it.

    Parameters
    ----------
    config : SSLConfig
    recent : iterable of (dino, ibot)
        Losses of the last steps, from a checkpoint.
    """

    def __init__(self, config: SSLConfig, recent: Iterable[tuple[float, float]] = ()) -> None:
        self._margin, self._n_prototypes = config.heads.gate, config.heads.prototypes
        self._weighs_ibot = config.loss.ibot > 0
        self.recent = deque((tuple(pair) for pair in recent), maxlen=50)

    def note(self, dino: float, ibot: float) -> None:
        """Remember the losses of a step."""
        self.recent.append((dino, ibot))

    def check(self, n_masked: float) -> None:
        """Raise RuntimeError if the mean of the last 50 steps is not low enough.

        The DINO loss must be `gate` nats below ln K; the iBOT loss, as a mean over the share
        `n_masked` of the crops, by that share of it.
        """
        if not self._margin or not self.recent:
            return
        dino, ibot = (sum(values) / len(self.recent) for values in zip(*self.recent, strict=True))
        uniform = math.log(self._n_prototypes)
        is_stuck = dino > uniform - self._margin
        if self._weighs_ibot and n_masked:
            is_stuck |= ibot > n_masked * (uniform - self._margin)
        if is_stuck:
            raise RuntimeError(
                f"After the heads' stage the losses are DINO {dino:.3f} and iBOT {ibot:.3f}, not "
                f"{self._margin:g} below ln K = {uniform:.3f} (iBOT: a share of {n_masked:g} of "
                "that); the heads do not learn. Try heads.weight_norm=true, fewer "
                "heads.prototypes, a lower teacher.temperature or more heads.steps; "
                "heads.gate=0 goes on anyway."
            )


def _load_heads(network: SelfSupervisedNetwork, path: str) -> None:
    tensors = read_tensors(path)
    for name in ("dino_head", "ibot_head"):
        prefix = f"{name}."
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if not state:
            raise ModelFileError(
                f"{path} has no {name}; give a checkpoint of a pre-training run, or leave "
                "model.heads out and train new heads."
            )
        try:
            getattr(network, name).load_state_dict(state)
        except RuntimeError as error:
            raise ModelFileError(
                f"The {name} of {path} has another shape; set heads.prototypes, heads.hidden and "
                "heads.bottleneck as they were."
            ) from error
