"""A folder as the store of parts, for laptops and tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ...domain.files import whole_file
from ...errors import DestinationMisconfigured
from .part_log import Listed, PartAbsent

_PIECE_BYTES = 64 * 1024


class FolderParts:
    """Keeps parts as files. Safe to use from several threads and processes, on a file system with hard links.

    Parameters
    ----------
    folder
        Path of the folder. It is created at the first write.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(os.path.expanduser(folder)).absolute()  # noqa: PTH111 - leaves unknown users alone

    def locate(self, name: str) -> str:
        """Return the path of the file."""
        return str(self._folder / name)

    def listed(self, prefix: str) -> list[Listed]:
        """Return all files whose names begin with `prefix`. A folder keeps no earlier versions.

        Names that begin with a dot are those of files that a killed process has not written to their end.
        """
        below = self._folder / prefix.rpartition("/")[0]
        try:
            names = [path.relative_to(self._folder).as_posix() for path in below.rglob("[!.]*") if path.is_file()]
        except OSError as error:
            raise self._failed("listed", error) from error
        return [Listed(name) for name in sorted(names) if name.startswith(prefix)]

    def read(self, name: str, version: str | None = None) -> Iterator[bytes]:
        """Return a file piece by piece. Raises `PartAbsent`."""
        try:
            with (self._folder / name).open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    yield piece
        except FileNotFoundError as error:
            raise PartAbsent from error
        except OSError as error:
            raise self._failed("read", error) from error

    def create(self, name: str, body: bytes) -> bool:
        """Write a file if there is none of this name; ``False`` if there is one."""
        path = self._folder / name
        try:
            with whole_file(path.parent, body) as temporary:
                try:
                    # A link appears whole or not at all, and never replaces a file. A rename would.
                    os.link(temporary, path)
                except FileExistsError:
                    return False
        except OSError as error:
            raise self._failed("written", error) from error
        return True

    def _failed(self, what: str, error: OSError) -> DestinationMisconfigured:
        return DestinationMisconfigured(
            f"The archive in {self._folder} could not be {what} ({error.strerror}). Check ARCHIVE, its permissions and "
            "the free space."
        )
