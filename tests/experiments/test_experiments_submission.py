"""What is sent to a Ray cluster and how its job is followed, without a cluster."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from a2v_experiments.basics.errors import UserError
from a2v_experiments.cluster import jobs, submission
from a2v_experiments.cluster import nodes as cluster
from a2v_experiments.recipe.files import RecipeFile, load_recipe, read_recipe
from a2v_experiments.recipe.sections import RayConfig
from a2v_experiments.store.environment import origin
from experiments_cluster import free_port
from experiments_world import make_recipe, recipe_tree, write_recipe

ADDRESS = "http://192.0.2.1:8265"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE"):  # connecting sets them
        monkeypatch.setenv(name, "disabled")
        monkeypatch.delenv(name)


@pytest.mark.slow
def test_the_upload_runs_this_code_where_nothing_is_installed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parent.yaml").write_text(write_recipe(tmp_path / "p", recipe_tree(data__source="tones")).read_text())
    child = tmp_path / "child.yaml"
    child.write_text("extends: parent.yaml\nname: child\nray: {num_workers: 2, address: 192.0.2.9:6379}\n")
    file = submission.for_cluster(read_recipe(str(child), ["finetune.updates=7"]))
    chosen = file.resolve()
    assert chosen.data.source == str(tmp_path / "tones") and chosen.ray.address is None
    upload = tmp_path / "upload"
    upload.mkdir()
    submission.write_upload(upload, file, "child-1")

    assert load_recipe(str(upload / "recipe.yaml")) == chosen  # without parents, and whatever the folder it is read in
    code = """
import json, a2v_experiments.store.environment as e, a2v_model, a2v_data, a2v_eval
print(json.dumps([e.origin(), e.__file__, a2v_model.__file__, a2v_data.__file__, a2v_eval.__file__,
                  e.describe_environment()["packages"]["a2v"]]))
