"""What the tests of the construct share; the templates themselves are in ``tests/conftest.py``."""

from pathlib import Path

import pytest
import trustme


@pytest.fixture(scope="session")
def ca_pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA's certificate, with the text around it that tools like to write."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_bytes(b"Issuer: somebody\n" + trustme.CA().cert_pem.bytes())
    return path
