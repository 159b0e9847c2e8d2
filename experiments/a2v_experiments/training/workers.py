"""Training on 0 or N workers: the same loop in this process, or in Ray Train V2 workers.

Contract. Checkpoints of a run lie under storage/name, each complete or invisible (checkpoints.py; under Ray Train
the report is what makes one visible). A call goes on from the newest one: Ray Train V2 does so by itself for a name
it has seen, which is why the name carries the stage's fingerprint.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from a2v_model import in_bfloat16, own_threads, threads

from ..basics.errors import FAILED, UserError, disk_full, is_disk_full, last_line
from ..basics.stopping import as_ctrl_c, finishing_update
from ..cluster.environment import use_given_threads, worker_environment
from ..cluster.session import start_ray
from ..recipe.sections import RayConfig
from ..store.tags import NODES, PRECISION
from . import checkpoints
from .group import Group
from .loop import TrainingStopped, train
from .spec import TrainingSpec
from .tasks import build_task

Write = Callable[[Path], None]
Looked = Callable[[int, Mapping[str, float]], None]  # how many validations there were, what ranks of the weights kept
VALIDATION_S = 6 * 3600  # how long the other workers wait for rank 0, which validates and probes
INTERRUPTED_S = 10.0  # how long a training that was stopped waits for a tracking store that is away


def run_training(
    spec: TrainingSpec,
    ray: RayConfig,
    storage: Path,
    name: str,
    uri: str,
    run_id: str,
    looked: Looked | None = None,
) -> Path:
    """Train to the end from the newest checkpoint under storage/name, if any; returns the last checkpoint's folder.

    uri, run_id: the tracking store and the run that rank 0 logs to. looked: called after each validation, in this
    process only (`num_workers` 0). Raises UserError when Ray or training fails.
    """
    payload = {"spec": spec.model_dump(mode="json"), "uri": uri, "run_id": run_id}
    if ray.num_workers == 0:
        return _train_in_process(payload, storage / name, looked)
    return _train_on_ray(payload, ray, storage, name, spec)


def _train_in_process(payload: dict[str, Any], folder: Path, looked: Looked | None = None) -> Path:
    def save(updates: int, write: Write) -> None:
        older = checkpoints.newest(folder)
        write(folder / checkpoints.name(updates))
        if older and older.name < checkpoints.name(updates):  # a newer one is of a process that took the run over
            shutil.rmtree(older)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        _train(payload, Group(device=device), checkpoints.newest(folder), save, looked=looked)
    except TrainingStopped as stop:
        raise UserError(str(stop), FAILED) from None
    last = checkpoints.newest(folder)
    assert last is not None, "the loop saves a checkpoint at its end"
    return last


def _train_on_ray(payload: dict[str, Any], config: RayConfig, storage: Path, name: str, spec: TrainingSpec) -> Path:
    start_ray(config)  # first: what is imported here is imported by then, where Ray was started beside other work
    import ray.train
    from ray.train.v2.api.exceptions import TrainingFailedError

    from ..cluster.nodes import TorchOnNodes, Trainer

    loop: Callable[..., Any] = _worker
    elastic: Any = (config.min_workers, config.num_workers)  # Ray's annotation of num_workers does not know it
    environment: Any = {"worker_runtime_env": worker_environment()}  # Ray's annotation does not know it
    trainer = Trainer(
        loop,
        train_loop_config=payload,
        torch_config=TorchOnNodes(timeout_s=VALIDATION_S if spec.looks else TorchOnNodes.timeout_s),
        scaling_config=ray.train.ScalingConfig(
            num_workers=elastic if config.min_workers else config.num_workers,
            use_gpu=config.use_gpu,
            resources_per_worker={"CPU": config.cpus_per_worker, **({"GPU": 1} if config.use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=str(storage.resolve()),
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            **environment,
        ),
    )
    handler = signal.getsignal(signal.SIGINT)
    try:
        with as_ctrl_c():
            result: Any = trainer.fit()  # Ray's annotation does not know return_value
    except TrainingFailedError as error:
        raise UserError(f"training failed on a Ray worker: {last_line(error)}", FAILED) from error
    except SystemExit:  # how Ray Train's own handler of Ctrl-C ends
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
    if result.return_value:
        raise UserError(str(result.return_value), FAILED)
    last = Path(result.checkpoint.path) if result.checkpoint is not None else None
    if last is None or not checkpoints.is_finished(checkpoints.read_state(last), spec.end):
        raise KeyboardInterrupt  # aborted by Ctrl-C
    return last


def _worker(payload: dict[str, Any]) -> str | None:
    """One Ray Train worker: the loop, with Ray's checkpoints. Returns why it stopped early, if it did."""
    import ray.train
    import ray.train.torch

    use_given_threads()
    context = ray.train.get_context()
    group = Group(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    nodes = ", ".join(group.gather(ray.util.get_node_ip_address()))
    given = ray.train.get_checkpoint()

    def save(updates: int, write: Write) -> None:
        if group.rank != 0:
            ray.train.report({"updates": updates})
            return
        with tempfile.TemporaryDirectory(prefix="a2v-") as scratch:
            folder = Path(scratch) / checkpoints.name(updates)
            write(folder)
            checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report({"updates": updates}, checkpoint, checkpoint_dir_name=_unique(updates))

    try:
        if given is None:
            _train(payload, group, None, save, nodes)
        else:
            with given.as_directory() as folder:
                _train(payload, group, Path(folder), save, nodes)
    except TrainingStopped as stop:  # raised on every worker alike; as an error Ray would try it again
        return str(stop)
    return None


def _unique(updates: int) -> str:
    """Ray wants a new folder name for every report, also for an update that a restarted worker repeats.

    The process id alone would not do: workers on two nodes can have the same.
    """
    return f"{checkpoints.name(updates)}-{os.getpid()}-{secrets.token_hex(4)}"


def _train(
    payload: dict[str, Any],
    group: Group,
    resume: Path | None,
    save: Callable[[int, Write], None],
    nodes: str | None = None,
    looked: Looked | None = None,
) -> None:
    """The loop with its log, on one worker; rank 0 logs and measures the machine.

    nodes: the address of each worker's node, by rank; of Ray workers the run says where and how many they are.
    """
    torch.set_flush_denormal(True)  # attention to far frames underflows; denormal numbers are slow on CPUs
    spec = TrainingSpec.model_validate(payload["spec"])
    task = build_task(spec, group.device)
    if group.rank != 0:
        train(task, spec.loop, group, resume, lambda update, metrics: None, save, list, end=spec.end)
        return
    # MLflow, which takes a second: the other workers do not spend it
    from ..store.metric_log import MetricLog
    from ..store.outage import PATIENCE_S, duration
    from ..store.system_metrics import SystemMetrics

    pending = checkpoints.read_state(resume)["pending_metrics"] if resume else []
    precision = "bfloat16" if in_bfloat16(spec.loop.precision, group.device) else "float32"
    tags = {PRECISION: precision, **({NODES: nodes} if nodes else {})}
    log = MetricLog(payload["uri"], payload["run_id"], pending, tags)
    count = {"workers": float(group.size)} if nodes else {}
    machine = SystemMetrics(log.add_system)
    patience_s = INTERRUPTED_S

    def add(step: int, metrics: dict[str, float]) -> None:
        log.add(step, {**metrics, **count})
        history = task.validation.history if task.validation else []
        if looked and history and history[-1][0] == step:
            log.send()  # a trial that is pruned ends here
            looked(len(history), task.validation.kept)

    try:
        if nodes:
            train(task, spec.loop, group, resume, add, save, log.pending, end=spec.end)
        else:
            with threads(own_threads(task.model, group.device)), finishing_update() as asked_to_stop:
                train(task, spec.loop, group, resume, add, save, log.pending, asked_to_stop, spec.end)
        patience_s = PATIENCE_S
    finally:
        machine.close()
        left = log.close(patience_s)
    if left and log.error is not None and is_disk_full(log.error):
        raise disk_full(payload["uri"])
    if left:
        raise UserError(
            f"{payload['uri']}: the tracking server did not answer for {duration(patience_s)}; {left} steps are not"
            " logged yet; the same command logs them from the last checkpoint",
            FAILED,
        )
