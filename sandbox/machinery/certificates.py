"""One private CA per sandbox, and the certificates that it signs."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import trustme

LOCAL_NAMES = ("localhost", "127.0.0.1")


class Certificates:
    """A private CA with a certificate for the local servers and one for clients, as PEM files in `directory`.

    A directory that already holds them is read, not overwritten, so that several processes of one sandbox share its CA.

    Parameters
    ----------
    directory
        Where the PEM files are, or are written to. It holds private keys, so it is made readable by its owner only.
    server_names
        What the certificate of the servers is for.
    server_until
        When that certificate expires.

    Attributes
    ----------
    directory
        Where the files are.
    ca_path, server_path, client_path
        PEM files: the CA's certificate; private key and certificate chain of the servers (for localhost and
        127.0.0.1); the same for a client, for mutual TLS.
    """

    def __init__(
        self, directory: Path, *, server_names: Sequence[str] = LOCAL_NAMES, server_until: datetime | None = None
    ) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self.ca_path = directory / "ca.pem"
        self.server_path = directory / "server.pem"
        self.client_path = directory / "client.pem"
        if not self.client_path.exists():  # written last: where it is, the others are complete
            ca = trustme.CA()
            ca.cert_pem.write_to_path(str(self.ca_path))
            server = ca.issue_cert(*server_names, not_after=server_until)
            server.private_key_and_cert_chain_pem.write_to_path(str(self.server_path))
            ca.issue_cert("collector@sandbox.invalid").private_key_and_cert_chain_pem.write_to_path(
                str(self.client_path)
            )

    def server_context(self, *, ask_client_certificate: bool = False) -> ssl.SSLContext:
        """Return a context for a server that shows the local certificate.

        Parameters
        ----------
        ask_client_certificate
            Ask clients for a certificate of this CA. One without a certificate still gets through the handshake, as at
            nginx: the server answers its request with 400.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server_path)
        if ask_client_certificate:
            context.load_verify_locations(self.ca_path)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return a context for a client that trusts this CA and no other."""
        return ssl.create_default_context(cafile=str(self.ca_path))
