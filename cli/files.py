"""Reading text files that users name."""

from __future__ import annotations

import os
from pathlib import Path

from kong_cloudtrail.errors import SettingsError

LONGEST_FILE_BYTES = 262_144
"""Limit for files with settings: 256 KiB. All variables of a Lambda function together have at most 4 KB."""


def read_text(path: Path) -> str:
    """Return the content of a file with settings, with line feeds as line ends.

    Raises
    ------
    SettingsError
        If the file cannot be read, is empty, too long, or not UTF-8 text. At most `LONGEST_FILE_BYTES` are read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError([f"{path}: cannot be read ({error.strerror})"]) from None
    if len(content) > LONGEST_FILE_BYTES:
        raise SettingsError([f"{path}: is longer than {LONGEST_FILE_BYTES // 1024} KiB, so it is the wrong file"])
    if not content.strip():
        raise SettingsError([f"{path}: is empty"])
    if b"\0" in content:
        raise SettingsError([f"{path}: is a binary file; give a text file"])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError([f"{path}, line {line}: is not UTF-8 text; save the file as UTF-8"]) from None
    return text.replace("\r\n", "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, also if this is interrupted. Raises `OSError`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # what the user has named
        raise
    finally:
        temporary.unlink(missing_ok=True)
