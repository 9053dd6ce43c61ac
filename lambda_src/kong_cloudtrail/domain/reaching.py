"""How far a connection to a server gets: its name, its address, its certificate."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from .finding import Area, Finding
from .moment import utc

SECONDS = 3.0
"""How long to wait for a connection, and for the TLS handshake."""
EXPIRES_SOON_DAYS = 30

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which the module ssl does not name
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = frozenset({62, 64})
"""Numbers of OpenSSL's verification: https://docs.openssl.org/3.0/man1/openssl-verification-options/."""
_DAY_SECONDS = 86_400
_PLAIN_SECONDS = 1.0
_MOST_NAMES = 5


@dataclass(frozen=True, slots=True)
class Plain:
    """How to recognise a server that does not encrypt, where one is expected that does.

    Parameters
    ----------
    greeting
        What to send to it.
    answer
        How its answer begins: one of these.
    what
        What it is then, such as ``plain HTTP``.
    do
        What to do about it.
    """

    greeting: bytes
    answer: tuple[bytes, ...]
    what: str
    do: str


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and what messages about it name.

    Parameters
    ----------
    area
        The part of the installation that it belongs to.
    host, port
        Its address.
    variable
        The setting that holds the address.
    tls
        Makes a context that trusts what a run trusts; ``None``: the connection is not encrypted.
    untrusted
        What to do if nobody trusts the certificate's issuer.
    route
        What else is on the way to it, as a sentence.
    plain
        How to recognise that it does not encrypt; ``None``: nobody knows.
    """

    area: Area
    host: str
    port: int
    variable: str
    tls: Callable[[], ssl.SSLContext] | None = None
    untrusted: str = ""
    route: str = ""
    plain: Plain | None = None


@dataclass(frozen=True, slots=True)
class ReachCheck:
    """Finds out whether a server can be reached, and nothing else about it."""

    server: Server
    name: str = "connection"

    @property
    def area(self) -> str:
        """The part of the installation."""
        return self.server.area.name

    def run(self) -> Iterator[Finding]:
        """Yield what is found."""
        yield from reach(self.server)


def reach(server: Server) -> Generator[Finding, None, bool]:
    """Yield how far a connection gets; return whether it got through."""
    addresses = yield from _resolve(server)
    if not addresses:
        return False
    sock = yield from _connect(server, addresses)
    if sock is None:
        return False
    with sock:
        if server.tls is None:
            return True
        return (yield from _shake_hands(server, sock))


def speaks_tls(host: str, port: int) -> bool:
    """Return whether a server speaks TLS. Its certificate does not matter: nothing is sent to it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=_PLAIN_SECONDS) as sock,
            context.wrap_socket(sock, server_hostname=host),
        ):
            return True
    except ssl.SSLError as error:
        # A server that asks for a certificate of its clients, or for another version, speaks TLS all the same.
        return "ALERT" in str(error.reason)
    except (OSError, ValueError):
        return False


def _resolve(server: Server) -> Generator[Finding, None, list[Any]]:
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        again = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        yield server.area.failed(
            "name",
            f"The name {server.host} cannot be resolved{' at the moment' if again else ''}.",
            f"Check {server.variable}, and that the DNS of this network knows the name. A private hosted zone has to "
            "be associated with the VPC.",
            may_pass=again,
        )
        return []
    if not _is_address(server.host):
        addresses = ", ".join(dict.fromkeys(str(address[0]) for *_, address in found))
        yield server.area.ok("name", f"{server.host} is {addresses}.")
    return found


def _connect(server: Server, addresses: list[Any]) -> Generator[Finding, None, socket.socket | None]:
    problem: OSError | None = None
    deadline = time.monotonic() + SECONDS
    for family, kind, protocol, _, address in addresses:
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(seconds)
        began = time.monotonic()
        try:
            sock.connect(address)
        except OSError as error:
            problem = error
            sock.close()
            continue
        milliseconds = (time.monotonic() - began) * 1000
        yield server.area.ok("connection", f"{_place(server)} takes connections ({milliseconds:.0f} ms).")
        return sock
    yield _not_connected(server, problem)
    return None


def _not_connected(server: Server, problem: OSError | None) -> Finding:
    if isinstance(problem, ConnectionRefusedError):
        return server.area.failed(
            "connection",
            f"{_place(server)} refuses connections: nothing listens there.",
            f"Check that it runs, and the port in {server.variable}.",
            may_pass=True,
        )
    if problem is None or isinstance(problem, TimeoutError):
        return server.area.failed(
            "connection",
            f"{_place(server)} did not answer within {SECONDS:.0f} s.",
            f"Check the address in {server.variable}, the security groups on both sides, routes and network ACLs. "
            f"{server.route}".rstrip(),
            may_pass=True,
        )
    return server.area.failed(
        "connection",
        f"No connection to {_place(server)}: {problem.strerror or type(problem).__name__}.",
        f"Check the address in {server.variable}, and the routes from here. {server.route}".rstrip(),
        may_pass=True,
    )


