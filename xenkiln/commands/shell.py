"""shell"""
SUMMARY = "shell"
PARAMS: list[dict[str, object]] = []
def run(*args, **kw):
    print("shell", args, kw)
