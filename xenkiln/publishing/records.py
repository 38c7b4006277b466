"""What was done at a cloud, remembered in build/clouds/CLOUD/NAME. It is asked for there before it is believed."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from xenkiln.model.records import Record, dump_record, parse_record
from xenkiln.system.files import write_finished
from xenkiln.system.layout import build_folder

UPLOADED, REGISTERED, INSTANCE, OWNER = "uploaded", "registered", "instance", "owner"


@dataclass(frozen=True)
class Records:
    """The records of one image at one cloud. `values` of each: ROLE.FIELD -> text. owner: whose they are."""

    folder: Path
    owner: dict[str, str] = field(default_factory=dict)

    @property
    def lock(self) -> Path:
        """Held by the run that changes them."""
        return self.folder / "lock"

    def read(self, kind: str) -> dict[str, str]:
        """The values of a record, none where there is no such record or it cannot be read."""
        try:
            record = parse_record((self.folder / f"{kind}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record.values if record else {}

    def write(self, kind: str, values: dict[str, str], result: str) -> None:
        """Replace a record, whole or not at all."""
        # The first of them is written when the cloud has answered: the key is right.
        if self.owner and kind != OWNER and not self.read(OWNER):
            self.write(OWNER, self.owner, "known")
        record = Record(kind, self.folder.name, key=values.get("root.digest", ""), identity=result,
                        started=round(time.time(), 3), values=values, result=result)  # fmt: skip
        write_finished(self.folder / f"{kind}.json", dump_record(record))

    def remove(self, kind: str) -> None:
        """Forget it."""
        (self.folder / f"{kind}.json").unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove all of them: what they speak of is gone."""
        for path in [*self.folder.glob("*.json"), *self.folder.glob("*.secret"), *self.folder.glob("earlier/*.json")]:
            path.unlink(missing_ok=True)

    def keep_earlier(self) -> None:
        """Keep the record of what is registered, because a part of another image takes its place; once for each."""
        values = self.read(REGISTERED)
        # All ids: a kernel of a run that never came to its root filesystem is kept too.
        name = "-".join(values[key] for key in sorted(values) if key.endswith(".id"))
        earlier = Records(self.folder / "earlier")
        if name and not earlier.read(name):
            earlier.write(name, values, "registered")

    def list_earlier(self) -> dict[Path, dict[str, str]]:
        """File -> values of every image that was registered before."""
        folders = Records(self.folder / "earlier")
        return {path: folders.read(path.stem) for path in sorted(folders.folder.glob("*.json"))}


def records_for(cloud: str, name: str) -> Records:
    """The records of an image at a cloud."""
    return Records(build_folder() / "clouds" / cloud / name)


def pack_objects(objects: dict[str, tuple[int, str]]) -> str:
    """Name -> (size, MD5) as one text."""
    return json.dumps(objects, sort_keys=True)


def unpack_objects(text: str) -> dict[str, tuple[int, str]]:
    """The reverse; nothing for what is none."""
    try:
        return {str(name): (int(size), str(md5)) for name, (size, md5) in json.loads(text or "{}").items()}
    except (ValueError, TypeError, AttributeError):
        return {}
