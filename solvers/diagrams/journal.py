"""An append-only record of finished work that survives the death of its process.

One line per entry: a CRC-32 of the text, the text (JSON). The first line says what the work is.
A line is complete on disk (fsync) before ``append`` returns; one that a crash left incomplete
fails its checksum, is cut off or passed over, and its work is done again.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from solvers.errors import ExperimentError

Task = tuple[int, ...]
"""What identifies one piece of work."""
Record = dict[str, Any]
"""What came of it: text, numbers and None, as in JSON."""


class JournalError(ExperimentError):
    """The folder holds something else, or another process is at work in it."""


class Journal:
    """The finished work in ``path``, held by this process alone until closed.

    ``identity`` says what the work is: a journal with another one is refused (JournalError), and so
    is one that holds unfinished work unless ``resume``, and one that another process holds.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], *, resume: bool = False) -> None:
        self.path = path
        try:
            self._file = _locked(path)
        except OSError as error:
            raise JournalError(f"cannot write {path}: {error.strerror}") from None
        try:
            self._begin(dict(identity), resume)
        except BaseException as error:
            self._file.close()
            if isinstance(error, OSError):
                raise JournalError(f"cannot write {path}: {error.strerror}") from None
            raise

    def _begin(self, identity: dict[str, Any], resume: bool) -> None:
        lines = self._lines()
        header = next(lines, None)
        if header is None:
            self._file.truncate(0)
            self._write([identity])
            return
        differing = [key for key in identity if header.get(key) != identity[key]]
        if differing or set(header) != set(identity):
            raise JournalError(
                f"{self.path.parent} holds unfinished work on something else (other "
                f"{' and '.join(differing) or 'settings'}): choose another folder with --out"
            )
        finished = sum(1 for _ in lines)
        if finished and not resume:
            raise JournalError(
                f"{self.path.parent} holds {finished} finished pieces of this very work: continue "
                "it with --resume, or choose another folder with --out"
            )
        self._file.truncate(self._end_of_last_line())

    def append(self, entries: Iterable[tuple[Task, Record]]) -> None:
        """Put finished work on disk. Raises OSError if there is no room; nothing else is harmed."""
        self._write([{"task": task, **record} for task, record in entries])

    def __iter__(self) -> Iterator[tuple[Task, Record]]:
        """All finished work, in the order in which it was finished."""
        lines = self._lines()
        next(lines, None)
        for entry in lines:
            yield tuple(entry.pop("task")), entry

    def close(self) -> None:
        """Let others have the folder."""
        self._file.close()

    def remove(self) -> None:
        """Delete the journal: its content is in the result file now."""
        self.path.unlink(missing_ok=True)
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, entries: list[dict[str, Any]]) -> None:
        block = b"".join(_line(entry) for entry in entries)
        end = self._file.seek(0, os.SEEK_END)
        try:
            view = memoryview(block)
            while view:
                view = view[self._file.write(view) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(end)
            raise

    def _lines(self) -> Iterator[dict[str, Any]]:
        with self.path.open("rb") as file:
            for line in file:
                checksum, _, text = line.rstrip(b"\n").partition(b" ")
                if line.endswith(b"\n") and checksum == b"%08x" % zlib.crc32(text):
                    yield json.loads(text)

    def _end_of_last_line(self) -> int:
        with self.path.open("rb") as file:
            return sum(len(line) for line in file if line.endswith(b"\n"))


def _line(entry: Mapping[str, Any]) -> bytes:
    text = json.dumps(entry, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _locked(path: Path) -> BinaryIO:
    """``path`` opened for appending, unbuffered, and locked against other processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise JournalError(f"another process is at work in {path.parent}") from None
    if not path.exists() or path.stat().st_ino != os.fstat(file.fileno()).st_ino:
        file.close()  # its holder finished and removed it just now
        return _locked(path)
    return file
