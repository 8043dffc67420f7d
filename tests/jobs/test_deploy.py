"""Deployment files: manifests are valid, start one run of a valid job file at a time, and give few rights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.runtime.job_file import parse_job
from tests.jobs.manifest_schemas import mistakes

DEPLOY = Path(__file__).parents[2] / "deploy"


MANIFESTS = {
    "rayjob.yaml": ("ConfigMap", "RayJob"),
    "raycronjob.yaml": ("ConfigMap", "RayCronJob"),
    "cronjob.yaml": ("ConfigMap", "CronJob"),
}
DAY = 24 * 3600


def read(name: str) -> dict[str, Any]:
    """Return the documents of a manifest by kind."""
    return {document["kind"]: document for document in yaml.safe_load_all((DEPLOY / name).read_text())}


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    """Return the documents of the manifest of one run."""
    return read("rayjob.yaml")


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the specifications of all pods of an object: head, workers, submitter."""
    spec = job["spec"].get("jobTemplate", {}).get("spec") or job["spec"].get("jobTemplate") or job["spec"]
    if "template" in spec:
        return [spec["template"]["spec"]]
    cluster = spec["rayClusterSpec"]
    templates = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    return [template["spec"] for template in (*templates, spec["submitterPodTemplate"])]


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_is_valid_and_has_no_unknown_field(name: str) -> None:
    documents = read(name)
    assert tuple(documents) == MANIFESTS[name]
    assert [found for document in documents.values() for found in mistakes(document)] == []


@pytest.mark.parametrize("name", MANIFESTS)
def test_unknown_fields_and_wrong_types_are_found_at_any_depth(name: str) -> None:
    document = read(name)[MANIFESTS[name][1]]
    document["spec"]["concurencyPolicy"] = "Forbid"
    container = pods(document)[0]["containers"][0]
    container["resource"] = container.pop("resources")
    container["volumeMounts"][0]["readOnly"] = "yes"
    found = "\n".join(mistakes(document))
    assert "spec: Additional properties are not allowed ('concurencyPolicy' was unexpected)" in found
    assert "containers.0: Additional properties are not allowed ('resource' was unexpected)" in found
    assert "containers.0.volumeMounts.0.readOnly: 'yes' is not of type 'boolean'" in found


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


@pytest.mark.parametrize("name", ["raycronjob.yaml", "cronjob.yaml"])
def test_schedule_runs_the_job_file_that_it_mounts(name: str) -> None:
    documents = read(name)
    options = parse_job(name, documents["ConfigMap"]["data"]["job.yaml"].encode())
    assert "://" in options.input
    assert "://" in options.output, "all that a resume needs"
    volumes = {volume["name"]: volume for volume in pods(documents[MANIFESTS[name][1]])[0]["volumes"]}
    assert volumes["job"]["configMap"]["name"] == documents["ConfigMap"]["metadata"]["name"]


def test_cron_job_starts_no_run_beside_another_and_ends_before_the_next_night() -> None:
    spec = read("cronjob.yaml")["CronJob"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert 0 < spec["startingDeadlineSeconds"] < DAY
    assert spec["successfulJobsHistoryLimit"] > 0
    assert spec["failedJobsHistoryLimit"] > 0
    job = spec["jobTemplate"]["spec"]
    assert 0 < job["activeDeadlineSeconds"] < DAY, "all attempts together"
    refused = job["podFailurePolicy"]["rules"][0]
    assert (refused["action"], refused["onExitCodes"]["values"]) == ("FailJob", [2, 3])
    assert job["template"]["spec"]["restartPolicy"] == "Never", "which a podFailurePolicy needs"


def test_ray_cron_job_is_the_run_of_the_other_manifest_with_deadline_and_history() -> None:
    job, cron = read("rayjob.yaml")["RayJob"]["spec"], read("raycronjob.yaml")["RayCronJob"]["spec"]["jobTemplate"]
    assert (cron["backoffLimit"] + 1) * cron["activeDeadlineSeconds"] < DAY, "of each attempt"
    rules = {
        (rule["policy"], *rule["condition"].items()): rule["condition"]["ttlSeconds"]
        for rule in cron["deletionStrategy"]["deletionRules"]
    }
    assert all(seconds > DAY for (policy, *_), seconds in rules.items() if policy == "DeleteSelf")
    assert all(seconds < DAY for (policy, *_), seconds in rules.items() if policy == "DeleteCluster")
    volumes = cron["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"]
    volumes[0]["configMap"]["name"] = "perceiver-job"
    for name in ("entrypoint", "submissionMode", "rayClusterSpec", "submitterPodTemplate"):
        assert cron[name] == job[name], name


@pytest.mark.parametrize("name", MANIFESTS)
def test_containers_are_unprivileged_and_write_to_volumes_only(name: str) -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    for pod in pods(read(name)[MANIFESTS[name][1]]):
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


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_contains_no_secret(name: str) -> None:
    for pod in pods(read(name)[MANIFESTS[name][1]]):
        variables = [variable for container in pod["containers"] for variable in container.get("env", ())]
        values = {variable["name"]: variable["value"] for variable in variables if "value" in variable}
        assert values in ({}, {"RAY_AUTH_MODE": "token"})


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
