"""sweep"""
SUMMARY = "sweep"
PARAMS: list[dict[str, object]] = []
def run(*args, **kw):
    print("sweep", args, kw)
