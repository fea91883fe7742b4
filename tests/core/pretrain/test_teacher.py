import pytest
import torch
from torch import nn

from napari_dinocell.core.pretrain.teacher import make_teacher, update_teacher

from .tiny import SIZE, tiny_network


def trained_one_step(student: nn.Module, teacher: nn.Module) -> None:
    """One optimizer step on a loss that uses both."""
    crops = torch.rand(4, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(student.parameters(), lr=0.1)
    with torch.no_grad():
        target = teacher.dino_head(teacher(crops).cls)
    tokens = student(crops)
    loss = (student.dino_head(tokens.cls) - target - 1).square().mean()
    (loss + student.ibot_head(tokens.patches).square().mean()).backward()
    optimizer.step()


def test_invariant_10_training_the_student_leaves_the_teacher_alone():
    student = tiny_network()
    teacher = make_teacher(student)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    trained_one_step(student, teacher)
    assert all(p.grad is None for p in teacher.parameters())
    assert all(not p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert any(not torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_invariant_10_teacher_and_student_share_no_memory():
    student = tiny_network()
    teacher = make_teacher(student)
    ours = {value.data_ptr() for value in teacher.state_dict().values()}
    theirs = {value.data_ptr() for value in student.state_dict().values()}
    assert len(ours) == len(theirs)
    assert not ours & theirs


def test_teacher_is_float32_and_evaluates_while_the_student_trains():
    student = tiny_network().bfloat16().train()
    teacher = make_teacher(student)
    assert {p.dtype for p in teacher.parameters()} == {torch.float32}
    assert not any(module.training for module in teacher.modules())
    assert student.training
    assert all(p.requires_grad for p in student.parameters())


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.996, 1.0])
def test_invariant_11_every_parameter_of_backbone_and_heads_is_averaged(momentum):
    student, teacher = tiny_network(1), make_teacher(tiny_network(2))
    old = {name: p.clone() for name, p in teacher.named_parameters()}
    update_teacher(teacher, student, momentum)
    new = dict(student.named_parameters())
    assert any(name.startswith("ibot_head") for name in old)
    for name, parameter in teacher.named_parameters():
        if momentum == 1.0:
            assert torch.equal(parameter, old[name])
        elif momentum == 0.0:
            assert torch.equal(parameter, new[name])
        else:
            expected = momentum * old[name] + (1 - momentum) * new[name]
            torch.testing.assert_close(parameter, expected, rtol=0, atol=1e-7)
        assert parameter.dtype == torch.float32


def test_invariant_11_float32_keeps_the_last_steps_that_bfloat16_would_lose():
    def moved(dtype: torch.dtype) -> float:
        teacher, student = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        nn.init.constant_(teacher.weight, 1.0)
        nn.init.constant_(student.weight, 1.001)
        teacher.to(dtype)
        update_teacher(teacher, student, 0.999)
        return float(teacher.weight.detach()) - 1.0

    assert moved(torch.float32) == pytest.approx(1e-6, abs=1.2e-7)
    assert moved(torch.bfloat16) == 0.0


def test_half_of_a_difference_is_left_after_173_steps_at_0996():
    student, teacher = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.constant_(student.weight, 0.0)
    nn.init.constant_(teacher.weight, 1.0)
    for _ in range(173):
        update_teacher(teacher, student, 0.996)
    assert float(teacher.weight.detach()) == pytest.approx(0.5, abs=0.001)


def test_buffers_are_copied_not_averaged():
    student, teacher = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    student.running_mean += 4.0
    student.num_batches_tracked += 7
    update_teacher(teacher, student, 0.9)
    assert torch.equal(teacher.running_mean, student.running_mean)
    assert int(teacher.num_batches_tracked) == 7


def test_teacher_of_another_network_is_refused():
    with pytest.raises(ValueError, match=r"differ in 1 parameters \(first: bias\)"):
        update_teacher(nn.Linear(2, 2), nn.Linear(2, 2, bias=False), 0.9)
    with pytest.raises(ValueError, match="lie in"):
        update_teacher(nn.Linear(2, 2), nn.Linear(2, 2), 1.1)
