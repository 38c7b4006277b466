"""lock"""
SUMMARY = "lock"
PARAMS: list[dict[str, object]] = []
def run(*args, **kw):
    print("lock", args, kw)
