"""A folder as the ledger's store, for laptops and tests."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..domain.files import whole_file
from ..errors import LedgerError
from ..ports import Stored


class FolderStore:
    """Keeps each object in a file of the same name. The folder is created at the first write.

    Parameters
    ----------
    folder
        Path of the folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(os.path.expanduser(folder)).absolute()  # noqa: PTH111 - leaves unknown users alone

    def locate(self, name: str) -> str:
        """Return the path of the file."""
        return str(self._folder / name)

    def read(self, name: str) -> Stored | None:
        """Return an object, or ``None``."""
        try:
            body = (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed("read", error) from error
        return Stored(body, hashlib.sha256(body).hexdigest())

    def write(self, name: str, body: bytes) -> None:
        """Write an object atomically: all of it or nothing, even if the process dies."""
        path = self._folder / name
        try:
            with whole_file(path.parent, body) as temporary:
                temporary.replace(path)
        except OSError as error:
            raise self._failed("written", error) from error

    def write_if(self, name: str, body: bytes, version: str | None) -> str | None:
        """Write an object if its version is still the given one."""
        with self._alone():
            stored = self.read(name)
            if (stored.version if stored else None) != version:
                return None
            self.write(name, body)
        return hashlib.sha256(body).hexdigest()

    def remove(self, name: str) -> None:
        """Remove an object; does nothing if it does not exist."""
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            raise self._failed("written", error) from error

    def names(self, prefix: str) -> Iterator[str]:
        """Return the names that begin with `prefix`, sorted."""
        files = (path for path in self._folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        yield from sorted(
            name for path in files if (name := path.relative_to(self._folder).as_posix()).startswith(prefix)
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from writing at the same time. The lock is released when the process ends."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = (self._folder / ".lock").open("w")
        except OSError as error:
            raise self._failed("written", error) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _failed(self, what: str, error: OSError) -> LedgerError:
        return LedgerError(
            f"The ledger in {self._folder} could not be {what} ({error.strerror}). Check LEDGER, its permissions and "
            "the free space. What depends on it stays unmarked and is fetched again."
        )
