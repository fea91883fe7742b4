import pytest
import torch

from .specimens import SMALL, VIT, card_of, train_base


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_base():
    """Convolutional network that finds bright discs and overlooks dim ones, and its card."""
    network = train_base(SMALL, 60)
    return network, card_of(network)


@pytest.fixture(scope="session")
def vit_base():
    """The same task learned by a transformer and its decoder."""
    network = train_base(VIT, 100)
    return network, card_of(network)


@pytest.fixture(params=["small", "vit"])
def base(request):
    return request.getfixturevalue(f"{request.param}_base")
