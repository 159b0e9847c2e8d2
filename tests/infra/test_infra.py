"""The files of infra/ are what the tools that read them accept, and fit the project."""

from __future__ import annotations

import configparser
import copy
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from a2v_experiments.recipe.files import load_recipe

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"


def documents(path: Path) -> dict[str, Any]:
    """Kind -> manifest."""
    return {document["kind"]: document for document in yaml.safe_load_all(path.read_text())}


def pods(spec: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def locked(package: str) -> str:
    found = re.search(rf"^{package}(?:\[[^\]]*\])?==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert found, package
    return found[1]


def test_ray_cluster_file_fits_rays_own_schema() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = yaml.safe_load((INFRA / "ray-cluster.yaml").read_text())
    jsonschema.validate(cluster, schema)
    assert cluster["max_workers"] == len(cluster["provider"]["worker_ips"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "file_mount": {}}, schema)
    [target] = re.findall(r"^make -C a2v (\S+)$", cluster["setup_commands"][0])
    assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True).returncode == 0


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_kubernetes_manifests_have_only_fields_that_exist(name: str) -> None:
    schema = yaml.safe_load((Path(__file__).parent / "kuberay_schema.yaml").read_text())
    for document in yaml.safe_load_all((INFRA / "kuberay" / name).read_text()):
        jsonschema.validate(document, schema)
        for where in ({**document, "sepc": {}}, {**document, "spec": {**document["spec"], "rayVersoin": "2"}}):
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(where, schema)


def test_job_and_cluster_on_kubernetes_are_the_same_and_run_what_is_locked() -> None:
    made, job = (documents(INFRA / "kuberay" / name) for name in ("raycluster.yaml", "rayjob.yaml"))
    spec = made["RayCluster"]["spec"]
    assert job["RayJob"]["spec"]["rayClusterSpec"] == spec
    assert spec["rayVersion"] == locked("ray") == ray.__version__
    claim = made["PersistentVolumeClaim"]["metadata"]["name"]
    for pod in pods(spec):
        assert [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]] == [claim]
        [container] = pod["containers"]
        [work] = [one["value"] for one in container["env"] if one["name"] == "A2V_WORK"]
        assert work.startswith(container["volumeMounts"][0]["mountPath"] + "/")
        assert container["resources"]["requests"] == container["resources"]["limits"]
        tag = container["image"].partition(":")[2]
        assert f'version = "{tag}"' in (ROOT / "pyproject.toml").read_text()


