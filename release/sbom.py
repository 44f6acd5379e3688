"""The bill of materials: CycloneDX 1.6 with the model itself as a component, its hashes and the libraries behind it.

Written with cyclonedx-python-lib from package metadata, not from the environment's files: `cyclonedx-py environment`
records where editable packages lie on this machine.
"""

import importlib.metadata
import re
from pathlib import Path

from configs.errors import UserError
from release.subject import Subject

SBOM_NAME = "sbom.cdx.json"
DISTRIBUTION = "mindshift"


def write_sbom(path: Path, subject: Subject, *, name: str, version: str, licence: str) -> None:
    """Write the bill of materials of a model.

    Args:
        path: the file to write.
        subject: the model; each of its weight files becomes a data component with its SHA-256.
        name: the release's name.
        version: its version.
        licence: its licence.
    """
    try:
        from cyclonedx.model import HashAlgorithm, HashType, Property
        from cyclonedx.model.bom import Bom
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.model.license import DisjunctiveLicense
        from cyclonedx.output.json import JsonV1Dot6
        from packageurl import PackageURL
    except ImportError as error:
        raise UserError(
            "cyclonedx-python-lib is not installed", where="release build", fix="pip install -e '.[release]'"
        ) from error
    model = Component(
        name=name,
        version=version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"model:{name}@{version}",
        licenses=[DisjunctiveLicense(name=licence)],
        description=f"{subject.kind}, safetensors",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=subject.fingerprint)],
        properties=[
            Property(name="mindshift:model_manifest_sha256", value=subject.manifest_sha256),
            Property(name="mindshift:recipe_sha256", value=subject.manifest.recipe_sha256),
            Property(name="mindshift:code_sha256", value=subject.manifest.code_sha256),
        ],
    )
    bom = Bom()
    bom.metadata.component = model
    weights = [
        Component(
            name=file,
            type=ComponentType.DATA,
            bom_ref=f"file:{file}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
        )
        for file, sha256 in subject.weights.items()
    ]
    libraries = [
        Component(
            name=library,
            version=installed,
            type=ComponentType.LIBRARY,
            bom_ref=f"pkg:{library}@{installed}",
            purl=PackageURL("pypi", name=library, version=re.sub(r"\+.*", "", installed)),
        )
        for library, installed in library_closure(DISTRIBUTION).items()
    ]
    for component in [*weights, *libraries]:
        bom.components.add(component)
    bom.register_dependency(model, [*weights, *libraries])
    path.write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n", encoding="utf-8")


def library_closure(distribution: str) -> dict[str, str]:
    """Return name → installed version of everything a distribution needs, directly or not, extras aside."""
    from packaging.requirements import Requirement

    found: dict[str, str] = {}
    waiting = [distribution]
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            installed = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found[name] = installed.version
        needs = [Requirement(text) for text in installed.requires or []]
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    found.pop(distribution, None)
    return dict(sorted(found.items()))