"""
    environment = {**os.environ, "PYTHONPATH": str(upload)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=True)
    tags, *files, number = json.loads(done.stdout)
    assert tags == {**origin(), "a2v.job": "child-1"} and number == version("a2v")
    assert all(Path(file).is_relative_to(upload) for file in files)
    command = [sys.executable, "-m", "a2v_experiments", "experiment", "run", "--help"]
    done = subprocess.run(command, cwd=upload, env=environment, capture_output=True, text=True, check=True)
    assert "Run a recipe" in done.stdout


def test_paths_of_a_job_are_absolute_and_its_command_is_quoted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = {"data__source": "tones", "data__annotations": {"mapping": "classes.csv"}}
    file = read_recipe(str(write_recipe(tmp_path / "small.yaml", recipe_tree(**changes))))
    tree = submission.for_cluster(file).tree
    assert tree["data"]["source"] == str(tmp_path / "tones") and file.tree["data"]["source"] == "tones"
    assert tree["data"]["annotations"]["mapping"] == str(tmp_path / "classes.csv")
    for given, there in (("runs:/123", "runs:/123"), ("models/m", str(tmp_path / "models" / "m"))):
        assert submission.for_cluster(RecipeFile("r", {"backbone": given})).tree == {"backbone": there}
    assert submission.for_cluster(RecipeFile("r", {"data": {"source": "synthetic"}})).tree["data"] == {
        "source": "synthetic"
    }
    assert submission.entrypoint(Path("my runs"), None).endswith(f"run recipe.yaml --work '{tmp_path}/my runs'")
    assert submission.entrypoint(Path("/runs"), "tiny").endswith("--work /runs --scale tiny")


def test_a_jobs_environment_holds_what_was_given(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET", "x=y")
    assert submission.parse_env(["A=1=2", "SECRET", "EMPTY="]) == {"A": "1=2", "SECRET": "x=y", "EMPTY": ""}
    for wrong in ("=1", "NOT_SET_HERE", "1A=2", "A B=1"):
        with pytest.raises(UserError, match=f"--env {wrong.partition('=')[0]}"):
            submission.parse_env([wrong])
    environment = submission.runtime_env(tmp_path, "postgresql://u:p@db/a2v", {"A": "1"}, Path("req.txt"))
    variables = {"MLFLOW_TRACKING_URI": "postgresql://u:p@db/a2v", "A": "1"}
    assert environment == {"working_dir": str(tmp_path), "env_vars": variables, "pip": "req.txt"}
    assert submission.runtime_env(tmp_path, None, {}, None) == {"working_dir": str(tmp_path), "env_vars": {}}


@pytest.mark.parametrize(
    "uri, address, right",
    [
        (None, ADDRESS, True),
        ("sqlite:////shared/mlflow.db", ADDRESS, True),
        ("sqlite:///mlflow.db", ADDRESS, False),
        ("mlruns", ADDRESS, False),
        ("http://mlflow:5000", ADDRESS, True),
        ("http://127.0.0.1:5000", ADDRESS, False),
        ("postgresql://a:b@localhost/a2v", ADDRESS, False),
        ("http://localhost:5000", "http://127.0.0.1:8265", True),
    ],
)
def test_a_store_that_is_another_one_on_the_cluster_is_refused(uri, address, right):
    if right:
        submission.check_tracking(uri, address)
        return
    with pytest.raises(UserError, match=f"--tracking-uri {uri}") as caught:
        submission.check_tracking(uri, address)
    assert caught.value.code == 2 and "b@" not in str(caught.value).replace(uri, "")


def test_what_must_hold_on_the_cluster_is_said(tmp_path):
    quiet = make_recipe(tmp_path, ["ray.num_workers=2"], data__source="synthetic")
    assert len(submission.notices(quiet, Path("/shared/runs"), "http://mlflow:5000")) == 1
    told = submission.notices(make_recipe(tmp_path, data__source="/far/away"), Path("/shared/runs"), None)
    assert [line.split()[0] for line in told] == ["work", "source", "tracked", "ray.num_workers"]
    assert "not on this machine" in told[1]


class Web(http.server.BaseHTTPRequestHandler):
    """A server that is no Ray dashboard."""

    def do_GET(self) -> None:
        self.send_response(200 if self.server.page else 404)  # type: ignore[attr-defined]
        self.end_headers()
        self.wfile.write(self.server.page)  # type: ignore[attr-defined]

    def log_message(self, *arguments: object) -> None:
        return


@pytest.fixture(params=[b"", b"<html>hello</html>"], ids=["404", "a page"])
def other_server(request: pytest.FixtureRequest) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    server.page = request.param  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_an_address_without_jobs_api_is_one_line(a2v, other_server, tmp_path):
    recipe = write_recipe(tmp_path / "small.yaml", recipe_tree(data__source="synthetic"))
    for arguments in (("submit", recipe), ("attach", "some-job")):
        said = a2v("experiment", *arguments, "--address", other_server)
        assert said.code == 1 and said.only_line().startswith(f"--address {other_server}: no Jobs API there: ")


@pytest.mark.parametrize(
    "address, code, told",
    [
        ("127.0.0.1:6379", 2, "give the address of the Ray dashboard, http://HOST:8265"),
        ("ray://127.0.0.1:10001", 2, "give the address of the Ray dashboard, http://HOST:8265"),
        ("http://127.0.0.1:PORT", 1, "nothing answers there: Connection refused"),
        ("http://no-such-host.invalid:8265", 1, "nothing answers there: "),
    ],
)
def test_a_wrong_address_is_one_line(a2v, tmp_path, address, code, told):
    recipe = write_recipe(tmp_path / "small.yaml", recipe_tree(data__source="synthetic"))
    said = a2v("experiment", "submit", recipe, "--address", address.replace("PORT", str(free_port())))
    assert said.code == code and told in said.only_line()


def test_a_wrong_recipe_is_told_before_the_cluster_is_asked(a2v, tmp_path, csv_source):
    recipe = write_recipe(tmp_path / "small.yaml", recipe_tree(data__source=str(csv_source)))
    said = a2v("experiment", "submit", recipe, "--address", ADDRESS, "--set", "pretrain.bogus=1")
    assert said.code == 2 and "pretrain.bogus: unknown key" in said.only_line()
    (tmp_path / "empty").mkdir()
    said = a2v("experiment", "submit", recipe, "--address", ADDRESS, "--set", f"data.source={tmp_path / 'empty'}")
    assert said.code == 2 and "no audio in it" in said.only_line()


@dataclass
class Details:
    status: str
    driver_exit_code: int | None = None
    message: str = ""
    metadata: dict[str, str] | None = None
    submission_id: str = "job"
    start_time: int = 0


@dataclass
class FakeClient:
    """A job that runs while its log is followed. A `None` in the log is a connection that breaks there."""

    end: Details
    log: list[str | None] = field(default_factory=list)
    breaks: int = 0
    ended: bool = False

    def get_job_info(self, job_id: str) -> Details:
        if job_id == "unknown":
            raise RuntimeError("Request failed with status code 404: Job unknown does not exist.")
        return self.end if self.ended else Details("RUNNING")

    def stop_job(self, job_id: str) -> bool:
        self.get_job_info(job_id)
        self.ended = True
        return True

    def list_jobs(self) -> list[Details]:
        return [Details("RUNNING", submission_id=name, start_time=n) for n, name in enumerate(("older", "newer"))]

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        await asyncio.sleep(0)
        passed = 0
        for text in self.log:
            if text is None:
                passed += 1
                if passed > self.breaks:
                    self.breaks += 1
                    raise RuntimeError("WebSocket connection closed unexpectedly")
                continue
            yield text
        self.ended = True


def followed(client: FakeClient, job_id: str = "job") -> tuple[str, UserError | None]:
    written: list[str] = []
    try:
        jobs.follow(client, ADDRESS, job_id, written.append)
    except UserError as error:
        return "".join(written), error
    return "".join(written), None


def test_a_log_whose_connection_breaks_goes_on_where_it_was(monkeypatch):
    monkeypatch.setattr(jobs, "POLL_S", 0.0)
    client = FakeClient(Details("SUCCEEDED", 0), ["one\ntw", None, "o\n", None, "three\n"])
    assert followed(client) == ("one\ntwo\nthree\n", None) and client.breaks == 2
    monkeypatch.setattr(jobs, "PATIENCE_S", 0.0)
    error = followed(FakeClient(Details("SUCCEEDED", 0), [None]))[1]
    assert error is not None and error.code == 1 and "has not answered" in str(error)


@pytest.mark.parametrize(
    "end, code, told",
    [
        (Details("FAILED", 2), 2, "job job failed with exit code 2"),
        (Details("FAILED", 127), 127, "no `python` on the PATH"),
        (Details("FAILED", None, "runtime_env\nERROR: no such package\n"), 1, "job job failed: ERROR: no such package"),
        (Details("STOPPED", -15), 130, "job job was stopped"),
    ],
)
def test_following_ends_as_the_job_ends(end, code, told):
    error = followed(FakeClient(end))[1]
    assert error is not None and error.code == code and told in str(error)


def test_an_unknown_job_is_one_line():
    error = followed(FakeClient(Details("SUCCEEDED")), "unknown")[1]
    assert error is not None and error.code == 2
    assert str(error) == "job unknown: the cluster has no job with this id; the newest: newer, older"


def test_a_job_is_stopped_and_how_it_goes_on_is_said(a2v, monkeypatch):
    again = "a2v experiment submit small.yaml --address http://head:8265"
    client = FakeClient(Details("STOPPED", -15, metadata={"recipe": "small", "a2v.again": again}))
    monkeypatch.setattr(jobs, "connect", lambda address: client)
    said = a2v("experiment", "stop", "job", "--address", ADDRESS)
    assert said.code == 0 and client.ended and said.out.splitlines()[-2:] == [
        "it goes on from the last checkpoints:", f"  {again}",
    ]  # fmt: skip
    client.end = Details("SUCCEEDED", 0)
    said = a2v("experiment", "stop", "job", "--address", ADDRESS)
    assert said.code == 0 and said.out == "job job had ended before: SUCCEEDED\n"
    said = a2v("experiment", "stop", "unknown", "--address", ADDRESS)
    assert said.code == 2 and "no job with this id; the newest: newer, older" in said.only_line()


def test_fewer_workers_than_the_least_are_refused(tmp_path):
    assert RayConfig(num_workers=3, min_workers=1).min_workers == 1
    with pytest.raises(UserError, match=r"min_workers = 3: must not be above num_workers \(2\)"):
        make_recipe(tmp_path, ["ray.num_workers=2", "ray.min_workers=3"], data__source="synthetic")


def test_the_interface_of_an_address_is_found():
    assert cluster.interface_of("127.0.0.1") == "lo"
    assert cluster.interface_of("192.0.2.250") is None


class FakeNodes:
    """Stands for Ray on nodes of which `blind` do not see the work folder and `gone` do not answer."""

    def __init__(self, nodes: list[str], blind: str, gone: str) -> None:
        self.names, self.blind, self.gone, self.asked = nodes, blind, gone, []
        self.exceptions = SimpleNamespace(RayError=ZeroDivisionError)

    def nodes(self) -> list[dict[str, object]]:
        return [{"NodeID": name, "NodeManagerAddress": f"at-{name}", "Alive": name != "dead"} for name in self.names]

    def remote(self, **resources: object) -> Callable[..., FakeNodes]:
        return lambda function: self

    def options(self, scheduling_strategy: str) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda path: self.ask(scheduling_strategy, Path(path)))

    def ask(self, node: str, path: Path) -> str:
        assert path.is_file()
        self.asked.append(node)
        return node

    def wait(self, references: list[str], **settings: object) -> tuple[list[str], list[str]]:
        return references, []

    def get(self, node: str) -> bool:
        if node == self.gone:
            raise ZeroDivisionError
        return node != self.blind


def test_a_node_that_does_not_see_the_work_folder_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "NodeAffinitySchedulingStrategy", lambda node, soft: node)
    monkeypatch.setattr(cluster, "ray", FakeNodes(["a", "dead", "b"], blind="", gone="b"))
    cluster.check_shared(tmp_path / "runs")
    assert cluster.ray.asked == ["a", "b"]
    monkeypatch.setattr(cluster, "ray", FakeNodes(["a", "b", "c"], blind="b", gone=""))
    with pytest.raises(UserError, match="node at-b does not see this folder") as caught:
        cluster.check_shared(tmp_path / "runs")
    assert caught.value.code == 1 and list((tmp_path / "runs").iterdir()) == []
    monkeypatch.setattr(cluster, "ray", FakeNodes(["a", "dead"], blind="a", gone=""))
    cluster.check_shared(tmp_path / "runs")  # one node needs no shared folder
