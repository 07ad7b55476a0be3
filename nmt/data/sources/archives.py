"""ZIP archives that are opened only if they unpack to plausible sizes."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from nmt.data.formats import LOOKED_AT
from nmt.data.lines import FREE_BYTES, MAX_RATIO, damaged
from nmt.data.sources.base import of_another_kind, open_file
from nmt.errors import DataError

MAX_MEMBERS = 100_000


@contextmanager
def open_zip(path: str) -> Iterator[zipfile.ZipFile]:
    """Open a ZIP archive.

    Reading a member gives at most the bytes that the archive states for it, and those are bounded here.

    Raises:
        DataError: the archive is none, is damaged, or unpacks to more than any text would.
    """
    with open_file(path) as file:
        start = file.read(LOOKED_AT)
        file.seek(0)
        try:
            archive = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
            if start[:2] != b"PK":
                raise DataError(of_another_kind(path, start, "a ZIP archive")) from None
            if isinstance(error, zipfile.BadZipFile):
                raise DataError(f"{path}: ZIP archive damaged or cut off ({error}); copy it again") from None
            raise DataError(damaged(OSError(str(error)), path, "ZIP", "at its end")) from None
        with archive:
            entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            if unpacked > max(FREE_BYTES, MAX_RATIO * os.path.getsize(path)) or len(entries) > MAX_MEMBERS:
                raise DataError(
                    f"{path}: unpacks to {unpacked:,} bytes, far more than text does; unpack it and name its files"
                )
            yield archive


@contextmanager
def open_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> Iterator[IO[bytes]]:
    """Open a member of an archive; ``name`` is for messages.

    Raises:
        DataError: the member is encrypted, damaged, or packed by a method that Python does not know.
    """
    if entry.flag_bits & 1:
        raise DataError(f"{name}: is protected by a password; unpack the archive and name its files")
    try:
        file = archive.open(entry)
    except NotImplementedError:
        raise DataError(f"{name}: is packed by a method that cannot be read; unpack the archive") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{name}: damaged ZIP archive ({error}); copy it again") from None
    with file:
        yield file
