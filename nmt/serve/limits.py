"""Limits of the server, and requests that it refuses."""

from __future__ import annotations

from dataclasses import dataclass


class Refused(Exception):
    """A request that ends in an error: a status of HTTP and one line for the client."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class Limits:
    """
    Attributes:
        characters: most characters of the texts of one request.
        lines: most lines of one request; a blank one does not count.
        seconds: until a request that has been read must be answered.
        reading: seconds until a request must have arrived, its headers and its body each.
        queue: most lines that wait for a model.
        gather: seconds without another line, after which those that wait are translated.
        connections: most connections at a time.
    """

    characters: int = 5000
    lines: int = 200
    seconds: float = 30.0
    reading: float = 10.0
    queue: int = 1000
    gather: float = 0.005
    connections: int = 1000

    @property
    def body(self) -> int:
        """Most bytes of a body: JSON may write a character as ``\\ud83d\\ude00``, twelve bytes."""
        return 16384 + 12 * self.characters
