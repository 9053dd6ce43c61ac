"""The parts of the demo that a visitor can break and mend: Kong's audit log, CloudTrail, the way to the cache."""

from __future__ import annotations

import threading
from typing import Protocol, Self

from sandbox.cloudtrail.emulator import CloudTrailEmulator
from sandbox.kong.simulator import KongSimulator
from sandbox.machinery import faults
from sandbox.machinery.certificates import Certificates
from sandbox.machinery.faults import Fault
from sandbox.machinery.valkey import TlsProxy, Valkey

READER = "reader=demo-page"
"""In the query string of the page's own reads. Kong ignores it, and a broken audit log still answers such reads."""

REFUSAL_CODE = "InvalidData"
"""With which CloudTrail refuses a single entry: a code that no second attempt will change."""

_AS_LONG_AS_IT_TAKES = 10**9


class Part(Protocol):
    """What can be broken and mended, any number of times."""

    @property
    def name(self) -> str:
        """What it is called at the beginning of a sentence."""

    @property
    def is_broken(self) -> bool:
        """Whether it is broken now."""

    @property
    def symptom(self) -> str:
        """What the collector meets while it is broken."""

    def break_(self) -> None:
        """Break it, if it works."""

    def mend(self) -> None:
        """Mend it, if it is broken."""


class KongPart:
    """Kong's audit log. Everything else of the Admin API goes on, so that there is something to catch up on later."""

    name = "Kong's audit log"
    symptom = "Kong resets each connection that reads it. Other Admin API calls still work."

    def __init__(self, kong: KongSimulator) -> None:
        self._kong = kong
        self.is_broken = False

    def break_(self) -> None:
        """Reset the connections of everybody who reads the audit log, but not of the page."""
        if not self.is_broken:
            path = rf"/audit/(?!.*[?&]{READER}(&|$))"
            self._kong.inject(Fault(kind="reset", path=path, times=_AS_LONG_AS_IT_TAKES))
            self.is_broken = True

    def mend(self) -> None:
        """Answer as usual."""
        self._kong.clear_faults()
        self.is_broken = False


class CloudTrailPart:
    """CloudTrail's data plane: whole calls can fail, and single entries can be refused."""

    name = "CloudTrail"
    symptom = "It answers every call with 503 ServiceUnavailable."

    def __init__(self, cloudtrail: CloudTrailEmulator) -> None:
        self._cloudtrail = cloudtrail
        self._lock = threading.Lock()
        self._refusals_left = 0
        self.is_broken = False
        self._watch_entries()

    @property
    def refusals_left(self) -> int:
        """How many of the next entries will be refused."""
        return self._refusals_left

    def break_(self) -> None:
        """Let every call fail."""
        if not self.is_broken:
            fault = faults.aws_error("ServiceUnavailable", 503, times=_AS_LONG_AS_IT_TAKES)
            self._cloudtrail.inject(fault)
            self.is_broken = True

    def mend(self) -> None:
        """Take calls as usual. Entries that are still to be refused will be."""
        self._cloudtrail.clear_faults()
        self._watch_entries()
        self.is_broken = False

    def refuse_next(self) -> None:
        """Refuse one more of the next entries, for good."""
        with self._lock:
            self._refusals_left += 1

    def _watch_entries(self) -> None:
        self._cloudtrail.fail_entries(REFUSAL_CODE, predicate=lambda _event: self._is_refused())

    def _is_refused(self) -> bool:
        with self._lock:
            refused = self._refusals_left > 0
            self._refusals_left -= refused
            return refused


class CachePart:
    """The cache as the collector reaches it: TLS in front of a Valkey. A context manager that runs the TLS.

    Broken, it refuses connections; the marks behind it stay.

    Parameters
    ----------
    valkey
        The cache itself.
    certificates
        Whose server certificate it shows.

    Attributes
    ----------
    host, port, ca_pem_path
        As of `TlsProxy`; the same over `break_` and `mend`.
    """

    name = "The cache"
    symptom = "It refuses connections. The marks in it are not lost."

    def __init__(self, valkey: Valkey, certificates: Certificates) -> None:
        self.valkey = valkey
        self._certificates = certificates
        self._lock = threading.Lock()
        self._proxy: TlsProxy | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.mend()
        return self

    def __exit__(self, *_: object) -> None:
        self.break_()

    @property
    def is_broken(self) -> bool:
        """Whether connections are refused."""
        return self._proxy is None

    def break_(self) -> None:
        """Close all connections, and take no new ones."""
        with self._lock:
            if self._proxy is not None:
                self._proxy.__exit__()
                self._proxy = None

    def mend(self) -> None:
        """Take connections, on the same port as ever."""
        with self._lock:
            if self._proxy is None:
                proxy = TlsProxy(target_port=self.valkey.port, certificates=self._certificates, port=self.port)
                self._proxy = proxy.__enter__()
                self.host, self.port, self.ca_pem_path = proxy.host, proxy.port, proxy.ca_pem_path
