"""A CycloneDX document (1.6, JSON) of what an image holds."""

import uuid
from collections.abc import Sequence
from datetime import datetime

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.bom_ref import BomRef
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from deploy.bundle.inventory import Package

_LICENCES = LicenseFactory()
_NAMESPACES = {"pypi": None, "deb": "debian", "apk": "alpine"}


def document(image: str, reference: str, packages: Sequence[Package], *, now: datetime) -> str:
    """Return the document of one image. The same packages give the same serial number."""
    identity = "\n".join([reference, *map(repr, sorted(packages))])
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, identity))
    bom.metadata.timestamp = now
    version = reference.partition("@")[2]
    subject = Component(
        name=image, type=ComponentType.CONTAINER, version=version, bom_ref=BomRef(reference), purl=None
    )
    bom.metadata.component = subject
    components = [_component(package) for package in sorted(packages)]
    for component in components:
        bom.components.add(component)
    bom.register_dependency(subject, components)
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _component(package: Package) -> Component:
    purl = PackageURL(package.kind, _NAMESPACES[package.kind], package.name, package.version)
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=BomRef(str(purl)),
        licenses=[_LICENCES.make_from_string(package.licence)] if package.licence else None,
    )
