"""One writer at a time for a run's folder."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import IO

from sopose.core.utils.errors import UserError

NAME = ".lock"  # stays in the folder; what counts is who holds it, not that it is there


class FolderLock:
    """A context in which `folder` is this process's alone: taken at once where it is there, else by `take`.

    The system holds the lock (POSIX `fcntl`) and lets it go with the process, however that ends. Worker processes,
    which are forked, don't hold it: a run that was killed can be gone on with at once. On a network's disk it works
    between machines where that has locks. Raises `UserError`, which ends in `remedy`, where another process has it.
    """

    def __init__(self, folder: Path, remedy: str = "wait for it, or name another folder", writes: bool = True) -> None:
        """`writes`: whether this process is the one of several that writes to the folder."""
        self.folder, self.remedy, self.writes = Path(folder), remedy, writes
        self._file: IO[str] | None = None

    def __enter__(self) -> FolderLock:
        if self.folder.is_dir():
            self.take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()  # which lets it go
            self._file = None

    def take(self) -> None:
        """Make the folder where it is missing, and take it; what is held is left."""
        if self._file is not None or not self.writes:
            return
        path = self.folder / NAME
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Not truncated: what stands there is the holder's.
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written to ({error.strerror}); {self.remedy}") from error
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            holder = file.read(200).strip() or "another process"
            file.close()
            raise UserError(f"{holder} is writing to {self.folder}; {self.remedy}") from error
        except OSError:  # a file system without locks
            file.close()
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._file = file
