"""A cloud recipe: recipes/clouds/NAME.yaml. Where images go, and by which rules; never who somebody is there."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from xenkiln.model.fields import Line, Section, Url, Word, fault_at, match_shape
from xenkiln.model.publish import BucketName, KeyPairName

DialectName = Literal[
    "eucalyptus-1.4", "eucalyptus-2", "eucalyptus-3.0", "eucalyptus-3.3", "eucalyptus-4.0", "eucalyptus-4.2",
    "eucalyptus-5", "amazon"
]
"""Named for the first release that speaks so; eucalyptus-2 is 1.5 to 2.0."""
UserPath = Annotated[str, match_shape(r"^(~/|/)[^\n]+$", "an absolute path, or one that begins with ~/")]


class CloudCredentials(Section):
    """Where the user's keys are looked for: one of the three, or in the environment and then in ~/.euca/eucarc.

    eucarc: the file that Eucalyptus gives its users. region: REGION or USER@REGION of euca2ools.ini. profile: of
    the AWS configuration files.
    """

    eucarc: UserPath | None = None
    region: Word | None = None
    profile: Word | None = None

    @model_validator(mode="after")
    def check_one(self) -> CloudCredentials:
        """Two sources could be of two users."""
        given = [name for name in ("eucarc", "region", "profile") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are two places for the same: give one of them")
        return self


class CloudRecipe(Section):
    """An EC2-compatible cloud. The name is the file's.

    dialect: what the cloud's release understands. embedded: the lab's own, which runs on this machine. ec2_url and
    s3_url: where the credentials do not say. ebs_url: of Amazon's EBS direct API, where it is not its own.
    certificates: a file with the authorities that the cloud's https is checked by, or "not checked". limits: of
    uploads, in MiB/s and at the same time.
    """

    summary: Line
    dialect: DialectName
    embedded: bool = False
    credentials: CloudCredentials = CloudCredentials()
    ec2_url: Url | None = None
    s3_url: Url | None = None
    ebs_url: Url | None = None
    aws_region: Word | None = None
    certificates: UserPath | Literal["not checked"] | None = None
    bucket: BucketName | None = None
    keypair: KeyPairName = "xenkiln"
    keep: Annotated[int, Field(ge=1)] = 3
    parallel: Annotated[int, Field(ge=1, le=64)] | None = None
    bandwidth_mib: Annotated[int, Field(ge=1)] | None = None
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 60

    @model_validator(mode="after")
    def check_ebs(self) -> CloudRecipe:
        """No Eucalyptus has that service."""
        if self.ebs_url and self.dialect != "amazon":
            raise fault_at(("ebs_url",), "goes with dialect: amazon")
        return self

    @model_validator(mode="after")
    def check_embedded(self) -> CloudRecipe:
        """The lab's cloud is where it is started, and it makes its own credentials."""
        if not self.embedded:
            return self
        taken = [name for name in ("ec2_url", "s3_url", "certificates", "aws_region") if getattr(self, name)]
        taken += ["credentials"] if self.credentials != CloudCredentials() else []
        if taken:
            raise fault_at((taken[0],), "an embedded cloud has its own: leave it out")
        if self.dialect not in EMBEDDED_DIALECTS:
            raise fault_at(("dialect",), f"an embedded cloud speaks one of {', '.join(EMBEDDED_DIALECTS)}")
        return self


EMBEDDED_DIALECTS = ("eucalyptus-1.4", "eucalyptus-2", "eucalyptus-3.3", "eucalyptus-4.2")
"""Of the releases that the lab's cloud takes the part of."""
