"""Who the user is at Amazon, as botocore finds it: profiles, roles, single sign-on, processes, an instance's role.

botocore looks at the variables of this very process too, such as those that say where its files are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xenkiln.clouds.settings import Role, Setting, Source
from xenkiln.errors import HostError

FILES = {"credentials_file": "AWS_SHARED_CREDENTIALS_FILE", "config_file": "AWS_CONFIG_FILE"}
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
ENVIRONMENT_PAIR = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
NAMES: dict[Role, str] = {
    "access_key": "aws_access_key_id", "secret_key": "aws_secret_access_key", "region": "region",
    "ec2_url": "endpoint_url", "s3_url": "endpoint_url", "ebs_url": "endpoint_url", "verify": "ca_bundle",
}  # fmt: skip


def read_profile(profile: str, environment: Mapping[str, str], place: str) -> Source:
    """A profile that a recipe names; of the environment it counts alone where the two files are."""
    return _ask(profile, environment, f"{place}: credentials.profile: {profile}", {})


def read_chain(environment: Mapping[str, str]) -> Source:
    """The keys of the environment, else the profile that it names, else the default one or this machine's role."""
    region = next((Setting(environment[name], name) for name in REGIONS if environment.get(name)), None)
    given: dict[Role, Setting] = {"region": region} if region else {}
    if bundle := environment.get("AWS_CA_BUNDLE"):
        given["verify"] = Setting(bundle, "AWS_CA_BUNDLE")
    if not all(environment.get(name) for name in ENVIRONMENT_PAIR):
        profile = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE")
        return _ask(profile, environment, f"AWS_PROFILE={profile}" if profile else "AWS", given)
    access, secret = ENVIRONMENT_PAIR
    given |= {"access_key": Setting(environment[access], access), "secret_key": Setting(environment[secret], secret)}
    for name in ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"):
        if token := environment.get(name):
            given.setdefault("token", Setting(token, name))
    names: dict[Role, str] = {**NAMES, "access_key": access, "secret_key": secret, "region": " or ".join(REGIONS)}
    return Source("the environment", given, names, "is not set in the environment",
                  "set it, or aws_region in the cloud's recipe")  # fmt: skip


def _ask(profile: str | None, environment: Mapping[str, str], place: str, given: Mapping[Role, Setting]) -> Source:
    from botocore.exceptions import BotoCoreError, ClientError  # only clouds of Amazon pay for this import

    try:
        return _read_session(profile, environment, given)
    except (BotoCoreError, ClientError) as error:
        # What a process or a service has answered could have anything in it: the kind of error alone is told.
        raise HostError(f"gives no credentials: {_describe(error)}", place=place,
                        next_step=f"try it: aws sts get-caller-identity{f' --profile {profile}' if profile else ''}"
                        ) from None  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise HostError(f"gives no credentials: its settings or its answer make no sense ({type(error).__name__})",
                        place=place, next_step="correct the profile in ~/.aws") from None  # fmt: skip


def _describe(error: Exception) -> str:
    from botocore.exceptions import ConfigNotFound, ConfigParseError, PartialCredentialsError, ProfileNotFound

    if isinstance(error, ConfigNotFound | ConfigParseError | PartialCredentialsError | ProfileNotFound):
        return str(error)
    return type(error).__name__


def _read_session(profile: str | None, environment: Mapping[str, str], given: Mapping[Role, Setting]) -> Source:
    from botocore.session import Session

    session = Session(profile=profile)
    for variable, name in FILES.items():
        if environment.get(name):
            session.set_config_variable(variable, environment[name])
    # The environment's keys have been looked at, and may not stand in for those of a profile.
    session.get_component("credential_provider").remove("env")
    words = f"the profile {profile} of AWS" if profile else "the default credentials of AWS"
    settings = _read_options(session, words) | dict(given)
    if credentials := session.get_credentials():
        frozen = credentials.get_frozen_credentials()
        keys: dict[Role, str | None] = {"access_key": frozen.access_key, "secret_key": frozen.secret_key,
                                        "token": frozen.token}  # fmt: skip
        settings |= {role: Setting(value, f"{role} of {words}") for role, value in keys.items() if value}
    files = " or ".join(str(session.get_config_variable(variable)) for variable in FILES)
    return Source(words, settings, NAMES, f"is not set for {words}, in {files}",
                  "aws configure sets it; credentials.profile in the cloud's recipe names another profile")  # fmt: skip


def _read_options(session: Any, words: str) -> dict[Role, Setting]:
    """Region, endpoints and authorities of a profile."""
    profile = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(profile.get("services"), {})
    values: dict[Role, Any] = {"region": profile.get("region"), "verify": profile.get("ca_bundle")}
    for service, role in SERVICES.items():
        own = services.get(service)
        values[role] = own.get("endpoint_url") if isinstance(own, dict) else profile.get("endpoint_url")
    return {role: Setting(value, f"{NAMES[role]} of {words}") for role, value in values.items()
            if value and isinstance(value, str)}  # fmt: skip


SERVICES: dict[str, Role] = {"ec2": "ec2_url", "s3": "s3_url", "ebs": "ebs_url"}