def _shake_hands(server: Server, sock: socket.socket) -> Generator[Finding, None, bool]:
    assert server.tls is not None  # noqa: S101 - whoever calls has seen to that
    sock.settimeout(SECONDS)
    try:
        certificate = _certificate(server.tls(), sock, server.host)
    except ssl.SSLCertVerificationError as error:
        yield from _distrusted(server, error)
        return False
    except (OSError, ValueError) as error:
        yield _no_handshake(server, error)
        return False
    yield _valid(server, certificate)
    return True


def _certificate(context: ssl.SSLContext, sock: socket.socket, host: str) -> Any:
    with context.wrap_socket(sock, server_hostname=host) as secured:
        return secured.getpeercert() or {}


def _answers_plainly(server: Server, plain: Plain) -> bool:
    try:
        with socket.create_connection((server.host, server.port), timeout=_PLAIN_SECONDS) as sock:
            sock.sendall(plain.greeting)
            return sock.recv(64).startswith(plain.answer)
    except OSError:
        return False


def _no_handshake(server: Server, error: Exception) -> Finding:
    plain = server.plain
    if plain is None or not _answers_plainly(server, plain):
        return _no_tls(server, error)
    return server.area.failed("TLS", f"{_place(server)} does not speak TLS. It speaks {plain.what}.", plain.do)


def _no_tls(server: Server, error: Exception) -> Finding:
    reason = getattr(error, "reason", None) or ("no answer" if isinstance(error, TimeoutError) else "")
    kind = str(reason or type(error).__name__).lower().replace("_", " ")
    return server.area.failed(
        "TLS",
        f"The TLS handshake with {_place(server)} failed ({kind}).",
        f"Check that the port in {server.variable} speaks TLS, in version 1.2 or later, and whether it asks its "
        "clients for a certificate.",
        may_pass=isinstance(error, ConnectionError | TimeoutError),
    )


def _distrusted(server: Server, error: ssl.SSLCertVerificationError) -> Iterator[Finding]:
    area, place = server.area, _place(server)
    if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
        yield _out_of_time(server, error.verify_code == _EXPIRED)
    elif error.verify_code in _OTHER_NAME:
        names = _names(server)
        yield area.failed(
            "certificate",
            f"The certificate of {place} is for another name than {server.host}{names and f': it is for {names}'}.",
            f"Write the name that is in the certificate into {server.variable}, or have a certificate issued for "
            f"{server.host}.",
        )
    else:
        yield area.failed(
            "certificate",
            f"The certificate of {place} is not trusted: {error.verify_message}.",
            server.untrusted,
        )


def _certificate_again(server: Server, relax: Callable[[ssl.SSLContext], None]) -> Any:
    """Connect again with a check taken out, and return the certificate; an empty one if that fails as well."""
    if server.tls is not None:
        context = server.tls()
        relax(context)
        with (
            contextlib.suppress(OSError, ValueError),
            socket.create_connection((server.host, server.port), timeout=SECONDS) as sock,
        ):
            return _certificate(context, sock, server.host)
    return {}


def _names(server: Server) -> str:
    """Connect again and return the names of the certificate, or an empty text. Its issuer is trusted."""

    def relax(context: ssl.SSLContext) -> None:
        context.check_hostname = False

    certificate = _certificate_again(server, relax)
    names = [str(name) for _, name in certificate.get("subjectAltName", ())]
    more = " and others" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _out_of_time(server: Server, is_expired: bool) -> Finding:
    """Connect again and look only at the dates: a certificate that is not valid is not shown otherwise."""

    def relax(context: ssl.SSLContext) -> None:
        context.verify_flags = ssl.VerifyFlags(context.verify_flags | _NO_CHECK_TIME)

    certificate = _certificate_again(server, relax)
    limit = _moment(certificate, "notAfter" if is_expired else "notBefore")
    when = "" if limit is None else f", since {utc(limit)}" if is_expired else f" before {utc(limit)}"
    what = f"has expired{when}" if is_expired else f"is not valid{when or ' yet'}"
    days = "" if limit is None or not is_expired else f", {(time.time() - limit) / _DAY_SECONDS:.0f} days ago"
    return server.area.failed(
        "certificate",
        f"The certificate of {_place(server)} {what}{days}.",
        "Renew it. If that date is right, the clock of this machine is wrong: see the findings on clocks.",
    )


def _valid(server: Server, certificate: Any) -> Finding:
    limit = _moment(certificate, "notAfter")
    if limit is None:
        return server.area.ok("certificate", f"The certificate of {_place(server)} is trusted.")
    days = int((limit - time.time()) // _DAY_SECONDS)
    what = (
        f"The certificate of {_place(server)} is trusted and for this name. It expires in {days} days, at {utc(limit)}."
    )
    if days < EXPIRES_SOON_DAYS:
        return server.area.warning("certificate", what, "Renew it before that: no run succeeds afterwards.")
    return server.area.ok("certificate", what)


def _moment(certificate: Any, name: str) -> int | None:
    text = certificate.get(name)
    return None if text is None else ssl.cert_time_to_seconds(text)


def _place(server: Server) -> str:
    return f"[{server.host}]:{server.port}" if ":" in server.host else f"{server.host}:{server.port}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
