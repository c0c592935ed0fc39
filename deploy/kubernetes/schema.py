#!/usr/bin/env python3
"""Holds rendered manifests against the schemas of the Kubernetes API, strictly: no field that the API does not know.

    schema.py RENDERED...

The command of kubernetes-validate would do, but lets a kind that it does not know pass with a warning.
"""

import sys

import yaml
from kubernetes_validate import utils

# The oldest in which everything here works (the preStop `sleep` is on by default from 1.30), and the newest that there are schemas of.
VERSIONS = ("1.30", "1.37")


def faults(obj, version):
    if not isinstance(obj, dict) or not {"apiVersion", "kind", "metadata"} <= obj.keys():
        return [f"not an object of Kubernetes: {str(obj)[:60]}"]
    name = f"{obj['kind']}/{(obj['metadata'] or {}).get('name')}"
    try:
        used = utils.validate(obj, version, strict=True)
    except utils.ValidationError as error:
        return [f"{name}: {'.'.join(map(str, error.path)) or 'the object'}: {error.message}"]
    except utils.SchemaNotFoundError as error:
        return [f"{name}: {error.message}"]
    # Where it has no schemas of a version, the tool takes older ones without a word.
    return [] if used == version else [f"{name}: there are schemas of {used}, not of {version}"]


def main(paths):
    failed = False
    for path in paths:
        with open(path, encoding="utf-8") as file:
            objects = [obj for obj in yaml.safe_load_all(file) if obj is not None]
        found = [
            f"{path}: Kubernetes {version}: {fault}" for version in VERSIONS for obj in objects for fault in faults(obj, version)
        ]
        if not objects:
            found.append(f"{path}: nothing was rendered")
        for fault in found:
            print(fault, file=sys.stderr)
        failed |= bool(found)
        print(f"{path}: {len(objects)} objects, {len(found)} faults, by the schemas of Kubernetes {' and '.join(VERSIONS)}")
    if not paths:
        print("nothing was rendered", file=sys.stderr)
    return failed or not paths


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
