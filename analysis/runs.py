"""Group rows by training run and by network, and match networks with DQNs. Never imports torch."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import pandas as pd

from analysis.trainings import in_words, plain, told_apart
from core.games import get_game
from core.kinds import kind_of, label, order
from core.records import require_single

CHECKPOINT_ORDER = ("best", "", "final")
"""Aggregates use the first of these checkpoints that a training run has. The papers report the best checkpoint."""
TRAINED_SHARE = 0.1
"""An agent is called untrained if its training run made less than this share of the recipe's decisions."""

Key = TypeVar("Key")


class Family(NamedTuple):
    """Runs that differ only in their training seed. A mean over a family is a mean over training seeds."""

    agent: str
    network: str
    recipe: str
    sim_steps: int
    """Simulation steps of a converted network, whose name does not contain them. 0 for all other networks."""
    variant: str = ""
    """Conversion method and its options. Empty for networks that were not converted."""
    untrained: bool = False
    """Whether the training run was too short for its recipe (see TRAINED_SHARE)."""


def families(rows: pd.DataFrame, longest: Mapping[tuple[Any, ...], int] | None = None) -> pd.Series:
    """The family of each row of episodes or attacks.

    Args:
        rows: EpisodeRows or AttackRows.
        longest: lengths of training runs from `longest_steps`. If None, they are taken from these rows.
    """
    made = steps_of_runs(rows, longest)
    columns = [rows[name] for name in ("agent", "network", "recipe", "sim_steps", "variant")]
    found = map(family_of, *columns, is_untrained(made, rows.recipe_steps))
    return pd.Series(list(found), rows.index, dtype=object)


def longest_steps(rows: pd.DataFrame) -> dict[tuple[Any, ...], int]:
    """How many decisions each training run made in total.

    The best checkpoint of a run may be much younger than its final one. The result therefore has one entry for each
    checkpoint: (*training run, decisions at the checkpoint) -> decisions of the whole run.
    """
    # A checkpoint that is neither "best" nor "final" may belong to another run that was cut short.
    known = rows[rows.checkpoint != ""] if "checkpoint" in rows else rows.iloc[:0]
    most: dict[tuple[Any, ...], int] = {}
    runs = _training_run(known)
    for run, steps in zip(runs, known.train_steps, strict=True):
        most[run] = max(steps, most.get(run, steps))
    return {(*run, steps): most[run] for run, steps in zip(runs, known.train_steps, strict=True)}


def steps_of_runs(rows: pd.DataFrame, longest: Mapping[tuple[Any, ...], int] | None = None) -> pd.Series:
    """For each row, the number of decisions of its whole training run. `longest` is as in `families`."""
    known = longest_steps(rows) if longest is None else longest
    runs = zip(_training_run(rows), rows.train_steps, strict=True)
    return pd.Series([known.get((*run, steps), steps) for run, steps in runs], rows.index, dtype=int)


