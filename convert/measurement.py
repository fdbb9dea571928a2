"""Compare a converted network with its DQN, on stored states and in games that it plays."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from sklearn.metrics import accuracy_score, cohen_kappa_score, r2_score
from torch import Tensor

from convert.bindsnet_check import bindsnet_scores
from convert.method import Converted
from convert.scaling import activations
from core.choices import ChargeReadout
from core.dqn import DQN
from core.progress import Progress
from core.rate_coded import torch_engine
from core.rate_coded.network import RateCodedNetwork, first_reaching, top_gaps
from play.episodes import Played, play
from play.protocols import Protocol
from play.rollout import Step
from play.states import batches, greedy_actions, q_values

ANYTIME_STATES = 1000
"""Number of calibration states on which the stop gap is found."""
ANYTIME_AGREEMENT = 0.99
"""Share of these states in which an early decision must equal the decision after all steps."""


class Measures(NamedTuple):
    """A spiking network's Q-values against its DQN's on the same states."""

    agreement: float
    """Share of states with the same greedy action."""
    kappa: float
    """Agreement beyond chance (Cohen 1960); NaN where both know one action only."""
    regret: float
    """Mean of Q(s, a*) - Q(s, a_snn), in the DQN's Q."""
    common_error: float
    """Root mean square over states of the error's mean over actions."""
    differential_error: float
    """Root mean square of the error minus its mean over actions. Only this part can change a choice."""


def measures(q_dqn: np.ndarray, q_snn: np.ndarray) -> Measures:
    """Compare Q-values of the DQN and of the spiking network, [S, A] each."""
    wanted, chosen = q_dqn.argmax(1), q_snn.argmax(1)
    regret = q_dqn.max(1) - np.take_along_axis(q_dqn, chosen[:, None], 1)[:, 0]
    error = q_snn - q_dqn
    common = error.mean(1, keepdims=True)
    one_action = len(set(wanted) | set(chosen)) == 1
    return Measures(
        agreement=float((wanted == chosen).mean()),
        kappa=float("nan") if one_action else float(cohen_kappa_score(wanted, chosen)),
        regret=float(regret.mean()),
        common_error=float(np.sqrt(np.square(common).mean())),
        differential_error=float(np.sqrt(np.square(error - common).mean())),
    )


def agreements(dqn: DQN, snn: RateCodedNetwork, states: np.ndarray) -> dict[tuple[ChargeReadout, int], float]:
    """Share of states in which the spiking network prefers the DQN's action.

    One simulation serves all numbers of simulation steps.

    Returns:
        Shares by read-out and number of simulation steps: powers of two, and the network's own number. For neurons that
        fire afterwards, the network's own number alone; and for decisions that may stop early, its own read-out alone.
    """
    reference, coding = greedy_actions(dqn, states), snn.coding
    if coding.stop_gap is not None:
        readout: ChargeReadout = "spikes" if coding.readout == "spikes" else "robust"
        chosen = decide_all(snn, states).q.argmax(1)
        return {(readout, coding.sim_steps): float(accuracy_score(reference, chosen))}
    record_at = sorted(
        {2**power for power in range(snn.coding.sim_steps.bit_length())} | {snn.coding.sim_steps}
    )
    if snn.coding.neuron.firing == "afterwards":  # there is no output before the end
        record_at = [snn.coding.sim_steps]
    # The read-out `current` gives the Q-values of `robust`.
    preferred: dict[ChargeReadout, list[np.ndarray]] = {"robust": [], "spikes": []}
    with Progress(f"agreement at {snn.coding.sim_steps} sim steps", len(states), "states") as progress:
        for batch in batches(snn, states):
            scores = snn.scores_over_time(batch, record_at)
            for readout, kept in preferred.items():
                kept.append(scores[readout].argmax(2).cpu().numpy())  # [R, B]
            progress.advance(len(batch))
    return {
        (readout, sim_steps): float(accuracy_score(reference, actions))
        for readout, kept in preferred.items()
        for sim_steps, actions in zip(record_at, np.concatenate(kept, axis=1), strict=True)
    }


