"""Run a cloud in the foreground; SIGTERM ends it and its instances.

python -m xenkiln.lab.cloud FOLDER PROFILE LAB IMAGES MODULES: the last three are the lab that its guests run in.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from xenkiln.errors import HostError, XenkilnError
from xenkiln.lab.cloud.account import write_eucarc
from xenkiln.lab.cloud.cloud import Cloud
from xenkiln.lab.cloud.connection import LOOPBACK, Server
from xenkiln.lab.cloud.control import LOCK, PORT, STATE
from xenkiln.lab.cloud.profiles import PROFILES, Profile
from xenkiln.lab.instance import start_instance
from xenkiln.lab.session import Lab
from xenkiln.system.files import write_finished
from xenkiln.system.locks import hold_lock

WORDS = 5
LISTEN_SECONDS = 0.1
"""How long it takes at most to see that no more requests are to be taken."""
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(arguments: list[str]) -> NoReturn:
    """Run until a signal comes."""
    if len(arguments) != WORDS or arguments[1] not in PROFILES:
        print(f"usage: python -m xenkiln.lab.cloud FOLDER {'|'.join(PROFILES)} LAB IMAGES MODULES", file=sys.stderr)
        end(2)
    lab = Lab(Path(arguments[2]), Path(arguments[3]), arguments[4])
    folder = Path(arguments[0]).absolute() / arguments[1]
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chdir(folder)
        with hold_lock(folder / LOCK, f"the cloud in {folder}"):
            serve(folder, PROFILES[arguments[1]], lab)
    except (XenkilnError, OSError) as error:
        print(error, file=sys.stderr)
        end(1)
    except Exception:  # noqa: BLE001  # no thread may keep a cloud that has failed
        traceback.print_exc()
        end(1)
    end(0)


def end(code: int) -> NoReturn:
    """At once: an image that is just being put together is nobody's any more, and the kernel ends the programs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve(folder: Path, profile: Profile, lab: Lab) -> None:
    """Until a signal comes; the instances have ended then."""
    wait_for_signal = catch_signals()
    (folder / STATE).unlink(missing_ok=True)
    cloud = Cloud(folder, profile, partial(start_instance, lab))
    with listen(folder, cloud) as server:
        cloud.url = f"http://{LOOPBACK}:{server.port}"
        write_finished(folder / PORT, f"{server.port}\n", 0o600)
        eucarc = write_eucarc(folder, profile, cloud.account, cloud.url)
        threading.Thread(target=server.serve_forever, args=(LISTEN_SECONDS,), name="listener", daemon=True).start()
        state = {"profile": profile.name, "url": cloud.url, "port": server.port, "process": os.getpid()}
        write_finished(folder / STATE, json.dumps(state), 0o600)
        print(f"Eucalyptus {profile.name} at {cloud.url}, credentials in {eucarc}", flush=True)
        wait_for_signal()
        (folder / STATE).unlink(missing_ok=True)
        server.shutdown()
    cloud.keeper.close()


def catch_signals() -> Callable[[], object]:
    """From now on signals wait for the returned function, which waits for the first of them."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # A lock that is waited for may miss one that comes just then.
    signal.set_wakeup_fd(writer)
    for number in ENDING_SIGNALS:
        signal.signal(number, lambda *_: None)
    return lambda: os.read(reader, 1)


def listen(folder: Path, cloud: Cloud) -> Server:
    """On the port of the last time, or on any other where that is taken."""
    try:
        return Server(int((folder / PORT).read_text(encoding="ascii")), cloud)
    except (FileNotFoundError, ValueError):
        return Server(0, cloud)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise HostError(f"cannot listen: {error.strerror}", place=LOOPBACK) from error
        return Server(0, cloud)


if __name__ == "__main__":
    main(sys.argv[1:])
