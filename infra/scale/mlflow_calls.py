"""What a call of MLflow costs, and how many of them an experiment makes.

    python infra/scale/mlflow_calls.py                                   # seconds of calls to a new SQLite store
    python infra/scale/mlflow_calls.py --uri http://127.0.0.1:5000       # of a server (it leaves an experiment there)
    python infra/scale/mlflow_calls.py -- experiment run RECIPE --set ray.num_workers=0     # counts those of a2v

The store's own columns (milliseconds, CPU-milliseconds of this process) do not depend on the sound. With `a2v` words
after `--` it runs them in this process and prints how often each call was made, those of its Ray workers not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric


def cost_ms(times: int, call: Callable[[int], Any]) -> tuple[float, float]:
    """Milliseconds of a call, and those of this process's processor."""
    cpu_s, begun = time.process_time(), time.perf_counter()
    for number in range(times):
        call(number)
    return 1000 * (time.perf_counter() - begun) / times, 1000 * (time.process_time() - cpu_s) / times


def costs(uri: str) -> dict[str, tuple[float, float]]:
    """Of the calls that a training makes, by name."""
    client, runs = MlflowClient(uri), list[str]()
    experiment = client.create_experiment(f"a2v-scale-{time.time():.0f}")

    def batch(number: int, metrics: int) -> None:
        client.log_batch(runs[0], metrics=[Metric(f"m{metrics}.{one}", 1.0, 0, number) for one in range(metrics)])

    return {
        "create_run": cost_ms(20, lambda number: runs.append(client.create_run(experiment).info.run_id)),
        "set_tag": cost_ms(20, lambda number: client.set_tag(runs[0], f"key{number}", "value")),
        "search_runs (20 runs)": cost_ms(10, lambda number: client.search_runs([experiment], "tags.key1 = 'value'")),
        "log_batch, 10 metrics": cost_ms(20, lambda number: batch(number, 10)),
        "log_batch, 900 metrics": cost_ms(10, lambda number: batch(number, 900)),
    }


def counted(words: list[str]) -> Counter[str]:
    """The calls that a command of a2v makes in this process, those within another call not."""
    from a2v_experiments.cli import app

    calls: Counter[str] = Counter()
    depth = 0

    def counting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal depth
            calls[name] += not depth
            depth += 1
            try:
                return method(*arguments, **named)
            finally:
                depth -= 1

        return call

    for name, method in list(vars(MlflowClient).items()):
        if callable(method) and not name.startswith("_"):
            setattr(MlflowClient, name, counting(name, method))
    app(words, standalone_mode=False)
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uri", help="of a tracking store; default: a new SQLite file")
    parser.add_argument("words", nargs="*", help="a command of a2v whose calls are counted")
    arguments = parser.parse_args()
    if arguments.words:
        calls = counted(arguments.words)
        print("\n".join(f"{count:6d}  {name}" for name, count in calls.most_common()))
        print(f"{calls.total():6d}  all", file=sys.stdout)
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, (wall_ms, cpu_ms) in costs(arguments.uri or f"sqlite:///{folder}/mlflow.db").items():
            print(f"{name:25s} {wall_ms:8.1f} ms {cpu_ms:8.1f} CPU-ms")


if __name__ == "__main__":
    main()