def test_the_jobs_command_fits_its_workers() -> None:
    spec = documents(INFRA / "kuberay" / "rayjob.yaml")["RayJob"]["spec"]
    words = shlex.split(spec["entrypoint"])
    assert words[:3] == ["a2v", "experiment", "run"]
    recipe = load_recipe(words[3], [words[n + 1] for n, word in enumerate(words) if word == "--set"])
    [group] = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert recipe.ray.num_workers == group["replicas"]
    assert recipe.ray.cpus_per_worker == float(group["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])


def instructions(path: Path) -> list[tuple[str, list[str]]]:
    """(INSTRUCTION, its words) of a container file, continued lines joined."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    return [
        (words[0], words[1:]) for line in lines if (words := shlex.split(line, comments=True)) and words[0].isupper()
    ]


@pytest.mark.slow
def test_what_the_container_file_copies_is_enough_to_install(tmp_path: Path) -> None:
    steps = instructions(INFRA / "Containerfile")
    for _, (*sources, target) in [step for step in steps if step[0] == "COPY"]:
        for source in sources:
            assert (ROOT / source).exists()
            place = tmp_path / "context" / (source if target == "./" else target)
            place.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_file():
                shutil.copy(ROOT / source, place)
            else:
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    kept = (INFRA / "Containerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in kept if line.startswith("!")} == {
        path.name for path in (tmp_path / "context").iterdir()
    }
    installs = [words for name, words in steps if name == "RUN" and words[:2] == ["pip", "install"]]
    assert installs[0][-3:] == ["--require-hashes", "-r", "requirements.lock"]
    packages = [word for word in installs[1] if word.startswith(".")]
    made = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "out", *packages],
        cwd=tmp_path / "context", capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert len(list((tmp_path / "context" / "out").glob("a2v*.whl"))) == len(packages) == 4
    [wheel] = (tmp_path / "context" / "out").glob("a2v-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    shown = ROOT / "experiments" / "a2v_experiments" / "review" / "page"
    assert {f"a2v_experiments/review/page/{path.name}" for path in shown.iterdir()} <= packed


def test_the_container_runs_the_right_python_and_not_as_root() -> None:
    steps = instructions(INFRA / "Containerfile")
    [image] = [words[0] for name, words in steps if name == "FROM"]
    assert "3.11" in image and 'requires-python = ">=3.11,<3.13"' in (ROOT / "pyproject.toml").read_text()
    last = [words for name, words in steps if name == "USER"][-1]
    [made] = [words for name, words in steps if name == "RUN" and words[0] == "useradd"]
    users = {
        pod["securityContext"]["runAsUser"]
        for pod in pods(documents(INFRA / "kuberay/raycluster.yaml")["RayCluster"]["spec"])
    }
    assert last == [made[-1]] and users == {int(made[made.index("--uid") + 1])}


def test_compose_and_serve_set_the_same_logins() -> None:
    compose = yaml.safe_load((INFRA / "mlflow" / "compose.yaml").read_text())
    loader = SourceFileLoader("serve", str(INFRA / "mlflow" / "serve"))
    spec = spec_from_loader("serve", loader)
    assert spec is not None
    serve = module_from_spec(spec)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    loader.exec_module(serve)
    sys.dont_write_bytecode = before
    uri = "postgresql+psycopg2://mlflow:${POSTGRES_PASSWORD}@postgres/mlflow_auth"
    assert compose["configs"]["auth"]["content"] == serve.AUTH_INI.format(uri=uri, user=serve.ADMINISTRATOR)
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for config in service.get("configs", []):
            assert config["source"] in compose["configs"]
    wanted = set(re.findall(r"\$\{(\w+)", json.dumps(compose)))
    told = (INFRA / "mlflow" / "compose.yaml").read_text().partition("\nname:")[0]
    assert wanted == set(re.findall(r"([A-Z_]+)=%s", told))
    assert (INFRA / "mlflow" / compose["services"]["mlflow"]["build"]["context"]).resolve() == ROOT


def test_the_service_starts_serve_where_it_keeps_its_state() -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(INFRA / "mlflow" / "a2v-mlflow.service")
    python, script, folder = unit["Service"]["ExecStart"].split()
    assert folder == f"/var/lib/{unit['Service']['StateDirectory']}"
    assert (ROOT / Path(script).relative_to("/opt/a2v")).is_file() and python == "/opt/a2v/.venv/bin/python"


def test_readme_names_every_file() -> None:
    text = (INFRA / "README.md").read_text()
    for path in INFRA.rglob("*"):
        if (
            path.is_file()
            and path.name not in ("README.md", "Containerfile.dockerignore")
            and "__pycache__" not in path.parts
        ):
            assert path.relative_to(INFRA).as_posix() in text, path


def test_schema_refuses_a_pod_without_image() -> None:
    schema = yaml.safe_load((Path(__file__).parent / "kuberay_schema.yaml").read_text())
    cluster = copy.deepcopy(documents(INFRA / "kuberay" / "raycluster.yaml")["RayCluster"])
    del pods(cluster["spec"])[1]["containers"][0]["image"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(cluster, schema)


def test_images_of_others_are_named_by_their_digest() -> None:
    named = [line.split()[1] for line in (INFRA / "Containerfile").read_text().splitlines() if line.startswith("FROM ")]
    for path in [*INFRA.rglob("*.yaml"), *INFRA.rglob("*.yml")]:
        named += re.findall(r"^\s*(?:- )?image:\s*(\S+)", path.read_text(), re.MULTILINE)
    of_others = {name for name in named if not name.startswith("registry.example.org/")}
    assert len(of_others) == 2
    for name in of_others:
        assert re.fullmatch(r"docker\.io/library/[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", name), name
