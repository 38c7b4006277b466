"""deploy"""
SUMMARY = "deploy"
PARAMS: list[dict[str, object]] = []
def run(*args, **kw):
    print("deploy", args, kw)
