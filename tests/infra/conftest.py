"""Templates that several tests look at are synthesised once: the CDK's start costs seconds."""

from functools import cache
from pathlib import Path
from typing import Protocol

import pytest

from tests.infra.synthesis import Synthesis, synthesise, synthesise_shape


class Shaped(Protocol):
    """Returns the synthesis of a shape, always the same."""

    def __call__(self, shape: str) -> Synthesis: ...


@pytest.fixture(scope="session")
def shaped(tmp_path_factory: pytest.TempPathFactory) -> Shaped:
    """Somebody else's app, with the construct in one of the shapes that it can take."""
    return cache(lambda shape: synthesise_shape(tmp_path_factory.mktemp("shape"), shape))


@pytest.fixture(scope="session")
def synthesis(tmp_path_factory: pytest.TempPathFactory) -> Synthesis:
    """The stack from nothing but the required settings."""
    return synthesise(tmp_path_factory.mktemp("default"))


@pytest.fixture(scope="session")
def with_new_token(tmp_path_factory: pytest.TempPathFactory) -> Synthesis:
    """The stack that creates the secret for Kong's token."""
    return synthesise(tmp_path_factory.mktemp("token"), kong_superadmin="true")


@pytest.fixture(scope="session")
def ca_pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA's certificate, with the text around it that tools like to write."""
    import trustme

    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    path.write_bytes(b"Issuer: somebody\n" + trustme.CA().cert_pem.bytes())
    return path
