"""Checks of what is written: a RayJob against KubeRay's CRD, a cluster file against Ray's own schema.

rayjob.schema.json describes the fields that we write, unknown ones refused; a CRD, where there is one at hand (a file,
or the cluster's own), is the whole truth for its version. Imports jsonschema, and ray inside."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import yaml

from ssrnn_dist.problems import Problem, UserError, user_error

OWN_SCHEMA = Path(__file__).with_name("rayjob.schema.json")
INT32 = 2**31


def own_schema() -> dict[str, Any]:
    """A description of the RayJobs that we write; its title says with which version of KubeRay it was compared."""
    schema: dict[str, Any] = json.loads(OWN_SCHEMA.read_text(encoding="utf-8"))
    return schema


def schema_of_crd(crd: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The JSON schema of ray.io/v1 in a CustomResourceDefinition, unknown fields refused as the API server does."""
    try:
        right = crd["kind"] == "CustomResourceDefinition" and crd["spec"]["names"]["kind"] == "RayJob"
        versions = {version["name"]: version for version in crd["spec"]["versions"]}
        schema = versions["v1"]["schema"]["openAPIV3Schema"] if right else None
    except (KeyError, TypeError):
        schema = None
    if not isinstance(schema, dict):
        allowed = "the CRD of ray.io/v1 RayJobs is wanted (`kubectl get crd rayjobs.ray.io -o yaml`)"
        raise user_error(where, "no such thing", allowed)
    strict: dict[str, Any] = _strict(schema)
    strict["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return strict


def _strict(node: Any) -> Any:
    """OpenAPI's dialect of Kubernetes as JSON schema."""
    if isinstance(node, list):
        return [_strict(each) for each in node]
    if not isinstance(node, dict):
        return node
    properties = node.get("properties")
    made = {key: _strict(value) for key, value in node.items() if key not in ("properties", "description", "default")}
    if isinstance(properties, dict):
        made["properties"] = {name: _strict(each) for name, each in properties.items()}
        if "additionalProperties" not in node and not node.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    if node.get("nullable") and isinstance(node.get("type"), str):
        made["type"] = [node["type"], "null"]
    if node.get("format") == "int32":
        made = {"minimum": -INT32, "maximum": INT32 - 1, **made}
    return made


def read_crd(path: Path) -> dict[str, Any]:
    """A CRD's YAML or JSON file as a strict schema; UserError where it is none."""
    try:
        with path.open(encoding="utf-8") as file:
            value = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        value = None
    return schema_of_crd(value if isinstance(value, dict) else {}, str(path))


def check_rayjob(job: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """UserError with a line for each field that the schema does not allow."""
    found = jsonschema.Draft202012Validator(schema).iter_errors(job)
    problems = [Problem(f"RayJob.{_path(error)}", _first_line(error), "what the CRD allows") for error in found]
    if problems:
        raise UserError(*problems)


def check_cluster_file(cluster: dict[str, Any]) -> None:
    """Ray's own check of an autoscaler's file: its schema, its node types, its numbers of workers."""
    from ray.autoscaler._private.util import validate_config

    try:
        validate_config(cluster)
    except jsonschema.ValidationError as error:
        raise user_error(f"cluster file.{_path(error)}", _first_line(error), "what Ray's schema allows") from None
    except (ValueError, RuntimeError) as error:
        raise user_error("cluster file", " ".join(str(error).split())[:200], "what `ray up` takes") from None


def _path(error: Any) -> str:
    return ".".join(str(each) for each in error.absolute_path) or "(top)"


def _first_line(error: Any) -> str:
    return str(error.message).partition("\n")[0][:200]
