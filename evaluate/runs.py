"""Training runs in rows of episodes: what belongs together, and what is never averaged. Never imports torch."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from core.records import require_single

AGENT_ORDER = ("random", "dqn", "quantised", "rate-coded", "dsqn")
LABELS = {
    **{"random": "random play", "dqn": "DQN", "quantised": "quantised DQN"},
    **{"rate-coded": "converted SNN", "dsqn": "DSQN"},
}
CHECKPOINT_ORDER = ("best", "", "final")
"""Aggregates take the first of these that a training run has: the papers' scores are of the best checkpoint."""


TRAINED_SHARE = 0.1
"""Of its recipe's decisions: an agent that made fewer is called untrained whatever it scored."""


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
    """Whether it made so few decisions that no score of it is one of its recipe."""


def families(rows: pd.DataFrame) -> pd.Series:
    """The family of every row of episodes, or of attacks."""
    columns = [rows[name] for name in ("agent", "network", "recipe", "sim_steps", "variant")]
    found = map(_family, *columns, is_untrained(rows.train_steps, rows.recipe_steps))
    return pd.Series(list(found), rows.index, dtype=object)


def training_families(rows: pd.DataFrame) -> pd.Series:
    """The family of every row that a training run wrote (validation, curve): its agent grows up along the rows."""
    found = map(Family, rows.agent, rows.network, rows.recipe, [0] * len(rows))
    return pd.Series(list(found), rows.index, dtype=object)


def _family(agent: str, network: str, recipe: str, sim_steps: int, variant: str, untrained: bool) -> Family:
    of_a_conversion = agent == "rate-coded"
    return Family(agent, network, recipe, sim_steps if of_a_conversion else 0, variant, bool(untrained))


def is_untrained(train_steps: Any, recipe_steps: Any) -> Any:
    """Whether an agent made less than TRAINED_SHARE of its recipe's decisions; elementwise."""
    return (train_steps >= 0) & (train_steps < TRAINED_SHARE * recipe_steps)


def in_order(found: Iterable[Family]) -> list[Family]:
    """Each family once, in the order of all tables and figures."""
    return sorted(set(found), key=lambda each: (AGENT_ORDER.index(each.agent), *each[1:]))


def names(found: Iterable[Family]) -> dict[Family, str]:
    """A short name for each family: the agent's, with what tells it from the other networks of that agent."""
    own = in_order(found)
    return {family: _name(family, [each for each in own if each.agent == family.agent]) for family in own}


def _name(family: Family, siblings: list[Family]) -> str:
    agent = f"Double {LABELS[family.agent]}" if is_double(family) else LABELS[family.agent]
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
    return "double=True" in family.recipe.split("+")


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
        game, family, train_seed, checkpoint; of its episodes' scores mean, std (population, over episodes) and n;
        sim_steps.

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


def own_dqn(runs: pd.DataFrame, game: str, family: Family) -> pd.DataFrame:
    """The runs of the DQN that a family is held against: of the same recipe, and for a converted network of the same
    training seeds; none if several networks might be it.

    Args:
        runs: as `training_runs` gives them.
    """
    here = runs[runs.game == game]
    alike = ("recipe", "untrained")
    dqn = here[
        [
            each.agent == "dqn" and all(getattr(each, name) == getattr(family, name) for name in alike)
            for each in here.family
        ]
    ]
    if family.agent in ("rate-coded", "quantised"):
        dqn = dqn[dqn.train_seed.isin(here[here.family == family].train_seed)]
    return dqn if dqn.family.nunique() == 1 else dqn.iloc[:0]
