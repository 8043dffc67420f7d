"""Deployment files: the manifest runs a valid job file, and its containers have few rights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.runtime.job_file import parse_job

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    """Return the documents of the manifest by kind."""
    return {document["kind"]: document for document in yaml.safe_load_all((DEPLOY / "rayjob.yaml").read_text())}


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the specifications of all pods of a RayJob: head, workers, submitter."""
    cluster = job["spec"]["rayClusterSpec"]
    templates = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    return [template["spec"] for template in (*templates, job["spec"]["submitterPodTemplate"])]


def test_job_file_in_the_manifest_is_a_run_with_a_replica_per_gpu(documents: dict[str, Any]) -> None:
    options = parse_job("rayjob.yaml", documents["ConfigMap"]["data"]["job.yaml"].encode())
    workers = documents["RayJob"]["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    gpus = workers["replicas"] * int(
        workers["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
    )
    assert options.replicas * options.devices_per_replica == gpus
    assert "://" in options.input
    assert "://" in options.output


def test_manifest_runs_the_job_file_that_it_mounts(documents: dict[str, Any]) -> None:
    spec = documents["RayJob"]["spec"]
    assert documents["RayJob"]["apiVersion"] == "ray.io/v1"
    assert spec["entrypoint"] == "python -m jobs.run --job /etc/perceiver/job.yaml"
    assert spec["shutdownAfterJobFinishes"]
    head = pods(documents["RayJob"])[0]
    mounts = {mount["mountPath"]: mount["name"] for mount in head["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in head["volumes"]}
    mounted = volumes[mounts["/etc/perceiver"]]["configMap"]["name"]
    assert mounted == documents["ConfigMap"]["metadata"]["name"]


def test_manifest_has_the_pinned_version_of_ray(documents: dict[str, Any]) -> None:
    pinned = (DEPLOY.parent / "constraints.txt").read_text()
    assert f"ray=={documents['RayJob']['spec']['rayClusterSpec']['rayVersion']}\n" in pinned


def test_containers_are_unprivileged_and_write_to_volumes_only(documents: dict[str, Any]) -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    for pod in pods(documents["RayJob"]):
        assert pod["securityContext"]["runAsNonRoot"]
        assert f"USER {pod['securityContext']['runAsUser']}:" in dockerfile
        assert not pod["automountServiceAccountToken"]
        empty = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            writable = {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in empty}
            assert writable == {"/tmp", "/data"}
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


def test_manifest_contains_no_secret(documents: dict[str, Any]) -> None:
    assert documents.keys() == {"ConfigMap", "RayJob"}
    for pod in pods(documents["RayJob"]):
        assert not any("env" in container for container in pod["containers"])


def test_only_installed_files_are_sent_to_the_image_build() -> None:
    lines = [line for line in (DEPLOY.parent / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert all((DEPLOY.parent / name).exists() for name in sent)
    assert {"pipeline", "jobs", "pyproject.toml", "README.md", "constraints.txt", "LICENSE"} == sent


def test_every_installation_uses_the_pinned_versions() -> None:
    root = DEPLOY.parent
    for page in (root / "Makefile", DEPLOY / "Dockerfile", root / "docs/development.md"):
        lines = [line for line in page.read_text().splitlines() if "pip install " in line]
        assert lines
        assert all("constraints.txt" in line for line in lines)
