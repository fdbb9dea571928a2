"""Evaluation protocols: how play is scored. Rows of two protocols do not compare."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from core.errors import Refusal
from core.games import Game, Tier
from core.registry import Registry


@dataclass(frozen=True)
class Dynamics:
    """The settings that change what an episode is."""

    sticky_action_probability: float
    """Chance that the emulator repeats the previous action instead of the chosen one."""
    max_episode_frames: int | None
    """Emulator frames after which an episode is truncated; None never truncates one (not on Atari, whose emulator asks
    for a number)."""
    noop_max_frames: int = 0
    """Upper bound of the random number of no-op frames at an episode's start (Atari)."""
    fire_on_reset: bool = False
    """Press FIRE once at an episode's start where the game has that action (Atari)."""


@dataclass(frozen=True)
class Protocol:
    """One way of scoring play; scores are raw rewards of whole games in all of them."""

    name: str
    tier: Tier
    epsilon: float
    """Share of uniformly random actions while being scored."""
    episodes: int
    """How many are played unless the command says otherwise."""
    dynamics: Dynamics
    frame_caps: tuple[tuple[str, int], ...] = ()
    """Games whose cap is not the protocol's."""

    def resolve(self, game: Game) -> "Protocol":
        """The protocol as it applies to one game; refuses a game of another tier."""
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
    # Young & Tian 2019: sticky actions 0.1. Greedy play and the cap are ours: two perfect games of
    # Freeway fit in 5,000 decisions, and a Breakout ball that repeats itself ends.
    Protocol("minatar", "minatar", 0.0, 30, Dynamics(0.1, 5_000)),
    # CartPole-v1 as Gymnasium registers it: 500 decisions.
    Protocol("cartpole", "control", 0.0, 100, Dynamics(0.0, 500)),
)
PROTOCOLS: Registry[Protocol] = Registry("protocol")
"""All protocols, by name."""
for _protocol in _ALL:
    PROTOCOLS.register(_protocol.name)(_protocol)
_DEFAULT: Mapping[Tier, str] = {"atari": "nature", "minatar": "minatar", "control": "cartpole"}


def get_protocol(name: str | None, game: Game) -> Protocol:
    """The protocol of that name as it applies to a game; the tier's usual one if None."""
    name = name or _DEFAULT[game.tier]
    return PROTOCOLS.get(name).resolve(game)
