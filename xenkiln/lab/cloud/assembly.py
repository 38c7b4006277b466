"""An image put together again from its parts: decrypted, unpacked, and every digest and size compared.

Servers up to 3.x never looked at digests and sizes; an image that had gone wrong on the way just did not boot.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from xenkiln.errors import CommandError
from xenkiln.lab.cloud.archives import CHUNK, gunzip_once, open_archive, read_pieces
from xenkiln.lab.cloud.faults import Fault
from xenkiln.lab.cloud.manifest import Manifest, refuse
from xenkiln.system.files import partial_path
from xenkiln.system.pipelines import Pipeline, open_pipeline

Opener = Callable[[str], BufferedReader]


class Feeder:
    """A thread that reads the parts in their order and passes on those that have the digest they should."""

    def __init__(self, manifest: Manifest, open_part: Opener, pipeline: Pipeline) -> None:
        self._manifest, self._open_part, self._pipeline = manifest, open_part, pipeline
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="parts")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._feed()
        except BrokenPipeError:
            pass  # whoever hung up says why
        except BaseException as error:  # noqa: BLE001  # raised by check
            self._failure = error
        finally:
            with suppress(BrokenPipeError):
                self._pipeline.input.close()

    def _feed(self) -> None:
        total = 0
        for number, part in enumerate(self._manifest.parts):
            with self._open_part(part.file) as stream:
                # All of it first: what is wrong must be said of the part, and not by whoever chokes on it.
                if hashlib.file_digest(stream, "sha1").hexdigest() != part.sha1:
                    raise refuse(f"part {number} ({part.file}) has another digest than it says")
                total += stream.tell()
                stream.seek(0)
                shutil.copyfileobj(stream, self._pipeline.input, CHUNK)
        if total != self._manifest.bundled_size:
            raise refuse(f"the parts have {total} bytes, it says {self._manifest.bundled_size}")

    def wait(self) -> None:
        """Until it has ended; it does when the pipeline is cut."""
        self._thread.join()

    def check(self) -> None:
        """Raise what went wrong."""
        if self._failure is not None:
            raise self._failure


def assemble(manifest: Manifest, open_part: Opener, secret: Sequence[str], target: Path, *, as_java: bool) -> None:
    """Make the image's file, whole or not at all; secret: key and iv in hex. Raises Fault."""
    # openssl enc takes a raw key in its arguments and in no other way; what this one opens lies here in the clear.
    decrypt = ["openssl", "enc", "-d", "-aes-128-cbc", "-K", secret[0], "-iv", secret[1]]
    commands = [decrypt] if as_java else [decrypt, ["gzip", "-dc"]]
    partial = partial_path(target)
    partial.unlink(missing_ok=True)
    found: Fault | None = None
    try:
        with open_pipeline(*commands) as pipeline:
            feeder = Feeder(manifest, open_part, pipeline)
            try:
                _unpack(manifest, pipeline, partial, as_java=as_java)
            except Fault as fault:
                found = fault
            finally:
                pipeline.output.close()
                feeder.wait()
            feeder.check()
            _check_programs(pipeline)
        if found is not None:
            raise found
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


def _unpack(manifest: Manifest, pipeline: Pipeline, target: Path, *, as_java: bool) -> None:
    digest = hashlib.sha1(usedforsecurity=False)
    pieces = read_pieces(pipeline.output)
    with open_archive(target, as_java=as_java) as archive:
        for data in gunzip_once(pieces) if as_java else pieces:
            digest.update(data)
            archive.write(data)
        size = archive.finish()
    if digest.hexdigest() != manifest.sha1:
        raise refuse("the archive has another digest than it says")
    if size != manifest.size:
        raise refuse(f"the image has {size} bytes, it says {manifest.size}")


def _check_programs(pipeline: Pipeline) -> None:
    try:
        pipeline.finish()
    except CommandError as error:
        # A program that we have hung up on is not to blame.
        if "SIGPIPE" not in error.fact:
            raise refuse(f"{error.command} cannot open it: {'; '.join(error.last_lines)}") from None