def bindsnet_agreements(snn: RateCodedNetwork, states: np.ndarray) -> dict[ChargeReadout, float]:
    """Share of states in which this simulation and BindsNET's, with the same weights, prefer the same action.

    Both have BindsNET's layer delay.

    Raises:
        Refusal: BindsNET is not installed.
    """
    ours = snn.varied(layer_delay=True).to("cpu")  # BindsNET networks are built on the CPU
    (inputs,) = batches(ours, states, size=len(states))
    counts, residuals = bindsnet_scores(ours, inputs)
    mine = {
        name: scores[0].numpy()
        for name, scores in ours.scores_over_time(inputs, [ours.coding.sim_steps]).items()
    }
    theirs: dict[ChargeReadout, np.ndarray] = {
        "robust": counts + residuals,
        "spikes": counts,
    }  # current is robust
    return {
        readout: float(accuracy_score(scores.argmax(1), mine[readout].argmax(1)))
        for readout, scores in theirs.items()
    }


class OnStates(NamedTuple):
    """What a network did on given states."""

    q: np.ndarray
    """[S, A] Q-values."""
    spikes: np.ndarray
    """[S, L] spikes by layer."""
    sim_steps: np.ndarray
    """[S] simulation steps until the decision."""


@torch.no_grad()
def decide_all(snn: RateCodedNetwork, states: np.ndarray) -> OnStates:
    """One decision on each state, each as the first of an episode."""
    found = []
    for batch in batches(snn, states):
        decision = snn.decide(batch)
        assert decision.activity is not None
        parts = (decision.scores, decision.activity.spikes, decision.activity.sim_steps)
        found.append([part.cpu().numpy() for part in parts])
    return OnStates(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


@torch.no_grad()
def stop_gap(snn: RateCodedNetwork, states: np.ndarray) -> float:
    """The smallest gap between the two best Q-values at which an early decision changes at most 1 % of the choices.

    Args:
        snn: the network. It is simulated for all its steps, whatever its own `stop_gap`.
        states: [S, *observation] to search on.

    Returns:
        One of 256 quantiles of the gaps that occur. If none qualifies, the largest gap, which is hardly ever reached.
    """
    record_at = range(1, snn.coding.sim_steps + 1)
    found = [snn.scores_over_time(batch, record_at)["robust"].cpu() for batch in batches(snn, states)]
    q = torch.cat(found, 1)  # [T, S, A]
    gaps, actions = top_gaps(q), q.argmax(2)
    bounds = np.quantile(gaps.flatten().numpy(), np.linspace(0, 1, 256))
    for bound in bounds.tolist():
        early = actions.gather(0, first_reaching(gaps, bound)[None])[0]
        if (early == actions[-1]).float().mean() >= ANYTIME_AGREEMENT:
            return float(bound)
    return float(bounds[-1])


@torch.no_grad()
def layer_r2(dqn: DQN, converted: Converted, states: np.ndarray) -> list[float]:
    """r2 of the simulated rates as predictions of the DQN's activations, for each hidden layer."""
    snn = converted.snn
    coding = snn.coding
    wanted: list[list[Tensor]] = [[] for _ in converted.scales[:-1]]
    given: list[list[Tensor]] = [[] for _ in converted.scales[:-1]]
    for batch in batches(dqn, states):
        counts = torch_engine.simulate(
            snn.layers, batch, coding.sim_steps, coding.neuron, image_bits=coding.image_bits
        ).layer_counts
        for index, (z, scale) in enumerate(
            zip(dqn.preactivations(batch)[:-1], converted.scales[:-1], strict=True)
        ):
            wanted[index].append(z.relu().flatten())
            given[index].append(activations(counts[index][0], scale, coding.sim_steps).flatten())
    return [
        float(r2_score(torch.cat(a).cpu().numpy(), torch.cat(b).cpu().numpy()))
        for a, b in zip(wanted, given, strict=True)
    ]


def fan_out(snn: RateCodedNetwork) -> np.ndarray:
    """[L] additions that a spike of each layer causes in the next one, on average over neurons; 0 for the output."""
    reached = [snn.fan_out(index).double().mean().item() for index in range(1, len(snn.layers))]
    return np.array([*reached, 0.0])


def play_beside(
    dqn: DQN, snn: RateCodedNetwork, protocol: Protocol, eval_seed: int, episodes: Sequence[int]
) -> tuple[list[Played], np.ndarray, np.ndarray]:
    """Play evaluation games with the spiking network, and compute both networks' Q-values in all their states.

    Returns:
        The games, and Q-values [S, A] of the DQN and of the spiking network.
    """
    q_dqn: list[np.ndarray] = []
    q_snn: list[np.ndarray] = []

    def look(step: Step) -> None:
        q_dqn.append(q_values(dqn, step.observations))
        q_snn.append(step.scores)

    played = list(play(snn, dqn.game, protocol, eval_seed=eval_seed, episodes=episodes, on_step=look))
    return played, np.concatenate(q_dqn), np.concatenate(q_snn)
