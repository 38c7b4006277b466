"""plan"""
SUMMARY = "plan"
PARAMS: list[dict[str, object]] = []
def run(*args, **kw):
    print("plan", args, kw)
