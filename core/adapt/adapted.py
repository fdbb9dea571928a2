"""An agent made from a torch module that somebody else wrote."""

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from core.adapt.counting import SpikeCounter, Traced, hooked, require_own_neurons, simulates, traced
from core.adapt.library import LIBRARIES, Library, library_of
from core.agents import AGENT_CLASSES, Activity, Agent, Decision, require_sim_steps
from core.choices import Surrogate
from core.errors import Refusal, failure
from core.games import Game
from core.gradients import GradientSource, swept
from core.neurons.surrogates import SpikeDerivative, slope_of_width
from core.operations import LayerOperations

Call = Literal["once", "steps", "sequence"]
Read = Literal["mean", "sum", "last", "max"] | Callable[[Tensor], Tensor]
READS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda outputs: outputs.mean(0),
    "sum": lambda outputs: outputs.sum(0),
    "last": lambda outputs: outputs[-1],
    "max": lambda outputs: outputs.max(0).values,
}
"""How scores [B, A] are taken from the outputs [T, B, A] of all simulation steps."""


def adapt(
    module: nn.Module,
    game: Game,
    *,
    sim_steps: int | None = None,
    call: Call | None = None,
    read: Read = "mean",
    scores_are_q_values: bool = True,
) -> "AdaptedAgent":
    """An agent from a torch module built with SpikingJelly, snnTorch, Norse or plain torch.

    State is reset before every decision. Spikes are counted at the library's layers of neurons. The attack bench gets
    the module's own gradient, and a sweep of other surrogates where the library lets them be exchanged.

    Args:
        module: from observations [B, *observation], within the game's bounds, to action scores [B, A]. One of Norse
            also takes and returns its state. It is put into evaluation mode and not changed otherwise.
        game: what it plays.
        sim_steps: T, if the module does not simulate by itself.
        call: "once" calls the module once, and it simulates by itself. "steps" calls it T times with the same
            observation. "sequence" calls it once with [T, B, *observation]. If None: "once" without `sim_steps`, else
            "sequence" for layers of neurons that take all steps at once, else "steps".
        read: how scores are taken from the outputs [T, B, A], where the module is not called once: "mean", "sum",
            "last", "max", or a function.
        scores_are_q_values: whether scores are Q-values, which measures of Q-values need.

    Raises:
        Refusal: the module cannot be called so, returns another number of actions, answers the same observation
            differently, keeps state between decisions, answers a batch otherwise than its rows, or uses one layer of
            neurons at several places.
    """
    if sim_steps is not None:
        require_sim_steps(sim_steps)
    if isinstance(read, str) and read not in READS:
        raise Refusal(f"read {read!r}: accepted are {', '.join(READS)}, or a function of outputs [T, B, A]")
    if call not in (None, "once", "steps", "sequence"):
        raise Refusal(f"call {call!r}: accepted are once, steps, sequence")
    if call is not None and (sim_steps is None) != (call == "once"):
        raise Refusal(
            f"call {call!r} and sim_steps {sim_steps}: a module that is called once simulates by itself"
        )
    return AdaptedAgent(module, game, sim_steps, call, read, scores_are_q_values)


