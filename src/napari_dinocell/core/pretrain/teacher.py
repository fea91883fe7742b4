"""Teacher: an exponential moving average of the student, which no gradient reaches.

Tarvainen and Valpola 2017 (mean teacher, arXiv:1703.01780, equation 1); DINO, section 3.1.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def make_teacher(student: M) -> M:
    """Copy of the student as its first teacher: float32, evaluation mode, no gradient.

    Parameters
    ----------
    student : nn.Module
        Backbone and heads together (for example an `nn.ModuleDict`): all of it is averaged.

    Returns
    -------
    nn.Module
        In evaluation mode; keep it there, so that it drops no path and does not rescale positions.

    Notes
    -----
    Float32 whatever the student has: near the end of training a step moves the teacher by a
    fraction below 2 ** -8 of the difference, which bfloat16 rounds to nothing.
    """
    teacher = copy.deepcopy(student).float()
    teacher.requires_grad_(False)
    return teacher.eval()


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move every parameter of the teacher towards the student's; copy the buffers.

    Call it after each optimizer step, with the step's value of the momentum schedule.

    Parameters
    ----------
    momentum : float
        In [0, 1]: 1 leaves the teacher exactly as it is, 0 makes it equal to the student.

    Raises
    ------
    ValueError
        If momentum is outside [0, 1], or the two differ in their parameters or buffers.

    Notes
    -----
    ::

        for each parameter: teacher = momentum * teacher + (1 - momentum) * student
    """
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"Teacher momentum is {momentum}; it must lie in [0, 1].")
    old, new = dict(teacher.named_parameters()), dict(student.named_parameters())
    old_buffers, new_buffers = dict(teacher.named_buffers()), dict(student.named_buffers())
    differing = sorted((old.keys() ^ new.keys()) | (old_buffers.keys() ^ new_buffers.keys()))
    if differing:
        raise ValueError(
            f"Teacher and student differ in {len(differing)} parameters (first: {differing[0]}); "
            "make the teacher from this student."
        )
    ours: list[Tensor] = list(old.values())
    theirs = [new[name].detach().to(p.dtype) for name, p in old.items()]
    if ours:
        torch._foreach_lerp_(ours, theirs, 1.0 - momentum)
    for name, buffer in old_buffers.items():
        buffer.copy_(new_buffers[name])
