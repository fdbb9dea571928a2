"""Representations of states in an agent's last hidden layer, embedded in the plane by t-SNE."""

import math

import numpy as np
import torch
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from core import seeding
from core.agents import Agent
from core.checkpoint import Checkpoint
from core.errors import Refusal
from core.rows import EmbeddingRow
from play.states import batches, q_values

_PERPLEXITY = 30
"""Roughly the number of neighbours of a state that count. It is the default of scikit-learn and of the authors."""


@torch.no_grad()
def require_embeddable(agent: Agent, num_states: int) -> None:
    """Refuse agents and numbers of states that `embed` cannot embed."""
    if num_states <= _PERPLEXITY:
        raise Refusal(f"number of states is {num_states}: t-SNE needs more than {_PERPLEXITY}")
    agent.representation(torch.zeros(1, *agent.game.observation_shape, device=agent.device))


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
    with torch.no_grad():
        hidden = torch.cat([agent.representation(batch) for batch in batches(agent, states)]).cpu().numpy()
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
            training=checkpoint.training,
            states_of=states_of,
            state=state,
            x=float(x),
            y=float(y),
            value=float(scores[state].max()) if has_q_values else math.nan,
            action=int(scores[state].argmax()),
        )
        for state, (x, y) in enumerate(plane)
    ]
