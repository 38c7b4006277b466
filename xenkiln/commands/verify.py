"""verify"""
SUMMARY = "verify"
PARAMS: list[dict[str, object]] = []
def run(*args, **kw):
    print("verify", args, kw)