def _training_run(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    """The key of each row's training run. A converted network has the key of its DQN."""
    conversions = [agent for agent in set(rows.agent) if kind_of(agent).is_conversion]
    agents = rows.agent.where(~rows.agent.isin(conversions), "dqn")
    return list(zip(rows.game, agents, rows.network, rows.recipe, rows.train_seed, strict=True))


def training_families(rows: pd.DataFrame) -> pd.Series:
    """The family of each validation or curve row, which a training run wrote while its agent was learning."""
    found = map(Family, rows.agent, rows.network, rows.recipe, [0] * len(rows))
    return pd.Series(list(found), rows.index, dtype=object)


def family_of(
    agent: str, network: str, recipe: str, sim_steps: int, variant: str, untrained: bool = False
) -> Family:
    """The family of a row. The simulation steps of networks that were not converted stand in their names."""
    shown_steps = sim_steps if kind_of(agent).is_conversion else 0
    return Family(agent, network, recipe, shown_steps, variant, bool(untrained))


def is_untrained(train_steps: Any, recipe_steps: Any) -> Any:
    """Whether an agent made less than TRAINED_SHARE of its recipe's decisions, element by element."""
    return (train_steps >= 0) & (train_steps < TRAINED_SHARE * recipe_steps)


def whole_runs(validation: pd.DataFrame) -> pd.DataFrame:
    """Validation rows of training runs that were not cut short, with a column `family`.

    Cut short are runs too short for their recipe (`is_untrained`), and those shorter than others of their network on
    the game, unless they ended at the game's stop score (`train_direct --early-stop`).

    Args:
        validation: EpisodeRows of training runs.
    """
    rows = validation.assign(family=training_families(validation))
    made = rows.groupby(["game", "family", "train_seed"]).train_steps.transform("max")
    longest = rows.groupby(["game", "family"]).train_steps.transform("max")
    last = rows.score.where(rows.train_steps == made)
    reached = last.groupby([rows.game, rows.family, rows.train_seed]).transform("mean")
    is_solved = reached >= rows.game.map(lambda game: get_game(game).stop_score or math.inf)
    return rows[((made == longest) | is_solved) & ~is_untrained(made, rows.recipe_steps)]


def in_order(found: Iterable[Family]) -> list[Family]:
    """Each family once, in the order used by all tables and figures."""
    return sorted(set(found), key=lambda each: (order(each.agent), *each[1:]))


def names(found: Iterable[Family]) -> dict[Family, str]:
    """A short name for each family: the kind of agent, and how it differs from other families of that kind."""
    own = in_order(found)
    return {family: _name(family, [each for each in own if each.agent == family.agent]) for family in own}


def _name(family: Family, siblings: list[Family]) -> str:
    named = label(family.agent, family.variant)
    agent = f"Double {named}" if is_double(family) else named
    of_siblings = [dict.fromkeys(_parts(each)) for each in siblings]
    own = [part for part in _parts(family) if not all(part in parts for parts in of_siblings)]
    # A family that differs only by lacking something is named by its network.
    if not own and any(_parts(each) != _parts(family) for each in siblings):
        own = [family.network.split("+")[0]]
    return f"{agent} ({', '.join(own)})" if own else agent


def _parts(family: Family) -> list[str]:
    """The parts of a family's name, in words."""
    parts = [part.removeprefix("readout=") for part in family.network.split("+")]
    parts += [in_words(part) for part in family.recipe.split("+") if not part.startswith("double=")]
    parts = [
        f"{part.removeprefix('sim_steps=')} sim steps" if "sim_steps=" in part else part for part in parts
    ]
    steps = f"{family.sim_steps} sim steps" if family.sim_steps else ""
    untrained = "untrained" if family.untrained else ""
    return [*parts, *(part for part in (family.variant, steps, untrained) if part)]


def is_double(family: Family) -> bool:
    """Whether a family learnt by Double Q-learning. The recipe's name in rows lists such changes."""
    return _is_double(family.recipe)


def _is_double(recipe: str) -> bool:
    return "double=True" in recipe.split("+")


def single_q(family: Family) -> Family:
    """The same family without Double Q-learning, whichever training it was."""
    parts = [part for part in plain(family.recipe).split("+") if part != "double=True"]
    return family._replace(recipe="+".join(parts))


def require_comparable(episodes: pd.DataFrame) -> None:
    """Check that all rows of a game were scored in the same way.

    Raises:
        Refusal: rows of one game have different protocols, evaluation seeds or settings.
    """
    for game, here in episodes.groupby("game"):
        require_single(here.protocol, f"protocol of {game}")
        require_single(here.eval_seed, f"evaluation seed of {game}")
        # Random play has settings of its own: epsilon is 1.
        require_single(here[here.agent != "random"].settings, f"setting of {game}")


def training_runs(episodes: pd.DataFrame) -> pd.DataFrame:
    """One row for each checkpoint of each training run.

    Args:
        episodes: EpisodeRows.

    Returns:
        Columns: game, family, train_seed, train_steps, checkpoint, checkpoint_id, sim_steps, and the mean, std
        (population standard deviation) and n of the scores over episodes.

    Raises:
        Refusal: the rows do not compare (see `require_comparable`), or one name stands for two networks.
    """
    require_comparable(episodes)
    rows = episodes.assign(family=families(episodes))
    runs = []
    key: Any
    for key, group in rows.groupby(["game", "family", "train_seed", "checkpoint"]):
        game, family, seed, checkpoint = key
        name = " ".join(part for part in (family.agent, family.network, family.recipe, checkpoint) if part)
        require_single(group.checkpoint_id, f"checkpoint of {game}, {name}, training seed {seed}")
        runs.append(
            {
                **{"game": game, "family": family, "train_seed": seed, "checkpoint": checkpoint},
                "train_steps": int(group.train_steps.iloc[0]),
                **{"mean": group.score.mean(), "std": group.score.std(ddof=0), "n": len(group)},
                **{"sim_steps": int(group.sim_steps.iloc[0]), "checkpoint_id": group.checkpoint_id.iloc[0]},
            }
        )
    columns = ("game", "family", "train_seed", "checkpoint", "train_steps", "mean", "std", "n", "sim_steps")
    return pd.DataFrame(runs, columns=(*columns, "checkpoint_id"))


def prefer_best(runs: pd.DataFrame) -> pd.DataFrame:
    """One checkpoint of each training run: the best one if there is one (see CHECKPOINT_ORDER)."""
    ranked = runs.assign(rank=runs.checkpoint.map(CHECKPOINT_ORDER.index)).sort_values("rank", kind="stable")
    first = ranked.drop_duplicates(["game", "family", "train_seed"])
    return first.sort_index().drop(columns="rank")


class TrainedAgent(NamedTuple):
    """Identifies an agent's weights, to find the DQN that the agent is compared with."""

    game: str
    agent: str
    network: str
    recipe: str
    untrained: bool
    train_seed: int
    train_steps: int


def trained_alike(agent: Family | TrainedAgent, other: Family | TrainedAgent) -> bool:
    """Whether two agents were trained by the same recipe.

    They also agree on Double Q-learning and on being untrained. Other changes to the recipe are ignored.
    """
    return (
        agent.recipe.split("+")[0] == other.recipe.split("+")[0]
        and _is_double(agent.recipe) == _is_double(other.recipe)
        and agent.untrained == other.untrained
    )


def dqn_family(family: Family, others: Iterable[Family]) -> Family | None:
    """The DQN that a directly trained network is compared with over games: trained alike, if possible by its recipe.

    Args:
        family: the network.
        others: families among which the DQN is sought.

    Returns:
        None for a DQN, and if none or several were trained alike.
    """
    if family.agent == "dqn":
        return None
    alike = [each for each in dict.fromkeys(others) if each.agent == "dqn" and trained_alike(each, family)]
    for same in (
        [each for each in alike if each.recipe == family.recipe],
        [each for each in alike if plain(each.recipe) == plain(family.recipe)],
        alike,
    ):
        if same:
            return same[0] if len(same) == 1 else None
    return None


def is_own_dqn(dqn: TrainedAgent, agent: TrainedAgent) -> bool:
    """Whether an agent may be compared with a DQN: both were trained alike on the same game.

    A converted network carries the network, seed, recipe and decisions of its source DQN and is compared with that DQN
    only. A DSQN has no source and may be compared with any seed. Imported weights have no known origin and match no
    other DQN.
    """
    if dqn == agent:
        return True
    alike = dqn.agent == "dqn" and dqn.game == agent.game and trained_alike(dqn, agent)
    if kind_of(agent.agent).is_conversion:
        origin = (agent.network, agent.recipe, agent.train_seed, agent.train_steps)
        alike = alike and (dqn.network, dqn.recipe, dqn.train_seed, dqn.train_steps) == origin
    return alike and min(dqn.train_seed, agent.train_seed) >= 0


def own_dqns(agent: TrainedAgent, dqns: Iterable[tuple[TrainedAgent, Key]]) -> list[Key]:
    """The DQNs that an agent may be compared with (`is_own_dqn`).

    If some of them have exactly the agent's recipe, only those are returned. Empty if these are of several trainings
    that share a name, because nothing says which of them the agent belongs to.
    """
    own = [(dqn, key) for dqn, key in dqns if is_own_dqn(dqn, agent)]
    same = [key for dqn, key in own if dqn.recipe == agent.recipe]
    if same:
        return same
    alike = [(dqn, key) for dqn, key in own if plain(dqn.recipe) == plain(agent.recipe)] or own
    return [key for _, key in alike] if len({told_apart(dqn.recipe) for dqn, _ in alike}) < 2 else []


def own_dqn(runs: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """The runs of the DQN that one family is compared with on one game (`own_dqns`), with all matching checkpoints.

    Args:
        runs: all runs, from `training_runs`.
        own: the runs of the family on the game.

    Returns:
        Rows of `runs`. None if several DQN families match.
    """
    dqns = runs[[family.agent == "dqn" for family in runs.family]]
    known = list(zip(_weights(dqns), dqns.index, strict=True))
    found = {index for weights in _weights(own) for index in own_dqns(weights, known)}
    dqn = dqns[dqns.index.isin(found)]
    return dqn if dqn.family.nunique() == 1 else dqn.iloc[:0]


def _weights(runs: pd.DataFrame) -> list[TrainedAgent]:
    columns = zip(runs.game, runs.family, runs.train_seed, runs.train_steps, strict=True)
    return [
        TrainedAgent(game, family.agent, family.network, family.recipe, family.untrained, seed, steps)
        for game, family, seed, steps in columns
    ]
