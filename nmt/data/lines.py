"""The lines of a text file: of a corpus, and of what is to be translated."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import IO

from nmt.errors import DataError


def read_lines(file: IO[bytes], name: str) -> Iterator[str]:
    r"""The lines of a UTF-8 file opened in binary mode, without their ends.

    A line ends at "\n" and nowhere else: U+2028, U+0085, "\f" and "\v" are characters of it. One "\r"
    before the end is dropped, and so is a byte order mark at the start of the file. The last line needs no
    "\n".

    Args:
        name: what error messages call the file.

    Raises:
        DataError: it is not UTF-8, holds a NUL character, or cannot be read on (damaged gzip, failing disk).
    """
    number = 0
    try:
        for raw in file:  # iterating over a binary file splits at b"\n" only
            number += 1
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
                if not raw:  # a byte order mark alone is no line
                    return
            if raw.endswith(b"\n"):
                raw = raw[:-2] if raw.endswith(b"\r\n") else raw[:-1]
            elif raw.endswith(b"\r"):
                raw = raw[:-1]
            if b"\0" in raw:
                raise DataError(f"{name}:{number}: holds a NUL character; is it a text file, in UTF-8?")
            yield raw.decode()
    except UnicodeDecodeError as error:
        column = len(error.object[: error.start].decode()) + 1
        bad = error.object[error.start]
        raise DataError(
            f"{name}:{number}: not valid UTF-8 (byte 0x{bad:02x} at column {column}); convert the file to UTF-8"
        ) from None
    except gzip.BadGzipFile as error:
        if number == 0:
            raise DataError(f"{name}: not a gzip file, in spite of its name; rename or compress it") from None
        raise DataError(f"{name}: damaged gzip file after line {number} ({error}); copy it anew") from None
    except EOFError:
        raise DataError(f"{name}: gzip file cut off after line {number}; copy it anew") from None
    except zlib.error as error:
        raise DataError(f"{name}: damaged gzip file after line {number} ({error}); copy it anew") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read on after line {number}: {error.strerror or error}") from None
