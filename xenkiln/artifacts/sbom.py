"""The software bill of materials, in SPDX 2.3 as JSON."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from urllib.parse import quote

from spdx_tools.spdx.model.actor import Actor, ActorType
from spdx_tools.spdx.model.checksum import Checksum, ChecksumAlgorithm
from spdx_tools.spdx.model.document import CreationInfo, Document
from spdx_tools.spdx.model.package import ExternalPackageRef, ExternalPackageRefCategory, PackagePurpose
from spdx_tools.spdx.model.package import Package as SpdxPackage
from spdx_tools.spdx.model.relationship import Relationship, RelationshipType
from spdx_tools.spdx.model.spdx_no_assertion import SpdxNoAssertion
from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

from xenkiln.artifacts.ext import derive_uuid
from xenkiln.model.packages import Package, PackagePlan

SPDX_VERSION = "SPDX-2.3"
DOCUMENT_ID, IMAGE_ID = "SPDXRef-DOCUMENT", "SPDXRef-Image"
NAMESPACE = "https://spdx.org/spdxdocs"  # SPDX 2.3, 6.5: where documents without a home of their own go


def render_sbom(name: str, distribution: str, package_type: str, plan: PackagePlan) -> str:
    """The bill of an image: it contains the packages of `plan`, each with the SHA-256 of its file.

    `package_type` is "deb" or "rpm", `distribution` whose packages they are, "" where that is not known, both
    for the package URLs. Ids, namespace and date come from the plan, so
    the same plan gives the same text. Licences are not asserted: no package manager knows them for sure.
    """
    created = datetime.fromtimestamp(plan.epoch, UTC).replace(tzinfo=None)
    tool = Actor(ActorType.TOOL, "xenkiln")
    namespace = f"{NAMESPACE}/{name}-{derive_uuid(name, 'sbom', plan.identity)}"
    creation = CreationInfo(SPDX_VERSION, DOCUMENT_ID, name, namespace, [tool], created)
    image = SpdxPackage(IMAGE_ID, name, SpdxNoAssertion(), files_analyzed=False, supplier=SpdxNoAssertion(),
                        primary_package_purpose=PackagePurpose.OPERATING_SYSTEM)  # fmt: skip
    packages = [_describe(package, distribution, package_type) for package in plan.packages]
    relations = [Relationship(DOCUMENT_ID, RelationshipType.DESCRIBES, IMAGE_ID)]
    relations += [Relationship(IMAGE_ID, RelationshipType.CONTAINS, package.spdx_id) for package in packages]
    stream = io.StringIO()
    document = Document(creation, packages=[image, *packages], relationships=relations)
    # What is put in is known to be valid (a test asks spdx_tools' own validator, which takes its time).
    write_document_to_stream(document, stream, validate=False)
    return stream.getvalue() + "\n"


def _describe(package: Package, distribution: str, package_type: str) -> SpdxPackage:
    url = make_package_url(package, distribution, package_type)
    return SpdxPackage(
        make_id(package),
        package.name,
        SpdxNoAssertion(),
        version=package.version,
        supplier=SpdxNoAssertion(),
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, package.sha256)],
        license_concluded=SpdxNoAssertion(),
        license_declared=SpdxNoAssertion(),
        copyright_text=SpdxNoAssertion(),
        external_references=[ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", url)],
    )


def make_id(package: Package) -> str:
    """An SPDX id: letters, digits, '.' and '-' only, and no two packages' alike."""
    readable = re.sub(r"[^A-Za-z0-9.-]", "-", f"{package.name}-{package.version}-{package.arch}")
    return f"SPDXRef-Package-{readable}-{package.sha256[:8]}"


def make_package_url(package: Package, distribution: str, package_type: str) -> str:
    """A package URL (purl-spec); rpm's epoch is a qualifier there, Debian's is part of the version."""
    epoch, _, plain = package.version.rpartition(":") if package_type == "rpm" else ("", "", package.version)
    qualifiers = f"arch={quote(package.arch)}" + (f"&epoch={epoch}" if epoch not in ("", "0") else "")
    name, version = quote(package.name, safe=""), quote(plain, safe="")
    namespace = f"{distribution}/" if distribution else ""
    return f"pkg:{package_type}/{namespace}{name}@{version}?{qualifiers}"
