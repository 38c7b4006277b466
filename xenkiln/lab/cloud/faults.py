"""What a request is refused with: the code that clients know, words for people, and an HTTP status."""

from __future__ import annotations


class Fault(Exception):  # noqa: N818  # the protocols' own word
    """A refusal; `code` is one of EC2's or S3's own."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message, status)
        self.code, self.message, self.status = code, message, status


def refuse_access(message: str = "Access Denied") -> Fault:
    """S3's refusal to somebody who may not."""
    return Fault("AccessDenied", message, 403)


def refuse_operation() -> Fault:
    """S3's for what a release has not."""
    return Fault("NotImplemented", "This operation is not implemented.", 501)


def refuse_signature() -> Fault:
    """Of either service."""
    return Fault("SignatureDoesNotMatch", "The signature we calculated does not match the one you provided.", 403)


def report_cut() -> Fault:
    """S3's for a body that is too short."""
    return Fault("IncompleteBody", "The body ended before as many bytes had come as were promised.")


def miss_parameter(name: str) -> Fault:
    """EC2's for a parameter that must be there."""
    return Fault("MissingParameter", f"The request must contain the parameter {name}")


def reject_value(name: str, value: str, why: str = "is not valid") -> Fault:
    """EC2's for a parameter's value; what is not ours is shown short and in ASCII."""
    return Fault("InvalidParameterValue", f"Value ({ascii(value[:60])[1:-1]}) for parameter {name} {why}")
