"""Training runs in rows of episodes: what belongs together, and what is never averaged. Never imports torch."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import pandas as pd

from core.kinds import kind_of, label, order
from core.records import require_single

CHECKPOINT_ORDER = ("best", "", "final")
"""Aggregates take the first of these that a training run has: the papers' scores are of the best checkpoint."""
TRAINED_SHARE = 0.1
"""Of its recipe's decisions: an agent whose training run made fewer is called untrained whatever it scored."""

Key = TypeVar("Key")


class Family(NamedTuple):
    """Runs that differ by their training seed alone, so that a mean over them is one over training seeds."""

    agent: str
    network: str
    recipe: str
    sim_steps: int
    """Of a converted network, whose name does not say it; 0 elsewhere."""
    variant: str = ""
    """How it was converted; empty elsewhere."""
    untrained: bool = False
    """Whether its training run made so few decisions that no score of it is one of its recipe."""


def families(rows: pd.DataFrame, longest: Mapping[tuple[Any, ...], int] | None = None) -> pd.Series:
    """The family of every row of episodes, or of attacks.

    Args:
        longest: as `longest_steps` gives it, of rows that hold these; None: of these alone.
    """
    made = steps_of_runs(rows, longest)
    columns = [rows[name] for name in ("agent", "network", "recipe", "sim_steps", "variant")]
    found = map(_family, *columns, is_untrained(made, rows.recipe_steps))
    return pd.Series(list(found), rows.index, dtype=object)


def longest_steps(rows: pd.DataFrame) -> dict[tuple[Any, ...], int]:
    """The most decisions that a training run made, by its name and the decisions of each of its best and final weights:
    the best may be far younger than the final ones."""
    # TrainedAgent of which nobody says what they are may be another run's that was cut short.
    told = rows[rows.checkpoint != ""] if "checkpoint" in rows else rows.iloc[:0]
    most: dict[tuple[Any, ...], int] = {}
    runs = _training_run(told)
    for run, steps in zip(runs, told.train_steps, strict=True):
        most[run] = max(steps, most.get(run, steps))
    return {(*run, steps): most[run] for run, steps in zip(runs, told.train_steps, strict=True)}


def steps_of_runs(rows: pd.DataFrame, longest: Mapping[tuple[Any, ...], int] | None = None) -> pd.Series:
    """Of every row, the most decisions that its training run made; `longest` as in `families`."""
    known = longest_steps(rows) if longest is None else longest
    runs = zip(_training_run(rows), rows.train_steps, strict=True)
    return pd.Series([known.get((*run, steps), steps) for run, steps in runs], rows.index, dtype=int)


