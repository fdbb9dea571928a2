"""Operations of an agent on states of its own play, one row per layer. See core/operations.py for the counting."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from core.checkpoint import Checkpoint
from core.errors import Refusal
from core.operations import LayerOperations
from core.rows import OperationsRow
from play.states import batches


def operations_rows(checkpoint: Checkpoint, states: np.ndarray, eval_seed: int) -> list[OperationsRow]:
    """Count the operations of an agent's layers.

    Args:
        checkpoint: an agent with layers.
        states: [S, *observation] as the environments gave them, of the agent's own play.
        eval_seed: of the episodes that the states come from.

    Returns:
        One row for each layer, first to last: means over states.

    Raises:
        Refusal: there is no state, or the agent has no layers.
    """
    agent = checkpoint.agent
    if len(states) == 0:
        raise Refusal("number of states is 0: at least 1 is needed")
    counts: list[list[LayerOperations]] = []
    sim_steps: list[Tensor] = []
    for inputs in batches(agent, states):
        counts.append(agent.operations(inputs))
        with torch.no_grad():
            activity = agent.decide(inputs).activity
        sim_steps.append(torch.zeros(len(inputs)) if activity is None else activity.sim_steps)
    taken = torch.cat(sim_steps)
    return [
        OperationsRow(
            game=agent.game.name,
            eval_seed=eval_seed,
            num_states=len(states),
            sim_steps=int(taken.max()),
            mean_sim_steps=taken.double().mean().item(),
            layer=index,
            num_neurons=of_layer[0].num_neurons,
            binary_input=all(counted.binary_input for counted in of_layer),
            dense_macs=float(of_layer[0].dense_macs),
            effective_macs=_mean([counted.effective_macs for counted in of_layer]),
            acs=_mean([counted.acs for counted in of_layer]),
            neuron_updates=_mean([counted.neuron_updates for counted in of_layer]),
            spikes=_mean([counted.spikes for counted in of_layer]),
            **checkpoint.columns,
        )
        for index, of_layer in enumerate(zip(*counts, strict=True))
    ]


def _mean(of_batches: Sequence[Tensor]) -> float:
    return torch.cat(list(of_batches)).mean().item()
