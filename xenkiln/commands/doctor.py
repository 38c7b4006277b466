"""doctor"""
SUMMARY = "doctor"
PARAMS: list[dict[str, object]] = []
def run(*args, **kw):
    print("doctor", args, kw)
