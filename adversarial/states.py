"""Attacks on stored states, one by one and without play: `python -m adversarial states`."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from adversarial.command import AskedAttacks, PlannedAttack, drop_unplanned
from adversarial.options import States
from adversarial.threat import Threat
from analysis.statistics import share_interval
from core.checkpoint import Checkpoint
from core.device import set_up_torch
from core.errors import Refusal
from core.manifest import Manifest
from core.progress import Progress
from core.records import Journal
from core.rows import StateAttackRow
from core.seeding import generator
from play.entrants import load
from play.environments import require_in_bounds, scale
from play.options import of_game
from play.rollout import Perturb
from play.states import batches, collect

BATCH = 64
MANY_QUERIES = 100
"""Attacks that ask so often about a state are made on fewer states."""


class AttackOnStates(States, AskedAttacks):
    """The work of the verb states."""

    def run(self) -> None:
        set_up_torch(self.threads)
        if not any(self.epsilon):
            raise Refusal("no epsilon above 0 given: at least one is needed")
        self.require_sound()
        checkpoint = self.victim(self.agent, self.game)
        game = checkpoint.agent.game
        player = checkpoint if self.states_of is None else load(self.states_of, game, checkpoint.agent.device)
        others = self.others(checkpoint, game)
        rows_file = self.out / "state_attacks.parquet"
        self.require_room([checkpoint.agent, *others.agents], min(BATCH, self.states))
        manifest = Manifest(
            self.out / "manifest.json",
            {
                **self.spec("out", "agent", "game", "states_of", "transfer", "twin", "device", "threads"),
                **of_game(self.game),
                **others.ids,
                "verb": "adversarial states",
                "agent": checkpoint.id,
                "states_of": player.id,
            },
            [rows_file],
        )
        with manifest.work() as needed:
            if not needed:
                print(f"{rows_file}: already done")
                return
            states = collect(player.agent, self.states, self.seed, "attacked")
            planned = self.planned(checkpoint.agent, others, game, self.seed)
            journal = Journal(rows_file, StateAttackRow, manifest.journal_spec)
            drop_unplanned(journal, planned)
            self._attack(checkpoint, player.id, states, planned, journal)
            order = {attack.threat.key: index for index, attack in enumerate(planned)}
            journal.write(lambda row: order[row.threat])
            manifest.finish([rows_file])
            journal.close()
        labels = {attack.threat.key: attack.threat.label for attack in planned}
        for row in journal.rows:
            share = share_interval(round(row.flip_share * row.num_states), row.num_states)
            print(
                f"{game.name} {row.agent} {labels[row.threat]}: {share.estimate:.1%} of {row.num_states} choices "
                f"changed [{share.low:.1%}, {share.high:.1%}]"
                + ("" if math.isnan(row.q_drop) else f", Q drop {row.q_drop:.3g}")
            )

    def _attack(
        self,
        checkpoint: Checkpoint,
        states_of: str,
        states: np.ndarray,
        planned: Sequence[PlannedAttack],
        journal: Journal[StateAttackRow],
    ) -> None:
        """Make the attacks that the journal lacks."""
        known = {row.threat for row in journal.rows}
        attacks = [(threat, perturb) for threat, perturb in planned if perturb is not None]
        with Progress(
            f"attack states of {checkpoint.agent.game.name} {checkpoint.agent.kind}",
            len(attacks),
            "attacks",
            done=len(known),
        ) as progress:
            for threat, perturb in attacks:
                if threat.key in known:
                    continue
                few = states[: self.query_states] if threat.queries >= MANY_QUERIES else states
                row = attack_states(checkpoint, few, states_of, threat, perturb, self.seed, len(states))
                journal.add(row)
                progress.advance(1, f"{threat.label}: {row.flip_share:.0%} flipped")


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
    """One attack on each of some states. Every state is taken as an episode's first.

    Args:
        victim: who is attacked.
        states: [S, *observation] as the environments gave them.
        states_of: checkpoint id of the agent whose play they are of.
        threat: the threat model of `perturb`.
        perturb: the attack.
        seed: of the attack's randomness, from which each state has its own.
        drawn_states: number of states that were drawn, of which these are the first.
    """
    agent = victim.agent
    flips, drops, vanished, attacked, largest, means, sim_steps = [], [], [], [], [], [], 0.0
    for first, inputs in zip(range(0, len(states), BATCH), batches(agent, states, BATCH), strict=True):
        generators = [generator(seed, f"state {first + row}") for row in range(len(inputs))]
        clean = agent.decide(inputs)
        perturbed = perturb(inputs, clean.scores, generators, torch.zeros_like(inputs))
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
        attack=threat.name,
        attacker=threat.attacker,
        epsilon=threat.epsilon,
        gradient_source=threat.gradient_source,
        threat=threat.key,
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
