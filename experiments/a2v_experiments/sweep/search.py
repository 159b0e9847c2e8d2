"""Ray Tune's part of a sweep: how values are chosen, when a trial is pruned, how many run at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..basics.errors import UserError
from ..recipe.sections import RayConfig
from ..recipe.sweep import Choice, PruningConfig, Range, SweepConfig
from .trial import SCORE, TIME

Evaluated = Sequence[tuple[Mapping[str, Any], float]]  # values and score of trials that an earlier call finished


def needs(ray: RayConfig) -> dict[str, float]:
    """What one trial takes of the cluster: its workers', or of its own process where it trains without workers."""
    workers = max(ray.num_workers, 1)
    return {"CPU": workers * ray.cpus_per_worker, **({"GPU": float(workers)} if ray.use_gpu else {})}


def trials_at_once(ray: RayConfig, cluster: Mapping[str, float], concurrency: int | None) -> int:
    """How many trials the cluster's resources allow at once, so that none waits for workers that others hold: when a
    trial evaluates it takes no more than when it trains.

    Raises UserError where not even one fits.
    """
    fits = min(int(cluster.get(kind, 0) / amount + 1e-9) for kind, amount in needs(ray).items())
    if fits < 1:
        wanted = " and ".join(f"{amount:g} {kind}" for kind, amount in needs(ray).items())
        has = " and ".join(f"{cluster.get(kind, 0):g} {kind}" for kind in needs(ray))
        raise UserError(f"sweep: a trial needs {wanted}, the Ray cluster has {has}; lower ray.num_workers")
    return min(fits, concurrency or fits)


TRIAL_BYTES = 500_000_000.0  # about what a trial's own process takes: Ray puts it where most memory is left


def bundle(ray: RayConfig, this_node: str | None) -> dict[str, float]:
    """What Ray Tune reserves for a trial's own process. With workers it reserves no processor: Ray Train and the
    evaluation reserve theirs themselves, and a hundredth of one would leave no room for a worker that wants all of a
    node. A bundle has to name something, so it names some memory, which any node has; or this_node (its address), where
    the process has to stay there."""
    if ray.num_workers == 0:
        return needs(ray)
    return {"memory": TRIAL_BYTES} if this_node is None else {f"node:{this_node}": 0.001}


def scheduler(pruning: PruningConfig | None, folds: int, validations: int = 0) -> Any:
    """ASHA over the folds done so far, or over the validations, or none. validations: of a fold."""
    if pruning is None:
        return None
    from ray.tune.schedulers import ASHAScheduler

    if pruning.grace_validations is not None:
        return ASHAScheduler(
            time_attr=TIME, metric=SCORE, mode="max", max_t=folds * validations + 1,
            grace_period=pruning.grace_validations, reduction_factor=pruning.reduction_factor,
        )  # fmt: skip
    return ASHAScheduler(
        time_attr="training_iteration", metric=SCORE, mode="max", max_t=folds + 1,
        grace_period=pruning.grace_folds, reduction_factor=pruning.reduction_factor,
    )  # fmt: skip


def optuna_search(sweep: SweepConfig, evaluated: Evaluated) -> Any:
    """Optuna's TPE, which knows the trials that are done already: their number changes the seed, since the same one
    would choose the same values again."""
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(
        {key: _distribution(choice) for key, choice in sweep.parameters.items()}, metric=SCORE, mode="max",
        seed=sweep.seed + len(evaluated), points_to_evaluate=[dict(values) for values, _ in evaluated] or None,
        evaluated_rewards=[score for _, score in evaluated] or None,
    )  # fmt: skip


def _distribution(choice: Choice) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(choice, Range):
        return CategoricalDistribution(list(choice))
    low, high = choice.ends
    if choice.integer:
        return IntDistribution(int(low), int(high), log=choice.log, step=int(choice.step or 1))
    return FloatDistribution(low, high, log=choice.log, step=choice.step)
