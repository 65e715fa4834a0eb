"""A file for Parquet: record batches, put together to groups of rows that are worth one."""

from __future__ import annotations

import os
import stat
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pwru.errors import PwruError, printable
from pwru.record.chunks import MAGIC

_ROWS = 1 << 17  # in a group: what is held of them takes 30 MB
# They rise: differences are small, and hardly any value comes twice.
_RISING = ("time", "time_ns")


class Writer:
    """`with Writer(path, schema) as writer:` has all that was written in the file at the end, whatever ends it."""

    def __init__(self, path: str, schema: Any) -> None:
        """Raises PwruError if the file cannot be created; an earlier one is replaced."""
        self._path, self._schema = path, schema
        self.events = 0
        self._held: list[Any] = []
        self._rows = 0
        try:
            self._file = self._open()
        except OSError as error:
            raise self._failed(error) from None
        self._writer = pq.ParquetWriter(
            self._file,
            schema,
            compression="zstd",
            use_dictionary=[name for name in schema.names if name not in _RISING],
            column_encoding={name: "DELTA_BINARY_PACKED" for name in _RISING if name in schema.names} or None,
        )

    def _open(self) -> IO[bytes]:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                if os.pread(fd, len(MAGIC), 0) == MAGIC:
                    raise PwruError(f"{printable(self._path)} is a recording, which would be lost: name another file")
                os.ftruncate(fd, 0)
            return os.fdopen(fd, "wb")
        except BaseException:
            os.close(fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, batch: Any) -> None:
        """Take a batch. Raises PwruError if it cannot be written."""
        self._held.append(batch)
        self._rows += batch.num_rows
        self.events += batch.num_rows
        if self._rows >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        table = pa.Table.from_batches(self._held, self._schema)
        self._held, self._rows = [], 0
        try:
            # One dictionary for each column: with several, Parquet writes out all values.
            self._writer.write_table(table.unify_dictionaries().combine_chunks(), row_group_size=_ROWS * 2)
        except OSError as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Write what is held, and the end of the file. May be called more than once. Raises PwruError."""
        if self._file.closed:
            return
        try:
            with self._file:
                if self._rows:
                    self._flush()
                self._writer.close()
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> PwruError:
        return PwruError(f"cannot write {printable(self._path)}: {error.strerror or error}")
