"""Evaluation protocols: how play is scored. Scores under different protocols cannot be compared."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from core.errors import Refusal
from core.games import Game, Tier
from core.ranges import EpisodeCount, Real, Whole, require_ranges
from core.registry import Registry

MAX_ENVS = 32
"""Episodes played side by side unless a caller says otherwise. This changes speed, not episodes."""


@dataclass(frozen=True)
class Dynamics:
    """The settings that decide what an episode is."""

    sticky_action_probability: Annotated[float, Real(0, 1, below=True)]
    """Chance that the emulator repeats the previous action instead of the chosen one."""
    max_episode_frames: Annotated[int, Whole(1, 10**9)] | None
    """Emulator frames after which an episode is truncated; None for no limit, which Atari does not allow."""
    noop_max_frames: Annotated[int, Whole(0, 10_000)] = 0
    """Largest random number of no-op frames at an episode's start (Atari)."""
    fire_on_reset: bool = False
    """Whether FIRE is pressed once at an episode's start, in games that have that action (Atari)."""

    def __post_init__(self) -> None:
        require_ranges(self, "the dynamics")


@dataclass(frozen=True)
class Protocol:
    """One way of scoring play. A score is the raw reward of a whole game in all of them."""

    name: str
    """Its name in rows."""
    tier: Tier
    """The tier whose games it scores."""
    epsilon: Annotated[float, Real(0, 1)]
    """Share of uniformly random actions."""
    episodes: EpisodeCount
    """Number of episodes unless the command says otherwise."""
    dynamics: Dynamics
    """What an episode is."""
    frame_caps: tuple[tuple[str, int], ...] = ()
    """Games with another frame limit than the protocol's, and that limit."""

    def __post_init__(self) -> None:
        require_ranges(self, f"protocol {self.name}")

    def resolve(self, game: Game) -> "Protocol":
        """The protocol as it applies to one game.

        Raises:
            Refusal: the game is of another tier.
        """
        if game.tier != self.tier:
            raise Refusal(
                f"protocol {self.name!r} scores {self.tier} games, {game.name} is {game.tier}; "
                f"accepted for it: {', '.join(p.name for p in PROTOCOLS.values() if p.tier == game.tier)}"
            )
        cap = dict(self.frame_caps).get(game.name, self.dynamics.max_episode_frames)
        return replace(self, dynamics=replace(self.dynamics, max_episode_frames=cap), frame_caps=())


def _noop_starts(max_episode_frames: int) -> Dynamics:
    return Dynamics(
        sticky_action_probability=0.0,
        max_episode_frames=max_episode_frames,
        noop_max_frames=30,
        fire_on_reset=True,
    )


_ALL = (
    # Liu et al. 2022, section IV and released code: 30 episodes, epsilon 0.05, 18,000 decisions at most.
    Protocol("liu2022", "atari", 0.05, 30, _noop_starts(72_000)),
    # Chen et al. 2022, released code on gym 0.18, whose NoFrameskip-v4 ids cap at these frames.
    Protocol("chen2022", "atari", 0.05, 30, _noop_starts(400_000), frame_caps=(("space_invaders", 300_000),)),
    # Tan et al. 2021, section 4: 50 episodes, epsilon 0.05, 18,000 decisions at most.
    Protocol("tan2021", "atari", 0.05, 50, _noop_starts(72_000)),
    # Mnih et al. 2015, Methods: 30 no-op starts, epsilon 0.05; ALE's own cap of 30 minutes (theirs: 5).
    Protocol("nature", "atari", 0.05, 30, _noop_starts(108_000)),
    # Machado et al. 2018, section 5.1 (sticky actions, no no-op starts), and Dopamine's epsilon.
    Protocol("modern", "atari", 0.001, 30, Dynamics(0.25, 108_000)),
    # Young & Tian 2019: sticky actions 0.1. Greedy play and the limit are ours. Two perfect games of Freeway fit into
    # 5,000 decisions, and the limit ends games of Breakout that repeat for ever.
    Protocol("minatar", "minatar", 0.0, 30, Dynamics(0.1, 5_000)),
    # CartPole-v1 as Gymnasium registers it: 500 decisions.
    Protocol("cartpole", "control", 0.0, 100, Dynamics(0.0, 500)),
)
PROTOCOLS: Registry[Protocol] = Registry("protocol")
"""All protocols, by name."""
for _protocol in _ALL:
    PROTOCOLS.register(_protocol.name)(_protocol)
_DEFAULT: Mapping[Tier, str] = {"atari": "nature", "minatar": "minatar", "control": "cartpole"}
"""The usual protocol of each tier."""


def get_protocol(name: str | None, game: Game) -> Protocol:
    """The protocol of a name as it applies to a game; the tier's usual one if the name is None.

    Raises:
        Refusal: there is no such protocol, or it does not score the game.
    """
    name = name or _DEFAULT[game.tier]
    return PROTOCOLS.get(name).resolve(game)
