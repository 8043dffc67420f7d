"""Schemas of Kubernetes and KubeRay that deployment files are held against. Fields that they lack are refused.

`manifest_schemas.json` has what is needed here of the OpenAPI definitions of Kubernetes 1.31 (copyright The Kubernetes
Authors) and of KubeRay's CRDs of RayJob and RayCronJob (copyright The KubeRay Authors), both under the Apache License
2.0. It is changed: without descriptions, with unknown fields refused, and with what repeats written once. To make it
from other releases: `python -m tests.jobs.manifest_schemas _definitions.json ray.io_rayjobs.yaml
ray.io_raycronjobs.yaml`, where the first file is one of kubernetes-json-schema.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).with_suffix(".json")
KINDS = {"CronJob": "io.k8s.api.batch.v1.CronJob", "ConfigMap": "io.k8s.api.core.v1.ConfigMap"}
METADATA = {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
KEPT = ("type", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "required")
REPEATED = 100  # characters of a schema that is worth a definition of its own


def mistakes(document: dict[str, Any]) -> list[str]:
    """Return what is wrong with a Kubernetes object, with the path of each mistake."""
    schemas = json.loads(SCHEMAS.read_text())
    if document.get("kind") not in schemas["kinds"]:
        return [f"kind: {document.get('kind')} has no schema here"]
    schema = {"$ref": f"#/$defs/{schemas['kinds'][document['kind']]}", "$defs": schemas["$defs"]}
    found = Draft202012Validator(schema).iter_errors(document)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in found]


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without descriptions and defaults, in which an object has only the fields that are listed."""
    kept = {name: schema[name] for name in KEPT if name in schema}
    for name in ("properties", "$defs"):
        if name in schema:
            kept[name] = {key: strict(value) for key, value in schema[name].items()}
    for name in ("anyOf", "oneOf", "allOf"):
        if name in schema:
            kept[name] = [strict(each) for each in schema[name]]
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            kept[name] = strict(schema[name])
    is_object = schema.get("type") in ("object", ["object", "null"])
    if is_object and not schema.get("x-kubernetes-preserve-unknown-fields"):
        kept.setdefault("additionalProperties", False)
    if "$ref" in schema:
        kept["$ref"] = f"#/$defs/{schema['$ref'].rpartition('/')[2]}"
    return kept


def custom_resource(text: str) -> tuple[str, dict[str, Any]]:
    """Return kind and schema of the version v1 in a CRD."""
    crd = yaml.load(text, yaml.CSafeLoader)["spec"]
    kind, group = crd["names"]["kind"], crd["group"]
    (version,) = (each for each in crd["versions"] if each["name"] == "v1")
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"] |= {"metadata": METADATA, "apiVersion": {"enum": [f"{group}/v1"]}, "kind": {"enum": [kind]}}
    return kind, schema | {"required": ["apiVersion", "kind", "metadata", "spec"]}


def needed(definitions: dict[str, Any], *roots: str) -> dict[str, Any]:
    """Return the definitions that the roots refer to."""
    found: dict[str, Any] = {}
    left = list(roots)
    while left:
        name = left.pop()
        if name not in found:
            found[name] = strict(definitions[name])
            left += [each.rpartition("/")[2] for each in _references(found[name])]
    return found


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
    for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _references(each)


def _sizes(schema: Any, seen: Counter[str]) -> None:
    """Count how often each part occurs, by its text."""
    if isinstance(schema, dict) and len(text := json.dumps(schema)) > REPEATED:
        seen[text] += 1
        if seen[text] > 1:
            return
    for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _sizes(each, seen)


def _shared(schema: Any, seen: Counter[str], definitions: dict[str, Any], *, is_schema: bool = True) -> Any:
    """Return a schema whose repeated parts are definitions."""
    if isinstance(schema, list):
        return [_shared(each, seen, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {
        name: _shared(each, seen, definitions, is_schema=name != "properties" or not is_schema)
        for name, each in schema.items()
    }
    text = json.dumps(schema)
    if not is_schema or seen[text] < 2:
        return inner
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    definitions[name] = inner
    return {"$ref": f"#/$defs/{name}"}


def main(definitions: str, *crds: str) -> None:
    """Write manifest_schemas.json."""
    kubernetes = needed(json.loads(Path(definitions).read_text())["$defs"], *KINDS.values())
    custom = dict(custom_resource(Path(crd).read_text()) for crd in crds)
    seen: Counter[str] = Counter()
    shared: dict[str, Any] = {}
    _sizes(list(custom.values()), seen)
    found = {kind: _shared(schema, seen, shared) for kind, schema in custom.items()}
    every = kubernetes | found | shared
    lines = [f"{json.dumps(name)}:{json.dumps(every[name], separators=(',', ':'))}" for name in sorted(every)]
    kinds, inner = json.dumps(KINDS | {kind: kind for kind in custom}), ",\n".join(lines)
    SCHEMAS.write_text(f'{{"kinds":{kinds},\n"$defs":{{\n{inner}\n}}}}\n')


if __name__ == "__main__":
    main(*sys.argv[1:])