def _training_run(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    """What names the training run of every row; a conversion's is its DQN's."""
    conversions = [agent for agent in set(rows.agent) if kind_of(agent).is_conversion]
    agents = rows.agent.where(~rows.agent.isin(conversions), "dqn")
    return list(zip(rows.game, agents, rows.network, rows.recipe, rows.train_seed, strict=True))


def training_families(rows: pd.DataFrame) -> pd.Series:
    """The family of every row that a training run wrote (validation, curve): its agent grows up along the rows."""
    found = map(Family, rows.agent, rows.network, rows.recipe, [0] * len(rows))
    return pd.Series(list(found), rows.index, dtype=object)


def _family(agent: str, network: str, recipe: str, sim_steps: int, variant: str, untrained: bool) -> Family:
    told_steps = sim_steps if kind_of(agent).is_conversion else 0
    return Family(agent, network, recipe, told_steps, variant, bool(untrained))


def is_untrained(train_steps: Any, recipe_steps: Any) -> Any:
    """Whether an agent made less than TRAINED_SHARE of its recipe's decisions; elementwise."""
    return (train_steps >= 0) & (train_steps < TRAINED_SHARE * recipe_steps)


def in_order(found: Iterable[Family]) -> list[Family]:
    """Each family once, in the order of all tables and figures."""
    return sorted(set(found), key=lambda each: (order(each.agent), *each[1:]))


def names(found: Iterable[Family]) -> dict[Family, str]:
    """A short name for each family: the agent's, with what tells it from the other networks of that agent."""
    own = in_order(found)
    return {family: _name(family, [each for each in own if each.agent == family.agent]) for family in own}


def _name(family: Family, siblings: list[Family]) -> str:
    agent = f"Double {label(family.agent)}" if is_double(family) else label(family.agent)
    told = [dict.fromkeys(_parts(each)) for each in siblings]
    own = [part for part in _parts(family) if not all(part in parts for parts in told)]
    # The family that only lacks what another has is the plain one, and named by its network.
    if not own and any(_parts(each) != _parts(family) for each in siblings):
        own = [family.network.split("+")[0]]
    # The method says that it was converted.
    agent = agent.removeprefix("converted ") if family.variant else agent
    return f"{agent} ({', '.join(own)})" if own else agent


def _parts(family: Family) -> list[str]:
    """What its names say, in words."""
    parts = [part.removeprefix("readout=") for part in family.network.split("+")]
    parts += [part for part in family.recipe.split("+") if not part.startswith("double=")]
    parts = [
        f"{part.removeprefix('sim_steps=')} sim steps" if "sim_steps=" in part else part for part in parts
    ]
    steps = f"{family.sim_steps} sim steps" if family.sim_steps else ""
    untrained = "untrained" if family.untrained else ""
    return [*parts, *(part for part in (family.variant, steps, untrained) if part)]


def is_double(family: Family) -> bool:
    """Whether it learnt by Double Q-learning (the recipe's name in rows tells what was changed)."""
    return _is_double(family.recipe)


def _is_double(recipe: str) -> bool:
    return "double=True" in recipe.split("+")


def single_q(family: Family) -> Family:
    """The same family without Double Q-learning."""
    parts = [part for part in family.recipe.split("+") if part != "double=True"]
    return family._replace(recipe="+".join(parts))


def require_comparable(episodes: pd.DataFrame) -> None:
    """Refuse rows of which some were not scored as the others of their game were.

    Raises:
        Refusal: one game's rows come from several protocols, evaluation seeds or settings.
    """
    for game, here in episodes.groupby("game"):
        require_single(here.protocol, f"protocol of {game}")
        require_single(here.eval_seed, f"evaluation seed of {game}")
        # Random play differs by its epsilon, which is all that makes it random.
        require_single(here[here.agent != "random"].settings, f"setting of {game}")


def training_runs(episodes: pd.DataFrame) -> pd.DataFrame:
    """Every training run's checkpoints, one a row.

    Args:
        episodes: EpisodeRows.

    Returns:
        game, family, train_seed, train_steps, checkpoint; of its episodes' scores mean, std (population, over
        episodes) and n; sim_steps.

    Raises:
        Refusal: rows do not compare (`require_comparable`), or two networks pass for one.
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
                "sim_steps": int(group.sim_steps.iloc[0]),
            }
        )
    return pd.DataFrame(runs)


def prefer_best(runs: pd.DataFrame) -> pd.DataFrame:
    """One checkpoint of each training run: the best one, or the one there is (see CHECKPOINT_ORDER)."""
    ranked = runs.assign(rank=runs.checkpoint.map(CHECKPOINT_ORDER.index)).sort_values("rank", kind="stable")
    first = ranked.drop_duplicates(["game", "family", "train_seed"])
    return first.sort_index().drop(columns="rank")


class TrainedAgent(NamedTuple):
    """What tells which DQN the weights of an agent are held against."""

    game: str
    agent: str
    recipe: str
    untrained: bool
    train_seed: int
    train_steps: int


def trained_alike(agent: Family | TrainedAgent, other: Family | TrainedAgent) -> bool:
    """Whether two agents learnt by the same recipe (whatever else was changed in it), both with Double Q-learning or
    both without, and both or neither so briefly that they are untrained."""
    return (
        agent.recipe.split("+")[0] == other.recipe.split("+")[0]
        and _is_double(agent.recipe) == _is_double(other.recipe)
        and agent.untrained == other.untrained
    )


def is_own_dqn(dqn: TrainedAgent, agent: TrainedAgent) -> bool:
    """Whether an agent may be held against a DQN: one that was trained alike on the same game.

    A conversion carries the seed, the recipe and the decisions of the one DQN that it came from, and meets that one. A
    DSQN comes from none, and may meet any seed. Nobody can tell where imported weights belong.
    """
    if dqn == agent:
        return True
    alike = dqn.agent == "dqn" and dqn.game == agent.game and trained_alike(dqn, agent)
    if kind_of(agent.agent).is_conversion:
        origin = (agent.recipe, agent.train_seed, agent.train_steps)
        alike = alike and (dqn.recipe, dqn.train_seed, dqn.train_steps) == origin
    return alike and min(dqn.train_seed, agent.train_seed) >= 0


def own_dqns(agent: TrainedAgent, dqns: Iterable[tuple[TrainedAgent, Key]]) -> list[Key]:
    """Those of some DQNs that are the agent's own (`is_own_dqn`): of the very same recipe where there is such a one."""
    own = [(dqn, key) for dqn, key in dqns if is_own_dqn(dqn, agent)]
    same = [key for dqn, key in own if dqn.recipe == agent.recipe]
    return same or [key for _, key in own]


def own_dqn(runs: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """The runs of the DQN that some runs of one family on one game are held against (`own_dqns`), with all of their
    checkpoints that may be it; none if several networks might be it.

    Args:
        runs: as `training_runs` gives them.
        own: those of them in question.
    """
    dqns = runs[[family.agent == "dqn" for family in runs.family]]
    known = list(zip(_weights(dqns), dqns.index, strict=True))
    found = {index for weights in _weights(own) for index in own_dqns(weights, known)}
    dqn = dqns[dqns.index.isin(found)]
    return dqn if dqn.family.nunique() == 1 else dqn.iloc[:0]


def _weights(runs: pd.DataFrame) -> list[TrainedAgent]:
    columns = zip(runs.game, runs.family, runs.train_seed, runs.train_steps, strict=True)
    return [
        TrainedAgent(game, family.agent, family.recipe, family.untrained, seed, steps)
        for game, family, seed, steps in columns
    ]
