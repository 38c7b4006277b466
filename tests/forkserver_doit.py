"""doit whose workers are not forked from it: all that they get must be picklable. Python 3.14's own default."""

from __future__ import annotations

import multiprocessing
import sys

from doit.doit_cmd import DoitMain

if __name__ == "__main__":
    multiprocessing.set_start_method("forkserver")
    sys.exit(DoitMain().run(sys.argv[1:]))
