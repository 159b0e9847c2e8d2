"""Splits of groups into parts that are alike in what is counted in them: iterative stratification, then exchanges.

Legend: G groups, P parts, C classes, B proposals.
"""

import numpy as np

MOST_TRIES, TRIED_GROUPS = 64, 2_000
MOST_CHANGES, CHANGES_PER_GROUP = 20_000, 60
LOOKED_AT = 64


def best_split(counts_GC: np.ndarray, shares_P: np.ndarray, seed: int | tuple[int, ...]) -> np.ndarray:
    """(G,) the part of each group, of several splits the one with the most even counts; `shares_P` of the groups.

    Iterative stratification balances in how many groups a class is; what follows balances its number of events too.
    The last column of `counts_GC` is balanced like a class, but is no stratum.
    """
    # More tries where they are cheap: few groups, which are also those that are hard to balance.
    tries = int(np.clip(TRIED_GROUPS // len(counts_GC), 1, MOST_TRIES))
    best: tuple[float, np.ndarray] | None = None
    for state in np.random.SeedSequence(seed).generate_state(tries):
        part_G = _stratified_parts(counts_GC[:, :-1], shares_P, int(state))
        uneven = _even_out(counts_GC, shares_P, part_G, np.random.default_rng(state))
        if best is None or uneven < best[0]:
            best = uneven, part_G
    assert best is not None
    return best[1]


def _stratified_parts(counts_GC: np.ndarray, shares_P: np.ndarray, state: int) -> np.ndarray:
    """(G,) parts by iterative stratification, none empty."""
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold, MultilabelStratifiedShuffleSplit

    groups, parts = len(counts_GC), len(shares_P)
    # Without any event there is nothing to balance but the sizes.
    strata_GS = strata(counts_GC) if counts_GC.any() else np.ones((groups, 2), np.int64)
    part_G = np.zeros(groups, np.int64)
    if len(set(shares_P)) == 1:
        splitter = MultilabelStratifiedKFold(n_splits=parts, shuffle=True, random_state=state)
        for part, (_, evaluation) in enumerate(splitter.split(counts_GC, strata_GS)):
            part_G[evaluation] = part
    else:
        held = int(np.clip(round(shares_P[1] * groups), 1, groups - 1))
        splitter = MultilabelStratifiedShuffleSplit(1, test_size=held, train_size=groups - held, random_state=state)
        part_G[next(splitter.split(counts_GC, strata_GS))[1]] = 1
    for part in range(parts):  # stratification prefers even classes to parts of the right size
        if not (part_G == part).any():
            part_G[np.flatnonzero(part_G == np.bincount(part_G).argmax())[0]] = part
    return part_G


def _even_out(counts_GC: np.ndarray, shares_P: np.ndarray, part_G: np.ndarray, rng: np.random.Generator) -> float:
    """Exchange groups between parts, in place, where that brings counts nearer to their shares.

    Returns what is left: the sum over parts and classes of the squared relative deviation, so that 3 of 2 expected
    events weigh as much as 150 of 100. Where groups differ in size, one may also move alone.
    """
    expected_PC = np.maximum(shares_P[:, None] * counts_GC.sum(0), 1e-9)
    weight_PC = 1 / expected_PC**2
    found_PC = np.stack([counts_GC[part_G == part].sum(0) for part in range(len(shares_P))]).astype(float)
    sizes_P = np.bincount(part_G, minlength=len(shares_P))
    may_move = len(set(counts_GC[:, -1])) > 1
    proposals = min(CHANGES_PER_GROUP * len(counts_GC), MOST_CHANGES)
    firsts, seconds = rng.integers(len(counts_GC), size=(2, proposals))
    alone = rng.random(proposals) < (0.5 if may_move else 0)
    at = 0
    while at < proposals:  # one after the other; a block of them is looked at at once, up to the first that is better
        first_B, second_B, alone_B = (values[at : at + LOOKED_AT] for values in (firsts, seconds, alone))
        here_B, there_B = part_G[first_B], part_G[second_B]
        change_BC = np.where(alone_B[:, None], 0, counts_GC[second_B]) - counts_GC[first_B]
        # What the sum of squares changes by, (off + change)^2 - off^2, in the one part and in the other.
        off_PC = found_PC - expected_PC
        worse_BC = weight_PC[here_B] * change_BC * (change_BC + 2 * off_PC[here_B])
        worse_BC += weight_PC[there_B] * change_BC * (change_BC - 2 * off_PC[there_B])
        better_B = (worse_BC.sum(1) < -1e-12) & (here_B != there_B) & ~(alone_B & (sizes_P[here_B] == 1))
        if not better_B.any():
            at += len(better_B)
            continue
        chosen = int(better_B.argmax())
        here, there = here_B[chosen], there_B[chosen]
        found_PC[here] += change_BC[chosen]
        found_PC[there] -= change_BC[chosen]
        part_G[first_B[chosen]] = there
        if alone_B[chosen]:
            sizes_P[here] -= 1
            sizes_P[there] += 1
        else:
            part_G[second_B[chosen]] = here
        at += chosen + 1
    return float((weight_PC * (found_PC - expected_PC) ** 2).sum())


def strata(counts_GC: np.ndarray) -> np.ndarray:
    """Binary labels to balance: is the class there, is it there more often than is usual where it is."""
    there = counts_GC > 0
    usual = [np.median(column[column > 0]) if (column > 0).any() else 0 for column in counts_GC.T]
    return np.concatenate([there, counts_GC > np.array(usual)], axis=1).astype(np.int64)


def stratified_sample(counts_RC: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """(R,) bool: `wanted` of the recordings, with alike class shares and as many classes as so few can hold, the rarest
    first. counts_RC: events per class of each."""
    chosen = _keep_classes(counts_RC > 0, _sample(counts_RC, wanted, rng), rng)
    return _trim(counts_RC > 0, chosen, wanted, rng)


def _sample(counts_RC: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """(R,) bool: about `wanted` recordings, at least that many, with alike class shares."""
    from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit

    rows = len(counts_RC)
    splitter = MultilabelStratifiedShuffleSplit(
        n_splits=1, train_size=wanted, test_size=rows - wanted, random_state=int(rng.integers(2**31))
    )
    taken, _ = next(splitter.split(counts_RC, strata(counts_RC)))
    chosen = np.zeros(rows, bool)
    chosen[taken] = True
    rest = rng.permutation(np.flatnonzero(~chosen))
    chosen[rest[: max(wanted - len(taken), 0)]] = True
    return chosen


def _keep_classes(there_RC: np.ndarray, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sample and, for every class that it lacks, a recording that has it (as few as possible)."""
    chosen = chosen.copy()
    missing_C = there_RC.any(0) & ~there_RC[chosen].any(0)
    while missing_C.any():
        gain = (there_RC & missing_C).sum(1)
        best = rng.choice(np.flatnonzero(gain == gain.max()))
        chosen[best] = True
        missing_C &= ~there_RC[best]
    return chosen


def _trim(there_RC: np.ndarray, chosen: np.ndarray, wanted: int, rng: np.random.Generator) -> np.ndarray:
    """The sample without as many recordings as are too many, each time one that loses the fewest classes."""
    chosen = chosen.copy()
    while chosen.sum() > wanted:
        only_C = there_RC[chosen].sum(0) == 1
        rows = np.flatnonzero(chosen)
        lost = (there_RC[rows] & only_C).sum(1)
        chosen[rng.choice(rows[lost == lost.min()])] = False
    return chosen
