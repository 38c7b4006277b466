"""One cloud: its folder, its services, and which of them a request is for."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from xenkiln.lab.cloud.account import open_account
from xenkiln.lab.cloud.faults import Fault
from xenkiln.lab.cloud.image_cache import ImageCache
from xenkiln.lab.cloud.index import Index, Record
from xenkiln.lab.cloud.instance_files import INSTANCES, LIVE
from xenkiln.lab.cloud.keeper import Keeper, Program
from xenkiln.lab.cloud.key_pairs import SCRATCH
from xenkiln.lab.cloud.objects import Shelf
from xenkiln.lab.cloud.profiles import Profile
from xenkiln.lab.cloud.query import Query
from xenkiln.lab.cloud.request import Answer, Request
from xenkiln.lab.cloud.security_groups import DEFAULT, GROUPS, make_group
from xenkiln.lab.cloud.walrus import Walrus
from xenkiln.system.files import remove_path

LOG = "requests.log"
LONG_LOG_BYTES = 8 << 20


class Cloud:
    """Answers every request that comes to the port; its state lies in `folder`, which is for it alone.

    program: starts the guest that is described in a folder. url: without a path, known when the port is.
    """

    def __init__(self, folder: Path, profile: Profile, program: Program) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        self.folder, self.profile, self.url = folder, profile, ""
        self._log_lock = threading.Lock()
        self._tidy_up()
        self.account = open_account(folder, profile)
        self.secrets = {self.account.access: self.account.secret}
        self.user_certificate = folder / "credentials" / f"{self.account.stem}-cert.pem"
        self.index = Index(folder / "index.sqlite3")
        if self.index.find(GROUPS, DEFAULT) is None:
            self.index.put(GROUPS, DEFAULT, make_group(DEFAULT, "default group"))
        self.shelf = Shelf(folder / "objects", self.index, profile, self.account.number)
        self._walrus = Walrus(profile, self.shelf, self.secrets, self.account.number)
        self._query = Query(self)
        self.images = ImageCache(self)
        self.images.drop_unused()
        self.keeper = Keeper(self, program)

    def _tidy_up(self) -> None:
        """Remove what a killed cloud has left; begin a new log where the old one is long."""
        for path in self.folder.glob(f"{SCRATCH}*"):
            remove_path(path)
        log = self.folder / LOG
        if log.exists() and log.stat().st_size > LONG_LOG_BYTES:
            log.replace(f"{log}.1")

    def close(self) -> None:
        """End all instances; no request may come any more."""
        self.keeper.close()
        self.index.close()

    def answer(self, request: Request) -> Answer:
        """The answer, refusals included."""
        try:
            if self.profile.head_bytes and request.count_head_bytes() > self.profile.head_bytes:
                raise Fault("RequestEntityTooLarge", "The request's head is too long.", 413)
            service, prefix = self._find_service(request)
            return service.answer(request, prefix)
        except Fault as fault:
            return self.write_fault(request, fault)

    def write_fault(self, request: Request, fault: Fault) -> Answer:
        """A refusal in the form of the service that the request is for."""
        request.notes["code"] = fault.code
        try:
            service, _ = self._find_service(request)
        except Fault:
            return Answer(fault.status, f"{fault.message}\n".encode(), {"Content-Type": "text/plain"})
        return service.write_fault(request, fault)

    def _find_service(self, request: Request) -> tuple[Walrus | Query, str]:
        for storage, compute in self.profile.paths:
            if request.path == storage or request.path.startswith(f"{storage}/"):
                return self._walrus, storage
            if request.path.removesuffix("/") == compute:
                return self._query, compute
        raise Fault("NotFound", "There is no such service.", 404)

    def note(self, line: str) -> None:
        """Write a line of the log; a full disk must not keep a request from its answer."""
        with suppress(OSError), self._log_lock, (self.folder / LOG).open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {line}\n")

    def count_instances(self) -> int:
        """Those that take up room."""
        return sum(each["state"] in LIVE for each in self.index.list_all(INSTANCES))

    def find_instance(self, instance_id: str) -> Record:
        """One that has not ended."""
        found = self.index.find(INSTANCES, instance_id)
        if found is None or found["state"] not in LIVE:
            raise Fault("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")
        return found

    def is_group_used(self, name: str) -> bool:
        """Whether an instance is in a security group."""
        return any(name in each["groups"] for each in self.index.list_all(INSTANCES) if each["state"] in LIVE)
