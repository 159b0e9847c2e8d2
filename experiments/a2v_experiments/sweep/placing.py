"""Where the processes of a sweep's trials run: on any node, where each node sees what the recipe names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ..cluster.submission import sources
from ..recipe.sections import Recipe
from ..stages.backbones import named_start


def node_of_trials(recipes: Iterable[Recipe], say: Callable[[str], None]) -> str | None:
    """None where trials may run on any node of the cluster, else the address of this one, on which they have to stay;
    say(line) then tells why. The work folder is on all nodes, see `check_cluster`."""
    import ray

    from ..cluster.nodes import blind_nodes

    blind = blind_nodes(needed(recipes))
    if not blind:
        return None
    here: str = ray.util.get_node_ip_address()
    address, path = next(iter(blind.items()))
    say(f"trials stay on node {here}, their workers do not: node {address} does not see {path}")
    return here


def needed(recipes: Iterable[Recipe]) -> list[Path]:
    """What a trial's process reads beside the work folder: recordings, models to start from, manifests; and this
    folder, where one of them is named from here."""
    named = list(dict.fromkeys(path for recipe in recipes for path in _named(recipe)))
    here = [] if all(map(os.path.isabs, named)) else [Path.cwd()]
    return here + [Path(os.path.abspath(path)) for path in named]


def _named(recipe: Recipe) -> list[str]:
    paths = sources(recipe)
    for data in recipe.corpora.values():
        mapping = data.annotations.mapping
        if mapping and not (Path(data.source) / mapping).is_file():  # else it lies among the recordings
            paths.append(mapping)
    start = named_start(recipe)
    if start is not None and ":/" not in start[1]:
        paths.append(start[1])
    return paths + ([recipe.folds.manifests] if recipe.folds.manifests else [])
