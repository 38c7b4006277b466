"""diff"""
SUMMARY = "diff"
PARAMS: list[dict[str, object]] = []
def run(*args, **kw):
    print("diff", args, kw)
