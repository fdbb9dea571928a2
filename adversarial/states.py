"""Attacks on stored states: what they change in a victim's choice, state by state and without play."""

import math
from dataclasses import asdict

import numpy as np
import torch

from adversarial.threats import Threat
from core.checkpoint import Checkpoint
from core.records import StateAttackRow, to_json
from core.seeding import generator
from play.environments import require_in_bounds, scale
from play.rollout import Perturb
from play.states import batches

BATCH = 64


@torch.no_grad()
def attack_states(
    victim: Checkpoint,
    states: np.ndarray,
    states_of: str,
    threat: Threat,
    perturb: Perturb,
    seed: int,
    drawn_states: int,
) -> StateAttackRow:
    """One attack on each of some states, every one taken as an episode's first.

    Args:
        victim: who is attacked.
        states: [S, *observation] as the environments gave them.
        states_of: checkpoint id of the agent whose play they are of.
        threat: what `perturb` does.
        perturb: the attack.
        seed: of its chance, which is each state's own.
        drawn_states: how many were drawn, of which these are the first.
    """
    agent = victim.agent
    flips, drops, vanished, attacked, largest, means, sim_steps = [], [], [], [], [], [], 0.0
    for first, inputs in zip(range(0, len(states), BATCH), batches(agent, states, BATCH), strict=True):
        chances = [generator(seed, f"state {first + row}") for row in range(len(inputs))]
        clean = agent.decide(inputs)
        perturbed = perturb(inputs, clean.scores, chances, torch.zeros_like(inputs))
        require_in_bounds(perturbed.inputs, agent.game)
        taken = agent(perturbed.inputs).argmax(1)
        greedy = clean.scores.argmax(1)
        change = ((perturbed.inputs - inputs).abs() / scale(agent.game, agent.device)).flatten(1)
        flips.append(taken != greedy)
        drops.append(clean.scores.amax(1) - clean.scores.gather(1, taken[:, None]).squeeze(1))
        vanished.append(perturbed.zero_gradient[perturbed.attacked])
        attacked.append(perturbed.attacked)
        largest.append(change.amax())
        means.append(change.mean(1))
        if clean.activity is not None:
            sim_steps = max(sim_steps, float(clean.activity.sim_steps.max()))
    flipped, vanishing = torch.cat(flips).cpu().numpy(), np.concatenate(vanished)
    return StateAttackRow(
        game=agent.game.name,
        recipe_steps=victim.provenance["recipe_steps"],
        sim_steps=int(sim_steps),
        states_of=states_of,
        num_states=len(states),
        drawn_states=drawn_states,
        seed=seed,
        attack=threat.attack,
        epsilon=threat.epsilon,
        gradient_source=threat.gradient_source,
        threat=to_json(asdict(threat)),
        flip_share=float(flipped.mean()),
        q_drop=torch.cat(drops).double().mean().item()
        if victim.provenance["scores_are_q_values"]
        else math.nan,
        zero_gradient_share=float(vanishing.mean()) if len(vanishing) else math.nan,
        largest_perturbation=torch.stack(largest).max().item(),
        mean_perturbation=torch.cat(means).double().mean().item(),
        flipped=np.packbits(flipped).tobytes().hex(),
        attacked_share=float(np.concatenate(attacked).mean()),
        **victim.columns,
    )
