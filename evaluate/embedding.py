"""Representations of states in an agent's last hidden layer, embedded in the plane by t-SNE."""

import math

import numpy as np
import torch
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits
from torch import Tensor

from core import seeding
from core.agents import Agent
from core.checkpoint import Checkpoint
from core.dqn import DQN
from core.dsqn import DSQN
from core.errors import Refusal
from core.quantised import QuantisedDQN
from core.rate_coded import torch_engine
from core.rate_coded.network import RateCodedNetwork
from core.rows import EmbeddingRow
from play.states import batches, q_values

_PERPLEXITY = 30
"""Roughly the number of neighbours of a state that count. It is the default of scikit-learn and of the authors."""


@torch.no_grad()
def last_hidden(agent: Agent, observations: Tensor) -> Tensor:
    """The input of an agent's output layer.

    Args:
        agent: one that has layers.
        observations: [B, *observation] float32. Each is taken for the first one of an episode.

    Returns:
        [B, F] float32: activations (DQN, quantised DQN) or firing rates (spiking networks).

    Raises:
        Refusal: the agent has no hidden layer, or its rates are unknown.
    """
    require_embeddable(agent, _PERPLEXITY + 1)
    batch = len(observations)
    if isinstance(agent, RateCodedNetwork):
        coding = agent.coding
        simulation = torch_engine.simulate(
            agent.layers,
            observations,
            coding.sim_steps,
            coding.neuron,
            layer_delay=coding.layer_delay,
            image_bits=coding.image_bits,
        )
        return simulation.layer_counts[-2][-1].reshape(batch, -1) / coding.sim_steps
    assert isinstance(agent, DQN | QuantisedDQN | DSQN)
    heard = agent.trace(observations)[-1].heard.reshape(batch, -1)
    return heard / agent.spiking.sim_steps if isinstance(agent, DSQN) else heard


def require_embeddable(agent: Agent, num_states: int) -> None:
    """Refuse agents and numbers of states that `embed` cannot embed."""
    if num_states <= _PERPLEXITY:
        raise Refusal(f"number of states is {num_states}: t-SNE needs more than {_PERPLEXITY}")
    if not isinstance(agent, DQN | QuantisedDQN | DSQN | RateCodedNetwork):
        raise Refusal(f"agent {agent.kind!r} has no hidden layer: dqn, quantised, rate-coded and dsqn have")
    if isinstance(agent, RateCodedNetwork) and agent.coding.presteps:
        raise Refusal(f"presteps is {agent.coding.presteps}: only the rates of networks with 0 are known")


def embed(checkpoint: Checkpoint, states: np.ndarray, states_of: str, seed: int) -> list[EmbeddingRow]:
    """Embed an agent's representations of states in the plane by t-SNE (van der Maaten & Hinton 2008).

    It begins with the first two principal components, so that large distances are meaningful too (Kobak & Berens 2019).
    Equal arguments give equal bits with equal numbers of threads.

    Args:
        checkpoint: the agent that represents the states.
        states: [N, *observation] uint8 as the environments gave them, more than 30.
        states_of: checkpoint id of the agent whose play the states are of.
        seed: of t-SNE.

    Returns:
        One row for each state, in their order.

    Raises:
        Refusal: the agent has no hidden layer, or there are too few states.
    """
    agent = checkpoint.agent
    require_embeddable(agent, len(states))
    hidden = torch.cat([last_hidden(agent, batch) for batch in batches(agent, states)]).cpu().numpy()
    random_state = int(seeding.generator(seed, "t-sne").integers(2**32))
    if (hidden == hidden[0]).all():  # a silent layer does not tell states apart
        plane = np.zeros((len(states), 2))
    else:
        # More threads change the order of sums, and on a busy machine they wait for each other.
        with threadpool_limits(1):
            plane = TSNE(perplexity=_PERPLEXITY, init="pca", random_state=random_state).fit_transform(hidden)
    scores = q_values(agent, states)
    has_q_values = checkpoint.provenance["scores_are_q_values"]
    return [
        EmbeddingRow(
            game=agent.game.name,
            agent=agent.kind,
            checkpoint_id=checkpoint.id,
            train_seed=checkpoint.provenance["train_seed"],
            states_of=states_of,
            state=state,
            x=float(x),
            y=float(y),
            value=float(scores[state].max()) if has_q_values else math.nan,
            action=int(scores[state].argmax()),
        )
        for state, (x, y) in enumerate(plane)
    ]
