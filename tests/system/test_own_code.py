from __future__ import annotations

from xenkiln.system.layout import PROJECT
from xenkiln.system.own_code import list_code


def test_all_code_counts_but_what_only_talks_to_the_user() -> None:
    code = {str(path.relative_to(PROJECT)) for path in list_code()}
    assert {"requirements.txt", "xenkiln/system/execution.py", "xenkiln/model/image.py", "xenkiln/stages/seal.py",
            "templates/mke2fs.conf", "scripts/guest/meta-data"} <= code  # fmt: skip
    assert not {"xenkiln/tasks.py", "xenkiln/reporter.py", "xenkiln/commands/plan.py"} & code
