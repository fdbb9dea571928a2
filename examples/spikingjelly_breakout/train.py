"""Train the network of my_snn.py with a short Q-learning loop of its own, without SpikeQ. About three minutes."""

import argparse
import random
from collections import deque

import minatar
import torch
import torch.nn.functional as F
from my_snn import SIM_STEPS, WEIGHTS, network
from spikingjelly.activation_based import functional


def q_values(net, states):
    """[B, 6]: means over the simulation steps of a constant input."""
    functional.reset_net(net)
    return net(states.expand(SIM_STEPS, *states.shape)).mean(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=30_000)
    steps = parser.parse_args().steps
    torch.manual_seed(0)
    chance = random.Random(0)
    game = minatar.Environment("breakout", sticky_action_prob=0.1)
    game.seed(0)
    net, target = network(), network()
    target.load_state_dict(net.state_dict())
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-4)
    replay = deque(maxlen=20_000)

    def observed():
        return torch.from_numpy(game.state()).permute(2, 0, 1).float()

    game.reset()
    state, score, scores = observed(), 0.0, []
    for step in range(steps):
        epsilon = max(0.05, 1.0 - step / (0.3 * steps))
        if chance.random() < epsilon:
            action = chance.randrange(6)
        else:
            with torch.no_grad():
                action = int(q_values(net, state[None]).argmax())
        reward, done = game.act(action)
        score += reward
        if done:
            scores.append(score)
            score = 0.0
            game.reset()
        following = observed()
        replay.append((state, action, float(reward), float(done), following))
        state = following
        if step % 2 == 0 and len(replay) >= 500:
            states, actions, rewards, dones, nexts = zip(*chance.sample(replay, 32), strict=True)
            with torch.no_grad():
                best = q_values(target, torch.stack(nexts)).max(1).values
            wanted = torch.tensor(rewards) + 0.99 * (1 - torch.tensor(dones)) * best
            chosen = q_values(net, torch.stack(states))[range(32), actions]
            optimiser.zero_grad()
            F.smooth_l1_loss(chosen, wanted).backward()
            optimiser.step()
        if step % 1000 == 0:
            target.load_state_dict(net.state_dict())
            recent = scores[-20:] or [0.0]
            print(f"{step:,}/{steps:,} steps, mean score of the last games {sum(recent) / len(recent):.2f}")
    torch.save(net.state_dict(), WEIGHTS)
    print(WEIGHTS)


if __name__ == "__main__":
    main()
