"""What the cloud knows, in one SQLite file: a change is there as a whole or not at all, kill -9 included."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xenkiln.errors import HostError

Record = dict[str, Any]

TABLES = """
CREATE TABLE IF NOT EXISTS records (kind TEXT, name TEXT, body TEXT, PRIMARY KEY (kind, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (bucket TEXT, key TEXT, file TEXT, size INTEGER, body TEXT,
                                    PRIMARY KEY (bucket, key)) WITHOUT ROWID;
"""


class Index:
    """Records of several kinds by name, and the list of objects; any thread may use it."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self.connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self.connection.execute("PRAGMA journal_mode=WAL")
            # Killing is what a lab must survive; a power cut may cost it the last change.
            self.connection.execute("PRAGMA synchronous=NORMAL")
            self.connection.executescript(TABLES)
        except sqlite3.DatabaseError as error:
            self.connection.close()
            raise HostError(f"is damaged: {error}", place=str(path),
                            next_step=f"remove {path.parent}: an empty cloud is made anew") from error  # fmt: skip

    def close(self) -> None:
        """Leave the file."""
        self.connection.close()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Nobody else reads or writes meanwhile, and an exception takes everything back."""
        with self._lock:
            self._depth += 1
            try:
                if self._depth > 1:
                    yield self.connection
                    return
                self.connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self.connection
                except BaseException:
                    self.connection.execute("ROLLBACK")
                    raise
                self.connection.execute("COMMIT")
            finally:
                self._depth -= 1

    def find(self, kind: str, name: str) -> Record | None:
        """One record, or None."""
        with self._lock:
            row = self.connection.execute(
                "SELECT body FROM records WHERE kind = ? AND name = ?", (kind, name)).fetchone()  # fmt: skip
        return json.loads(row[0]) if row else None

    def list_all(self, kind: str) -> list[Record]:
        """All records of a kind, by name."""
        with self._lock:
            rows = self.connection.execute("SELECT body FROM records WHERE kind = ? ORDER BY name", (kind,)).fetchall()
        return [json.loads(row[0]) for row in rows]

    def put(self, kind: str, name: str, record: Record) -> None:
        """Write a record, over an older one."""
        with self.changing() as connection:
            connection.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", (kind, name, json.dumps(record)))

    def update(self, kind: str, name: str, **fields: Any) -> Record | None:
        """Change fields of a record that is there."""
        with self.changing():
            record = self.find(kind, name)
            if record is not None:
                record |= fields
                self.put(kind, name, record)
        return record

    def remove(self, kind: str, name: str) -> bool:
        """Whether it was there."""
        with self.changing() as connection:
            done = connection.execute("DELETE FROM records WHERE kind = ? AND name = ?", (kind, name))
            return done.rowcount > 0
