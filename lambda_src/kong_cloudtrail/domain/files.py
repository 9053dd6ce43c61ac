"""Files that are there whole or not at all, whenever the process dies."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(folder: Path, body: bytes) -> Iterator[Path]:
    """Write a temporary file into a folder, which is created, and remove it afterwards.

    The caller gives it its name: by `Path.replace`, or by a link, which never replaces another file. The name of the
    temporary file begins with a dot: one that a killed process leaves behind is told from the others by that.

    Yields
    ------
    Path
        The file, written to the disk.

    Raises
    ------
    OSError
        If that is not possible.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