@AGENT_CLASSES.register("adapted")
class AdaptedAgent(Agent):
    """A foreign module as an agent; made by `adapt`, which says what the arguments mean."""

    kind = "adapted"

    def __init__(
        self,
        module: nn.Module,
        game: Game,
        sim_steps: int | None,
        call: Call | None,
        read: Read,
        scores_are_q_values: bool,
    ):
        super().__init__()
        self.game = game
        self.module = module.eval()
        self.scores_are_q_values = scores_are_q_values
        found = library_of(module)
        self.library_name = "torch" if found is None else found[0]
        self._library: Library | None = None if found is None else found[1]
        self._names = [
            name
            for name, each in module.named_modules()
            if self._library is not None and self._library.is_spiking(each)
        ]
        sequence = any(self._library_of(name).is_sequence(module.get_submodule(name)) for name in self._names)
        if sim_steps is not None and found is None:
            raise Refusal(
                f"sim_steps is {sim_steps}: module {type(module).__name__} has no layers of neurons of "
                f"{', '.join(LIBRARIES)}; adapt one that simulates by itself without sim_steps"
            )
        self._given_sim_steps, self._read = sim_steps, read
        self.call: Call = call or ("once" if sim_steps is None else "sequence" if sequence else "steps")
        self._require_sound()

    @property
    def sim_steps(self) -> int:
        return self._sim_steps

    def forward(self, observations: Tensor) -> Tensor:
        return self._scores(observations)

    @torch.no_grad()
    def decide(self, observations: Tensor, carry: tuple[Tensor, ...] | None = None) -> Decision:
        if not self._names:
            return Decision(self._scores(observations), None, None)
        with self._counting() as counter:
            scores = self._scores(observations)
        spikes = torch.stack([counter.spikes[name] for name in self._names], 1)
        taken = spikes.new_full((len(observations),), float(counter.sim_steps))
        return Decision(scores, None, Activity(spikes, taken))

    def operations(self, observations: Tensor) -> list[LayerOperations]:
        return self._traced(observations).operations()

    def representation(self, observations: Tensor) -> Tensor:
        return self._traced(observations).last_heard()

    @torch.no_grad()
    def _traced(self, observations: Tensor) -> Traced:
        return traced(self.module, self._library, self._names, self._scores, observations)

    def gradient_sources(self) -> Iterator[GradientSource]:
        surrogate = "the module's own" if self._names else ""
        yield GradientSource(self, "own", surrogate, same_scores=True, sim_steps=self.sim_steps)
        if self._names:
            yield from swept(self._with_surrogate, self.sim_steps, same_scores=True)

    def config(self) -> dict[str, Any]:
        read = self._read if isinstance(self._read, str) else "function"
        return {
            "library": self.library_name,
            "class": f"{type(self.module).__module__}.{type(self.module).__qualname__}",
            "call": self.call,
            "sim_steps": self._given_sim_steps,
            "read": read,
        }

    @classmethod
    def from_config(cls, game: Game, config: Mapping[str, Any]) -> Self:
        raise Refusal(
            f"an adapted {config.get('class', 'module')} cannot be made from a file, which holds no code: register a "
            "function that makes it as an agent (AGENTS.register) and name that with --agent and --extension"
        )

    # How the module is called ------------------------------------------------------------------------

    def _scores(self, observations: Tensor) -> Tensor:
        """Scores [B, A] of one decision, from a fresh state to a fresh state."""
        low, high = (observations.new_tensor(bound) for bound in (self.game.low, self.game.high))
        if not bool(((observations >= low) & (observations <= high)).all()):
            raise Refusal(f"an adapted module got inputs outside the bounds of {self.game.name}")
        self._reset()
        try:
            return self._called(observations)
        finally:
            self._reset()

    def _called(self, observations: Tensor) -> Tensor:
        if self.call == "once":
            return self._first(self.module(observations))
        assert self._given_sim_steps is not None
        if self.call == "sequence":
            outputs = self._first(
                self.module(observations.expand(self._given_sim_steps, *observations.shape))
            )
        elif self.library_name == "norse":
            state, found = None, []
            for _ in range(self._given_sim_steps):
                output, state = self.module(observations, state)
                found.append(output)
            outputs = torch.stack(found)
        else:
            outputs = torch.stack(
                [self._first(self.module(observations)) for _ in range(self._given_sim_steps)]
            )
        read = READS[self._read] if isinstance(self._read, str) else self._read
        return read(outputs)

    @staticmethod
    def _first(output: object) -> Tensor:
        """The scores in what a module returns: a tensor, or the first of a tuple."""
        found = output[0] if isinstance(output, tuple) else output
        if not isinstance(found, Tensor):
            raise Refusal(f"the module returns a {type(found).__name__}: a tensor of action scores is needed")
        return found

    def _reset(self) -> None:
        if self._library is not None:
            self._library.reset(self.module)

    def _library_of(self, name: str) -> Library:
        assert self._library is not None, name
        return self._library

    @contextmanager
    def _counting(self) -> Iterator[SpikeCounter]:
        """Count spikes while the module is called."""
        counter = SpikeCounter(self.module, self._library, self._names)
        with hooked(self.module, counter.hooks):
            yield counter

    def _with_surrogate(self, family: Surrogate, width: float) -> nn.Module | None:
        """The agent with another surrogate in all layers of neurons; None if one does not let it be exchanged."""
        derivative = SpikeDerivative(family, slope_of_width(family, width), detach_reset=True)
        other = copy.copy(self)
        other.__dict__["_modules"] = {"module": copy.deepcopy(self.module)}
        for name in self._names:
            if not self._library_of(name).exchange_surrogate(other.module.get_submodule(name), derivative):
                return None
        return other

    # What is refused ---------------------------------------------------------------------------------

    @torch.no_grad()
    def _require_sound(self) -> None:
        """Try the module on a few observations, learn what it counts, and refuse what cannot be measured."""
        generator = torch.Generator().manual_seed(0)
        shape = (3, *self.game.observation_shape)
        bounded = [
            (max(low, -3.0), min(high, 3.0)) for low, high in zip(self.game.low, self.game.high, strict=True)
        ]
        low, high = (torch.tensor(side) for side in zip(*bounded, strict=True))
        observations = low + (high - low) * torch.rand(shape, generator=generator)
        observations = observations.to(self.device)
        what = f"module {type(self.module).__name__}"
        try:
            with self._counting() as counter:
                scores = self._scores(observations)
        except Refusal:
            raise
        except Exception as error:
            raise Refusal(
                f"{what} cannot be called with observations {shape} of {self.game.name}: {failure(error)}"
            ) from error
        if tuple(scores.shape) != (len(observations), self.game.num_actions):
            raise Refusal(
                f"{what} returns {tuple(scores.shape)} for {len(observations)} observations: {self.game.name} needs "
                f"{(len(observations), self.game.num_actions)}, a score for each action"
            )
        if not bool(scores.isfinite().all()):
            raise Refusal(f"{what} returns scores that are not finite")
        if not torch.equal(self._scores(observations), scores):
            raise Refusal(
                f"{what} answers the same observations differently: a module without chance (dropout, noise), and "
                "without state that is kept between decisions, is needed"
            )
        self._scores(observations.flip(0))
        if not torch.equal(self._scores(observations), scores):
            raise Refusal(f"{what} keeps state between decisions: its library's reset does not reach it")
        alone = torch.cat([self._scores(row[None]) for row in observations])
        if not torch.allclose(alone, scores, rtol=1e-3, atol=1e-4):
            raise Refusal(f"{what} answers a batch otherwise than its rows (batch statistics, perhaps)")
        require_own_neurons(self.module, self._library, self._scores, observations[:1])
        for name, steps in counter.steps.items():
            if self._given_sim_steps not in (None, steps):
                raise Refusal(
                    f"layer of neurons {name!r} of {what} makes {steps} simulation steps in a decision of "
                    f"{self._given_sim_steps}: each place needs a layer of its own"
                )
        # Some of them may never be called.
        self._names = [name for name in self._names if name in counter.spikes]
        self._sim_steps = counter.sim_steps if self._names else 0
        self.neuron_counts = tuple(counter.neurons[name] for name in self._names)
        if not self._names and simulates(self.module, self._scores, observations[:1]):
            print(
                f"warning: {what} calls its layers several times in a decision, and has no layers of neurons of "
                f"{', '.join(LIBRARIES)}: if it spikes, its spikes are not counted",
                file=sys.stderr,
            )
