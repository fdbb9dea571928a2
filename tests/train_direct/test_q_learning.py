"""The update, against arithmetic that fits on paper, and the schedules around it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from core import seeding
from core.choices import Precision
from core.dsqn import DSQN
from core.games import get_game
from core.layers import halve_precision
from core.networks import NETWORKS
from tests.conftest import random_batch
from train_direct.acceleration import Captured
from train_direct.common_mode import CommonMode
from train_direct.learner import QLearner, bootstrap_value, td_loss
from train_direct.q_learning import QLearning
from train_direct.recipe import RECIPES, Recipe, get_recipe
from train_direct.replay import Batch


def test_td_loss_on_two_rows_by_hand() -> None:
    online = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    target = torch.tensor([[5.0, 0.0], [7.0, 8.0]])
    # Row 0: target 1 + 0.5 * 5 = 3.5 against Q = 2: error -1.5. Row 1: the return ended, target -1 against 3: error 4.
    value = bootstrap_value(target)
    assert value.tolist() == [5.0, 8.0]
    arguments = (online, torch.tensor([1, 0]), torch.tensor([1.0, -1.0]), torch.tensor([0.5, 0.0]), value)
    huber, q_tm1, target_tm1 = td_loss(*arguments, "huber")
    assert q_tm1.tolist() == [2.0, 3.0]
    assert target_tm1.tolist() == [3.5, -1.0]
    assert huber.item() == pytest.approx(((1.5 - 0.5) + (4 - 0.5)) / 2)
    assert td_loss(*arguments, "mse")[0].item() == pytest.approx((1.5**2 + 4**2) / 2)


def test_double_dqn_values_the_online_networks_choice() -> None:
    target = torch.tensor([[5.0, 0.0], [7.0, 8.0]])
    assert bootstrap_value(target, torch.tensor([[0.1, 0.2], [9.0, 1.0]])).tolist() == [0.0, 7.0]
    # Where both agree there is nothing to choose between the two.
    assert torch.equal(bootstrap_value(target, target), bootstrap_value(target))


@pytest.mark.parametrize("double", [False, True])
def test_the_update_uses_the_chosen_bootstrap(double: bool) -> None:
    game = get_game("minatar/breakout")
    learner = QLearner(
        NETWORKS["relu"].make(game, seeding.torch_generator(0, "weights")),
        replace(RECIPES["minatar-fast"], double=double),
    )
    other = NETWORKS["relu"].make(game, seeding.torch_generator(1, "weights"))
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


@pytest.mark.parametrize("recipe", RECIPES.names())
@pytest.mark.parametrize("network", ["relu", "chen2022"])
def test_any_recipe_lowers_the_loss_of_any_network(recipe: str, network: str) -> None:
    game = get_game("minatar/breakout")
    learner = QLearner(NETWORKS[network].make(game, seeding.torch_generator(0, "weights")), RECIPES[recipe])
    losses = [learner.update(random_batch())[0].item() for _ in range(150)]
    assert losses[-1] < 0.995 * losses[0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_parameters_that_do_not_learn_stay_as_they_are(precision: Precision) -> None:
    """One that a part keeps fixed, and one that the loss does not depend on."""
    agent = NETWORKS["chen2022"].make(get_game("minatar/breakout"), seeding.torch_generator(0, "weights"))
    population = agent.populations[0]
    population.fixed = nn.Parameter(torch.tensor(3.0), requires_grad=False)
    population.unused = nn.Parameter(torch.tensor(4.0))
    before = agent.layers[0].weight.clone()
    learner = QLearner(agent, RECIPES["minatar-fast"], precision)
    learner.update(random_batch(), 2)
    assert (population.fixed.item(), population.unused.item()) == (3, 4)
    assert not torch.equal(agent.layers[0].weight, before)


def test_target_network_is_copied_on_schedule() -> None:
    recipe = replace(RECIPES["minatar-fast"], target_interval_steps=12)  # 3 updates
    learner = QLearner(NETWORKS["relu"].make(get_game("minatar/breakout"), torch.Generator()), recipe)

    def target_is_online() -> bool:
        pairs = zip(learner.online.parameters(), learner.target.parameters(), strict=True)
        return all(torch.equal(mine, its) for mine, its in pairs)

    found = []
    for _ in range(6):
        learner.update(random_batch())
        found.append(target_is_online())
    assert found == [False, False, True, False, False, True]


def learner(
    network: str = "relu",
    recipe: Recipe = RECIPES["minatar-fast"],
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> QLearner:
    """A learner of minatar/breakout; network "cmc" is a DSQN with common-mode compensation."""
    name = "chen2022" if network == "cmc" else network
    trained: Any = NETWORKS[name].make(get_game("minatar/breakout"), seeding.torch_generator(seed, "weights"))
    for layer in list(trained.layers)[:-1]:
        layer.weight.data.mul_(3.0)  # as much as it takes for every layer to spike
    if network == "cmc":
        trained = CommonMode(trained, seeding.torch_generator(seed, "common mode"))
    return QLearner(trained.to(dtype), recipe, **options)


def assert_equal_tensors(ours: QLearner, theirs: QLearner) -> None:
    for name, tensor in ours.tensors().items():
        assert torch.equal(tensor, theirs.tensors()[name]), name


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("network", ["relu", "chen2022"])
def test_updates_at_once_are_updates_one_by_one(network: str, double: bool) -> None:
    """Also where the target network is copied in between: after the third and the sixth of seven. In double precision,
    because a batch of another size adds up in another order, which float32 shows on some machines."""
    recipe = replace(RECIPES["minatar"], double=double, target_interval_steps=3, learning_rate=0.01)
    at_once, one_by_one = (learner(network, recipe, dtype=torch.float64) for _ in range(2))
    batch = random_batch(7 * 8)
    found = at_once.update(batch, 7)
    expected = sum(
        one_by_one.update(Batch(*(values[first : first + 8] for values in batch)))
        for first in range(0, 56, 8)
    )
    assert at_once.updates == one_by_one.updates == 7
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for name, tensor in at_once.tensors().items():
        torch.testing.assert_close(tensor, one_by_one.tensors()[name], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("network", ["relu", "chen2022", "cmc"])
def test_bfloat16_copies_are_the_rounded_weights_whatever_happened(network: str) -> None:
    recipe = replace(RECIPES["minatar-fast"], target_interval_steps=12)  # 3 updates

    def assert_rounded(found: QLearner) -> None:
        pairs = ((found.working, found.online), (found._working_target, found.target))
        for copy, exact in pairs:
            for rounded, weights in zip(copy.parameters(), exact.parameters(), strict=True):
                assert weights.dtype == torch.float32
                assert torch.equal(rounded, weights.to(rounded.dtype))

    trained = learner(network, recipe, precision="bf16")
    assert_rounded(trained)
    for _ in range(4):
        trained.update(random_batch())
        assert_rounded(trained)
    restored = learner(network, recipe, seed=1, precision="bf16")
    restored.restore(trained.tensors(), trained.strides, trained.updates)
    assert_rounded(restored)
    *hidden, output = trained.acting.layers
    assert {layer.weight.dtype for layer in hidden} == {torch.bfloat16}
    assert output.weight.dtype == torch.float32
    assert trained.working(torch.as_tensor(random_batch().obs_t).float()).dtype == torch.float32


def test_steps_too_small_for_bfloat16_are_not_lost() -> None:
    trained = learner(recipe=replace(RECIPES["minatar-fast"], learning_rate=1e-6), precision="bf16")
    dense, rounded = trained.online.layers[1].weight, trained.acting.layers[1].weight  # type: ignore[union-attr]
    before, rounded_before = dense.detach().clone(), rounded.detach().clone()
    for _ in range(3):
        trained.update(random_batch())
    moved, seen = (dense != before).float().mean(), (rounded != rounded_before).float().mean()
    assert (dense - before).abs().max() < 4e-6
    assert moved > 0.2  # the others are of neurons that no observation reaches
    assert seen < 0.1 * moved


@pytest.mark.parametrize("updates", [0, 5])
@pytest.mark.parametrize("recipe", ["minatar-fast", "minatar"])  # Adam and centred RMSprop
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_restored_learner_goes_on_with_the_same_bits(recipe: str, updates: int, precision: str) -> None:
    settings = replace(RECIPES[recipe], train_interval_steps=1, target_interval_steps=3)
    trained = learner(recipe=settings, precision=precision)
    for _ in range(updates):
        trained.update(random_batch())
    tensors = {name: tensor.detach().clone() for name, tensor in trained.tensors().items()}
    restored = learner(recipe=settings, seed=1, precision=precision)
    restored.update(random_batch(), 2)  # and what it did before is forgotten
    restored.restore(tensors, trained.strides, updates)
    assert_equal_tensors(restored, trained)
    for _ in range(4):
        assert torch.equal(restored.update(random_batch()), trained.update(random_batch()))
        assert_equal_tensors(restored, trained)


def test_a_state_is_restored_where_weights_lie_otherwise_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where no weights are laid out for sparse products."""
    trained = learner("chen2022")
    trained.update(random_batch(), 4)
    monkeypatch.setattr("train_direct.learner._visit_spikes_only", lambda network: None)
    restored = learner("chen2022", seed=1)
    assert restored.strides != trained.strides
    restored.restore(trained.tensors(), trained.strides, trained.updates)
    for ours, theirs in zip(restored.online.parameters(), trained.online.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for name in ("exp_avg", "exp_avg_sq"):
        back = trained._weights.relaid(restored.tensors()[f"optimizer.{name}"], restored.strides)
        assert torch.equal(back, trained.tensors()[f"optimizer.{name}"])
    assert restored.tensors()["optimizer.step"] == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("recipe", ["minatar-fast", "minatar"])  # Adam and centred RMSprop
@pytest.mark.parametrize("network", ["relu", "chen2022"])
def test_updates_as_a_graph_are_those_launched_one_by_one(network: str, recipe: str, precision: str) -> None:
    settings = replace(RECIPES[recipe], train_interval_steps=1, target_interval_steps=3)
    captured, eager = (
        QLearner(learner(network).online.to("cuda"), settings, precision)  # type: ignore[arg-type]
        for _ in range(2)
    )
    eager._captured = eager._gradient_step  # type: ignore[assignment]
    start = {name: tensor.detach().clone() for name, tensor in captured.tensors().items()}

    def assert_close_updates() -> None:
        batch = random_batch(5 * 8)
        torch.testing.assert_close(captured.update(batch, 5), eager.update(batch, 5), rtol=0.01, atol=0.01)
        for name, tensor in captured.tensors().items():
            apart, moved = (tensor - other for other in (eager.tensors()[name], start[name]))
            assert moved.abs().mean() > 0
            assert apart.abs().mean() < 0.01 * moved.abs().mean(), name

    assert_close_updates()
    assert isinstance(captured._captured, Captured)
    for trained in (captured, eager):  # where the graph's tensors lie
        trained.restore(start, trained.strides, 0)
    assert_close_updates()
    if network == "chen2022":  # another graph
        captured.set_sim_steps(2)
        eager.set_sim_steps(2)
        eager._captured = eager._gradient_step  # type: ignore[assignment]
        assert_close_updates()


@pytest.mark.parametrize(("num_envs", "interval"), [(1, 4), (3, 4), (5, 1), (7, 3), (16, 5)])
def test_updates_a_decision_are_the_recipes(num_envs: int, interval: int, tmp_path: Path) -> None:
    recipe = replace(
        RECIPES["minatar-fast"],
        warmup_steps=40,
        num_envs=num_envs,
        train_interval_steps=interval,
        replay_capacity_steps=1000,
    )
    game = get_game("minatar/breakout")
    algorithm = QLearning(NETWORKS["relu"].make(game, torch.Generator()), game, recipe, 0, tmp_path, 100)
    while algorithm.steps < 120:
        algorithm.advance()
        assert algorithm.updates == max(0, (algorithm.steps - 40) // interval)
    algorithm.close()


def pruned(folder: Path, network: str = "chen2022", precision: str = "fp32") -> QLearning:
    """288 decisions, 96 each with 4, 2 and 1 simulation steps."""
    game = get_game("minatar/breakout")
    recipe = replace(RECIPES["minatar-fast"], warmup_steps=40, total_steps=288, replay_capacity_steps=1000)
    trained: Any = learner("chen2022").online
    trained.spiking = replace(trained.spiking, sim_steps=4)
    common_mode = CommonMode(trained, seeding.torch_generator(0, "common mode")) if network == "cmc" else None
    return QLearning(trained, game, recipe, 0, folder, 1000, precision, common_mode, (4, 2, 1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("network", "precision"), [("chen2022", "fp32"), ("chen2022", "bf16"), ("cmc", "fp32")]
)
def test_pruned_simulation_steps_follow_one_another_at_equal_shares(
    network: str, precision: str, tmp_path: Path
) -> None:
    algorithm = pruned(tmp_path, network, precision)
    found: list[tuple[int, int]] = []
    observed = algorithm._replay.add

    def watch(step):  # type: ignore[no-untyped-def]
        found.append((algorithm.steps - len(step.slots), int(step.activity.sim_steps[0])))
        observed(step)

    algorithm._replay.add = watch  # type: ignore[method-assign]
    while algorithm.steps < 288:
        algorithm.advance()
        learner = algorithm._learner
        for trained in (learner.online, learner.target, learner.working, learner._working_target):
            [snn] = [module for module in trained.modules() if isinstance(module, DSQN)]
            assert snn.spiking.sim_steps == found[-1][1]
    algorithm.close()
    assert found == [(steps, (4, 2, 1)[steps // 96]) for steps in range(0, 288, 16)]
    assert algorithm.agent.config()["spiking"]["sim_steps"] == 1


@pytest.mark.parametrize("decisions", [80, 96, 112, 208, 288])
def test_a_pruned_run_goes_on_with_the_same_bits(decisions: int, tmp_path: Path) -> None:
    """From a state taken before, at and after the first switch, after the second, and at the end."""
    algorithm = pruned(tmp_path)
    while algorithm.steps < decisions:
        algorithm.advance()
    tensors, values = algorithm.state()
    tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    values, sim_steps = json.loads(json.dumps(values)), algorithm.agent.sim_steps
    while algorithm.steps < 288:
        algorithm.advance()
    restored = pruned(tmp_path)
    restored.restore(tensors, values)
    assert restored.agent.sim_steps == sim_steps  # a validation may be due before the next decision
    while restored.steps < 288:
        restored.advance()
    assert_equal_tensors(restored._learner, algorithm._learner)
    assert torch.equal(restored._sums, algorithm._sums)
    assert restored.agent.config() == algorithm.agent.config()
    for finished in (algorithm, restored):
        finished.close()


def test_epsilon_follows_the_papers() -> None:
    liu, chen = RECIPES["liu2022"], RECIPES["chen2022"]
    assert liu.epsilon(49_999) == 1.0
    assert liu.epsilon(50_000 + 500_000) == pytest.approx(0.55)
    assert liu.epsilon(50_000 + 1_000_000) == pytest.approx(0.1) == liu.epsilon(40_000_000)
    # Chen et al. with our warm-up (departure 18), then where the slope that began at 0 has arrived.
    assert chen.epsilon(49_999) == 1.0
    assert chen.epsilon(50_000) == pytest.approx(1 - 0.05)
    assert chen.epsilon(900_000) == pytest.approx(0.1)


def test_exponential_epsilon_by_hand() -> None:
    tutorial = RECIPES["tutorial"]
    assert tutorial.epsilon(127) == 1.0  # our warm-up
    # 0.05 + 0.85 / e after one time constant, / e^2 after two.
    assert tutorial.epsilon(200) == pytest.approx(0.05 + 0.85 * 0.3678794, rel=1e-6)
    assert tutorial.epsilon(400) == pytest.approx(0.05 + 0.85 * 0.1353353, rel=1e-6)
    assert tutorial.epsilon(50_000) == pytest.approx(0.05)


def test_a_clamped_gradient_by_hand() -> None:
    """One large error: the bias of the action taken has a gradient of 1 (Huber), weights behind large inputs more."""
    recipe = replace(RECIPES["tutorial"], learning_rate=1e-3)
    game = get_game("cartpole")
    batch = Batch(
        np.full((1, 4), 10.0, np.float32), np.array([0]), np.array([-1000.0], np.float32),
        np.zeros(1, np.float32), np.zeros((1, 4), np.float32),
    )  # fmt: skip
    free, clamped = (
        QLearner(NETWORKS["relu"].make(game, seeding.torch_generator(0, "weights")), each)
        for each in (replace(recipe, gradient_clamp=None), recipe)
    )
    for each in (free, clamped):
        each.update(batch)
    assert free._weights.gradient.abs().max() > 1.0
    assert torch.equal(clamped._weights.gradient, free._weights.gradient.clamp(-1.0, 1.0))


def test_every_field_of_a_recipe_is_read() -> None:
    """A value that nothing reads would be a claim about a run that is not true of it."""
    import ast
    from dataclasses import fields

    read: set[str] = set()
    for name in ("q_learning", "learner", "start", "recipe"):
        tree = ast.parse((Path(__file__).parents[2] / "train_direct" / f"{name}.py").read_text())
        for node in ast.walk(tree):
            # recipe.FIELD anywhere, self.recipe.FIELD, and self.FIELD inside the recipe's own epsilon().
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in (
                "recipe",
                "self.recipe",
                "self._recipe",
                "chosen.recipe",
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
    with pytest.raises(ValueError, match="recipe 'tutorial' trains control games, pong is atari"):
        get_recipe("tutorial", get_game("pong"))
    assert get_recipe(None, get_game("cartpole")).name == "tutorial"


def test_an_update_is_the_papers_arithmetic() -> None:
    """Loss, gradient and Adam's first step, from the definitions and from nothing of the learner's."""
    game = get_game("minatar/breakout")
    agent = NETWORKS["relu"].make(game, seeding.torch_generator(0, "weights"))
    learner = QLearner(agent, RECIPES["minatar-fast"])
    batch = random_batch()
    # The target network holds other weights than the online one, as it does between two copies.
    other = NETWORKS["relu"].make(game, seeding.torch_generator(1, "weights"))
    learner.target.load_state_dict(other.state_dict())
    mine = NETWORKS["relu"].make(game, seeding.torch_generator(0, "weights"))
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
    game = get_game("minatar/breakout")
    recipe = replace(RECIPES["minatar-fast"], warmup_steps=400, epsilon_decay_steps=1, epsilon_end=0.0)
    agent = NETWORKS["relu"].make(game, seeding.torch_generator(0, "weights"))
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
    """Sum the raw rewards beside the algorithm."""
    game = get_game("minatar/asterix")
    recipe = replace(RECIPES["minatar-fast"], warmup_steps=100_000, total_steps=200_000)
    algorithm = QLearning(NETWORKS["relu"].make(game, torch.Generator()), game, recipe, 0, tmp_path, 1000)
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
    told: list[float] = []
    while algorithm.steps < 3000:
        told += algorithm.advance()
    algorithm.close()
    assert len(ended) > 10
    assert told == ended


@pytest.mark.parametrize("network", ["relu", "chen2022"])
def test_bfloat16_moves_no_q_value_by_as_much_as_they_differ(network: str) -> None:
    """Q-values around 8 that differ by hundredths: rounded to bfloat16 they would be all the same."""
    game = get_game("minatar/breakout")
    agent = NETWORKS[network].make(game, seeding.torch_generator(0, "weights"))
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


@pytest.mark.parametrize("network", ["relu", "chen2022"])
def test_bfloat16_learns_what_float32_learns(network: str) -> None:
    """Rewards that are a function of the board, no discount: after equal updates, equal errors on other boards."""
    from dataclasses import replace

    game = get_game("minatar/breakout")
    rng = np.random.default_rng(0)

    def boards(number: int) -> Batch:
        obs = (rng.random((number, *game.observation_shape)) < 0.3).astype(np.uint8)
        actions = rng.integers(game.num_actions, size=number)
        rewards = (obs[:, :, :5].mean((1, 2, 3)) - 0.3) * 20 + actions % 2
        return Batch(obs, actions, rewards.astype(np.float32), np.zeros(number, np.float32), obs)

    training, test = [boards(128) for _ in range(50)], boards(500)
    recipe = replace(RECIPES["minatar-fast"], learning_rate=1e-3)
    errors: dict[str, float] = {}
    for precision in ("fp32", "bf16"):
        agent = NETWORKS[network].make(game, seeding.torch_generator(0, "weights"))
        learner = QLearner(agent, recipe, precision)
        for batch in training:
            learner.update(batch, 4)
        with torch.no_grad():
            q = agent(torch.as_tensor(test.obs_tm1).float())[
                torch.arange(500), torch.as_tensor(test.action_tm1)
            ]
        errors[precision] = float(((q - torch.as_tensor(test.reward_t)) ** 2).mean())
    spread = float(test.reward_t.var())
    assert errors["fp32"] < 0.5 * spread
    assert errors["bf16"] == pytest.approx(errors["fp32"], rel=0.2)
