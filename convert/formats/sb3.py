"""Stable-Baselines3's `DQN.save`: a zip.

Its member policy.pth is a torch file of the weights of the online network (q_net) and the target network
(q_net_target). Its member data is JSON and says what the policy is. Where a value is no JSON, data has a pickle, which
is never opened, and beside it the words of `str` for each of the value's attributes, which are read.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from convert.foreign import FORMATS, Format, Layout, Told
from convert.foreign_files import ForeignFile
from core.errors import Refusal, shown
from core.games import Game
from core.layers import MOST_LAYERS
from core.reading import parse_json

_POLICIES = "stable_baselines3.dqn.policies"
_OTHER_POLICIES = {"stable_baselines3.common.policies": " (PPO or A2C)"}
_TOLD_BY_WEIGHTS = ("net_arch", "features_extractor_kwargs", "optimizer_class", "optimizer_kwargs")
"""Arguments of the policy that change nothing, or only the number of weights."""
_NUMBER = re.compile(r"[-+]?(?:inf|nan|\d+\.?\d*(?:e[-+]?\d+)?|\.\d+)", re.IGNORECASE)


class StableBaselines3(Format):
    """Files of Stable-Baselines3's DQN with its MlpPolicy or CnnPolicy."""

    def examine(self, file: ForeignFile) -> None:
        if file.data is None:
            return
        module = _entry(_saved(file), "policy_class").get("__module__")
        if module != _POLICIES:
            raise Refusal(
                f"its policy is one of {shown(module)}{_OTHER_POLICIES.get(str(module), '')}: only DQN's MlpPolicy and "
                f"CnnPolicy are read ({_POLICIES})"
            )

    def told(self, file: ForeignFile, layout: Layout, game: Game) -> Told:
        if file.data is None:  # policy.pth without the rest
            return super().told(file, layout, game)
        saved = _saved(file)
        extractor = "NatureCNN" if layout.tier == "atari" else "FlattenExtractor"
        divides = _require_known_arguments(_entry(saved, "policy_kwargs"), extractor)
        actions = _entry(saved, "action_space")
        if actions.get("start", "0") not in ("0", 0):
            raise Refusal(f"its actions begin at {shown(actions['start'])}: only those from 0 on are read")
        space = _entry(saved, "observation_space")
        if not str(space.get(":type:")).endswith("spaces.box.Box'>"):
            raise Refusal(f"its observation_space is {shown(space.get(':type:'))}: only a Box is read")
        shape = space.get("_shape", space.get("shape"))
        if str(shape) not in (str([*game.observation_shape]), str(game.observation_shape)):
            raise Refusal(
                f"its observations have shape {shown(shape)}, those of {game.name} {game.observation_shape}"
            )
        low, high = _numbers(space, "low"), _numbers(space, "high")
        assumed = {"observations": "observations as the game gives them, without VecNormalize"}
        if layout.tier != "atari":
            _require_bounds_of(game, low, high)
            return Told(None, assumed)
        bounds = (min(low), max(low), min(high), max(high))
        if divides and space.get("dtype") == "uint8" and bounds == (0, 0, 255, 255):
            return Told("unit", assumed)  # preprocess_obs divides images by 255, and only these are images
        if bounds == (0, 0, 255, 255):
            return Told("bytes", assumed)
        if bounds == (0, 0, 1, 1) and space.get("dtype") != "uint8":
            return Told("unit", assumed)
        raise Refusal(
            f"its observations are {shown(space.get('dtype'))} from {bounds[0]:g} to {bounds[3]:g}: only pixels from 0 "
            "to 255 or numbers from 0 to 1 are read"
        )


def _saved(file: ForeignFile) -> Mapping[str, Any]:
    """The content of data."""
    assert file.data is not None
    try:
        saved: Mapping[str, Any] = parse_json(file.data, not_finite=True)
    except Refusal as refusal:
        raise Refusal(f"its member data cannot be read: {refusal}")
    return saved


def _entry(saved: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    entry = saved.get(name)
    if not isinstance(entry, dict):
        raise Refusal(f"its member data does not describe {name}: it is not a file of DQN.save")
    return entry


def _require_known_arguments(arguments: Mapping[str, Any], extractor: str) -> bool:
    """Refuse arguments of the policy that make another network. Returns whether images are divided by 255."""
    accepted = {
        "activation_fn": "<class 'torch.nn.modules.activation.ReLU'>",
        "features_extractor_class": f"<class 'stable_baselines3.common.torch_layers.{extractor}'>",
    }
    divides = True
    for name, value in arguments.items():
        if name in (":type:", ":serialized:") or name in _TOLD_BY_WEIGHTS:
            continue
        if name == "normalize_images" and isinstance(value, bool):
            divides = value
        elif name not in accepted:
            raise Refusal(f"its policy_kwargs have {shown(name)} = {shown(value)}: such a policy is not read")
        elif value != accepted[name]:
            needed = accepted[name].rpartition(".")[2].removesuffix("'>")
            raise Refusal(f"its {name} is {shown(value)}: only {needed} is read")
    return divides


def _numbers(space: Mapping[str, Any], name: str) -> list[float]:
    """The numbers in a printed array. NumPy prints those at the edges of a large one only."""
    numbers = [float(number) for number in _NUMBER.findall(str(space.get(name)))]
    if not numbers:
        raise Refusal(f"its observation_space does not say {name}: it is not a file of DQN.save")
    return numbers


def _require_bounds_of(game: Game, low: list[float], high: list[float]) -> None:
    """Refuse observations with other bounds than the game's, such as scaled ones."""
    size = math.prod(game.observation_shape)
    for name, theirs, own in (("lowest", low, game.low), ("highest", high, game.high)):
        needed = own * size if len(own) == 1 else own
        same = len(theirs) == len(needed) and all(
            math.isclose(max(-1e38, min(their, 1e38)), max(-1e38, min(mine, 1e38)), rel_tol=1e-4)
            for their, mine in zip(theirs, needed, strict=True)
        )
        if not same:
            raise Refusal(
                f"its {name} observation is {shown(theirs)}, that of {game.name} {list(needed)}: scaled observations "
                "are not read"
            )


_CONVOLUTIONS = tuple(f"q_net.features_extractor.cnn.{index}" for index in (0, 2, 4))
FORMATS.register("sb3")(
    StableBaselines3(
        description="Stable-Baselines3, a zip written by DQN.save (CnnPolicy on Atari, MlpPolicy on CartPole)",
        layouts=(
            *(
                Layout(
                    (
                        *_CONVOLUTIONS,
                        "q_net.features_extractor.linear.0",
                        *(f"q_net.q_net.{2 * index}" for index in range(depth)),
                    ),
                    ignored="q_net_target.",
                    any_width=True,
                )
                for depth in range(1, MOST_LAYERS)
            ),
            *(
                Layout(
                    tuple(f"q_net.q_net.{2 * index}" for index in range(depth)),
                    tier="control",
                    ignored="q_net_target.",
                    any_width=True,
                )
                for depth in range(2, MOST_LAYERS)
            ),
        ),
    )
)
