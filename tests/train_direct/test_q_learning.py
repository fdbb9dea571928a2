"""The update, against arithmetic that fits on paper, and the schedules around it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from core import seeding
from core.games import get_game
from core.networks import halve_precision, make_agent, preset
from tests.conftest import random_batch
from train_direct.q_learning import QLearner, QLearning, bootstrap_value, td_loss
from train_direct.recipes import RECIPES, Recipe, get_recipe


def test_td_loss_on_two_rows_by_hand() -> None:
    online = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    target = torch.tensor([[5.0, 0.0], [7.0, 8.0]])
    # Row 0: target 1 + 0.5 * 5 = 3.5 against Q = 2: error -1.5. Row 1: the return ended, target -1 against 3: error 4.
    value = bootstrap_value(target)
    assert value.tolist() == [5.0, 8.0]
    arguments = (online, torch.tensor([1, 0]), torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.0]), value)
    huber, q_tm1 = td_loss(*arguments, "huber")
    assert q_tm1.tolist() == [2.0, 3.0]
    assert huber.item() == pytest.approx(((1.5 - 0.5) + (4 - 0.5)) / 2)
    assert td_loss(*arguments, "mse")[0].item() == pytest.approx((1.5**2 + 4**2) / 2)


def test_double_dqn_values_the_online_networks_choice() -> None:
    target = torch.tensor([[5.0, 0.0], [7.0, 8.0]])
    assert bootstrap_value(target, torch.tensor([[0.1, 0.2], [9.0, 1.0]])).tolist() == [0.0, 7.0]
    # Where both agree there is nothing to choose between the two.
    assert torch.equal(bootstrap_value(target, target), bootstrap_value(target))


@pytest.mark.parametrize("double", [False, True])
def test_the_update_uses_the_chosen_bootstrap(double: bool) -> None:
    from dataclasses import replace

    game = get_game("minatar/breakout")
    learner = QLearner(
        make_agent(game, preset("relu"), seeding.torch_generator(0, "weights")),
        replace(RECIPES["minatar-fast"], double=double),
    )
    other = make_agent(game, preset("relu"), seeding.torch_generator(1, "weights"))
    learner.target.load_state_dict(other.state_dict())
    batch = random_batch()
    mine, its = (net(torch.as_tensor(batch.obs_t).float()).detach() for net in (learner.online, other))
    chosen = mine.argmax(1) if double else its.argmax(1)
    target_t = torch.as_tensor(batch.reward_t) + 0.99 * its[torch.arange(8), chosen]
    q_tm1 = learner.online(torch.as_tensor(batch.obs_tm1).float())[
        torch.arange(8), torch.as_tensor(batch.action_tm1)
    ]
    expected = torch.nn.functional.smooth_l1_loss(q_tm1, target_t).item()
    assert not torch.equal(mine.argmax(1), its.argmax(1))
    assert learner.update(batch)[0].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("recipe", [recipe.name for recipe in RECIPES.values()])
@pytest.mark.parametrize("network", ["relu", "chen2022"])
def test_any_recipe_lowers_the_loss_of_any_network(recipe: str, network: str) -> None:
    game = get_game("minatar/breakout")
    learner = QLearner(
        make_agent(game, preset(network), seeding.torch_generator(0, "weights")), RECIPES[recipe]
    )
    losses = [learner.update(random_batch())[0].item() for _ in range(150)]
    assert losses[-1] < 0.995 * losses[0]


def test_target_network_is_copied_on_schedule() -> None:
    from dataclasses import replace

    recipe = replace(RECIPES["minatar-fast"], target_interval_steps=12)  # 3 updates
    learner = QLearner(make_agent(get_game("minatar/breakout"), preset("relu"), torch.Generator()), recipe)

    def target_is_online() -> bool:
        pairs = zip(learner.online.parameters(), learner.target.parameters(), strict=True)
        return all(torch.equal(mine, its) for mine, its in pairs)

    found = []
    for _ in range(6):
        learner.update(random_batch())
        found.append(target_is_online())
    assert found == [False, False, True, False, False, True]


def test_updates_a_decision_are_the_recipes(tmp_path: Path) -> None:
    from dataclasses import replace

    recipe = replace(RECIPES["minatar-fast"], warmup_steps=40, num_envs=3, replay_capacity_steps=1000)
    game = get_game("minatar/breakout")
    algorithm = QLearning(make_agent(game, preset("relu"), torch.Generator()), game, recipe, 0, tmp_path, 100)
    while algorithm.steps < 120:
        algorithm.advance()
        assert algorithm.updates == max(0, (algorithm.steps - 40) // 4)
    algorithm.close()


def test_epsilon_follows_the_papers() -> None:
    liu, chen = RECIPES["liu2022"], RECIPES["chen2022"]
    assert liu.epsilon(49_999) == 1.0
    assert liu.epsilon(50_000 + 500_000) == pytest.approx(0.55)
    assert liu.epsilon(50_000 + 1_000_000) == pytest.approx(0.1) == liu.epsilon(40_000_000)
    # Chen et al.: random until 50,000 decisions, then where the slope that began at 0 has arrived.
    assert chen.epsilon(49_999) == 1.0
    assert chen.epsilon(50_000) == pytest.approx(1 - 0.05)
    assert chen.epsilon(900_000) == pytest.approx(0.1)


def test_every_field_of_a_recipe_is_read() -> None:
    """A value that nothing reads would be a claim about a run that is not true of it."""
    import ast
    from dataclasses import fields

    read: set[str] = set()
    for name in ("q_learning", "__main__", "recipes"):
        tree = ast.parse((Path(__file__).parents[2] / "train_direct" / f"{name}.py").read_text())
        for node in ast.walk(tree):
            # recipe.FIELD anywhere, self.recipe.FIELD, and self.FIELD inside the recipe's own epsilon().
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in (
                "recipe",
                "self.recipe",
                "self._recipe",
                "RECIPES[name]",
            ):
                read.add(node.attr)
            if isinstance(node, ast.FunctionDef) and node.name == "epsilon":
                read |= {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}
    assert {field.name for field in fields(Recipe)} - read == set()


def test_recipes_are_refused_where_they_do_not_fit() -> None:
    with pytest.raises(ValueError, match="recipe 'minatar-fast' trains minatar games, pong is atari"):
        get_recipe("minatar-fast", get_game("pong"))
    with pytest.raises(ValueError, match="unknown recipe 'rainbow'"):
        get_recipe("rainbow", get_game("pong"))
    with pytest.raises(ValueError, match="no recipe trains cartpole yet"):
        get_recipe(None, get_game("cartpole"))


def test_an_update_is_the_papers_arithmetic() -> None:
    """Loss, gradient and Adam's first step, from the definitions and from nothing of the learner's."""
    game = get_game("minatar/breakout")
    agent = make_agent(game, preset("relu"), seeding.torch_generator(0, "weights"))
    learner = QLearner(agent, RECIPES["minatar-fast"])
    batch = random_batch()
    # The target network holds other weights than the online one, as it does between two copies.
    other = make_agent(game, preset("relu"), seeding.torch_generator(1, "weights"))
    learner.target.load_state_dict(other.state_dict())
    mine = make_agent(game, preset("relu"), seeding.torch_generator(0, "weights"))
    with torch.no_grad():
        best_next = other(torch.as_tensor(batch.obs_t).float()).max(1).values
    target = torch.as_tensor(batch.reward_t) + torch.as_tensor(batch.discount_t) * best_next
    chosen = mine(torch.as_tensor(batch.obs_tm1).float())[torch.arange(8), torch.as_tensor(batch.action_tm1)]
    error = (chosen - target).abs()
    loss = torch.where(error < 1, 0.5 * error**2, error - 0.5).mean()
    loss.backward()
    before = {name: parameter.detach().clone() for name, parameter in agent.named_parameters()}
    found = learner.update(batch)
    assert found[0].item() == pytest.approx(loss.item(), rel=1e-5)
    assert found[1].item() == pytest.approx(chosen.mean().item(), rel=1e-5)
    for name, parameter in mine.named_parameters():
        gradient = parameter.grad
        assert gradient is not None
        # Adam's first step is lr * g / (|g| + eps).
        expected = before[name] - 5e-4 * gradient / (gradient.abs() + 1e-8)
        clear = gradient.abs() > 1e-6
        assert clear.any()
        torch.testing.assert_close(
            dict(agent.named_parameters())[name].detach()[clear], expected[clear], rtol=0, atol=1e-6
        )


def test_exploration_while_training_is_the_recipes(tmp_path: Path) -> None:
    """Greedy once epsilon is 0, random before: seen in the actions that are made."""
    from dataclasses import replace

    game = get_game("minatar/breakout")
    recipe = replace(RECIPES["minatar-fast"], warmup_steps=400, epsilon_decay_steps=1, epsilon_end=0.0)
    agent = make_agent(game, preset("relu"), seeding.torch_generator(0, "weights"))
    algorithm = QLearning(agent, game, recipe, 0, tmp_path, 1000)
    greedy: dict[bool, list[bool]] = {True: [], False: []}
    observed = algorithm._replay.add

    def watch(step):  # type: ignore[no-untyped-def]
        warm = algorithm.steps <= recipe.warmup_steps
        greedy[warm] += (step.scores.argmax(1) == step.actions).tolist()
        observed(step)

    algorithm._replay.add = watch  # type: ignore[method-assign]
    while algorithm.steps < 800:
        algorithm.advance()
    algorithm.close()
    assert 0.05 < np.mean(greedy[True]) < 0.3  # one action in 6 is the greedy one by chance
    assert np.mean(greedy[False][recipe.num_envs :]) == 1.0


def test_training_scores_are_those_of_the_episodes(tmp_path: Path) -> None:
    """CartPole-like counting is not at hand in MinAtar; so sum the raw rewards beside the algorithm."""
    from dataclasses import replace

    game = get_game("minatar/asterix")
    recipe = replace(RECIPES["minatar-fast"], warmup_steps=100_000, total_steps=200_000)
    algorithm = QLearning(
        make_agent(game, preset("relu"), torch.Generator()), game, recipe, 0, tmp_path, 1000
    )
    running, ended = np.zeros(recipe.num_envs), []
    observed = algorithm._replay.add

    def watch(step):  # type: ignore[no-untyped-def]
        observed(step)
        for row, slot in enumerate(step.slots):
            running[slot] += step.outcome.rewards[row]
            if step.ended[row]:
                ended.append(running[slot])
                running[slot] = 0.0

    algorithm._replay.add = watch  # type: ignore[method-assign]
    while algorithm.steps < 3000:
        algorithm.advance()
    algorithm.close()
    assert len(ended) > 10
    assert algorithm.means().train_score == pytest.approx(np.mean(ended))
    assert np.isnan(algorithm.means().train_score)  # nothing ended since


@pytest.mark.parametrize("network", ["relu", "chen2022"])
def test_bfloat16_moves_no_q_value_by_as_much_as_they_differ(network: str) -> None:
    """Q-values around 8 that differ by hundredths: rounded to bfloat16 they would be all the same."""
    game = get_game("minatar/breakout")
    agent = make_agent(game, preset(network), seeding.torch_generator(0, "weights"))
    *hidden, output = agent.layers
    with torch.no_grad():
        output.bias.fill_(8.0)  # type: ignore[union-attr]
        for layer in hidden:
            layer.weight.mul_(3.0)  # as much as it takes for every layer to spike
    inputs = torch.randint(
        0, 2, (64, *game.observation_shape), generator=torch.Generator().manual_seed(0)
    ).float()
    with torch.no_grad():
        exact = agent(inputs)
        halve_precision(agent)
        rounded = agent(inputs)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().mean() < 0.5 * exact.std()
    assert len(rounded.unique()) > 40
