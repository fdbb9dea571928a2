"""`adversarial run`, `states` and `verdict` through their command lines, on shipped agents."""

import json
import math
from pathlib import Path

import pytest

from adversarial import states as stored
from adversarial import timing
from adversarial.command import SEARCH_STATES
from adversarial.sources import best_sources
from analysis.attackers import flipped
from analysis.check import findings
from core import seeding
from core.agents import AGENTS as AGENTS_BY_NAME
from core.agents import Agent
from core.checkpoint import load_agent
from core.games import Game
from core.networks import NETWORKS
from core.records import read_rows
from core.rows import AttackRow, StateAttackRow
from play.states import collect
from tests.conftest import AGENTS, Command
from tests.test_refusals import is_refused

DQN, DSQN = (AGENTS / f"minatar-breakout-{kind}-s0.safetensors" for kind in ("dqn", "dsqn"))


def state_rows(folder: Path) -> list[StateAttackRow]:
    return read_rows(folder / "state_attacks.parquet", StateAttackRow)


def test_a_victim_that_carries_membranes_is_not_asked_in_whole_games(
    command: Command, tmp_path: Path
) -> None:
    """It would answer as at an episode's start. Its stored states are starts."""
    snn = tmp_path / "snn.safetensors"
    states = ("--calibration-states", 50, "--test-states", 10, "--threads", 1)
    method = ("--method", "reconstruct", "--sim-steps", 4, "--residual-alpha", 0.05)
    assert command("convert", "run", "--agent", DQN, *method, *states, "--out", snn).code == 0
    games = (
        "adversarial",
        "run",
        "--agent",
        snn,
        "--episodes",
        1,
        "--epsilon",
        0.01,
        "--threads",
        1,
        "--attack",
    )
    for asking in (("pgd",), ("fgsm", "square"), ("random-sign", "--draws", 5)):
        refused = command(*games, *asking, "--out", tmp_path / "games")
        is_refused(refused, "which carries membranes from decision to decision")
        assert not (tmp_path / "games").exists()
    assert command(*games, "fgsm", "random-sign", "--out", tmp_path / "games").code == 0
    stored_states = (
        "adversarial",
        "states",
        "--agent",
        snn,
        "--states",
        20,
        "--epsilon",
        0.01,
        "--threads",
        1,
    )
    assert command(*stored_states, "--attack", "pgd", "--out", tmp_path / "states").code == 0


def test_every_gradient_and_number_of_steps_is_an_attack_of_its_own(command: Command, tmp_path: Path) -> None:
    options = ("--attack", "fgsm", "pgd", "random-sign", "--steps", 2, 4, "--epsilon", 0.05, 0.5)
    options += ("--states", 40, "--states-of", DQN, "--transfer", DQN, "--seed", 3, "--threads", 1)
    finished = command("adversarial", "states", "--agent", DSQN, *options, "--out", tmp_path / "out")
    assert finished.code == 0
    rows = state_rows(tmp_path / "out")
    transfer = f"transfer:dqn {load_agent(DQN).id}"
    made = [(row.attack, row.gradient_source, json.loads(row.threat)["steps"], row.epsilon) for row in rows]
    assert sorted(made) == sorted(
        [
            *(("fgsm", source, 1, size) for source in ("own-surrogate", transfer) for size in (0.05, 0.5)),
            *(
                ("pgd", source, steps, size)
                for source in ("own-surrogate", transfer)
                for steps in (2, 4)
                for size in (0.05, 0.5)
            ),
            *(("random-sign", "", 0, size) for size in (0.05, 0.5)),
        ]
    )
    assert {row.states_of for row in rows} == {load_agent(DQN).id}
    for row in rows:
        assert (row.agent, row.num_states, row.seed, row.sim_steps) == ("dsqn", 40, 3, 4)
        assert 0 < row.mean_perturbation <= row.largest_perturbation <= row.epsilon + 1e-6
        assert (row.flip_share > 0) == (row.q_drop > 0)
        assert math.isnan(row.zero_gradient_share) == (row.gradient_source == "")
        assert json.loads(row.threat)["sim_steps"] == (4 if row.gradient_source == "own-surrogate" else 0)
    strongest = max(row.flip_share for row in rows if row.gradient_source == "own-surrogate")
    assert strongest > max(row.flip_share for row in rows if row.attack == "random-sign")
    again = command("adversarial", "states", "--agent", DSQN, *options, "--out", tmp_path / "out")
    assert "already done" in again.out
    judged = command("adversarial", "verdict", tmp_path)
    assert judged.code == 0
    assert "minatar/breakout" in (tmp_path / "verdict.md").read_text()


def test_the_best_gradient_is_sought_and_named(command: Command, tmp_path: Path) -> None:
    options = ("--attack", "fgsm", "--epsilon", 0.05, "--states", 30, "--best-source", "--threads", 1)
    assert command("adversarial", "states", "--agent", DSQN, *options, "--out", tmp_path / "out").code == 0
    victim = load_agent(DSQN).agent
    searched = collect(victim, SEARCH_STATES, 0, "attack search")
    best = best_sources(victim, searched, [0.05])[0.05]
    found = [
        (row.gradient_source, json.loads(row.threat)["surrogate"]) for row in state_rows(tmp_path / "out")
    ]
    assert (best.name, best.surrogate) != ("own-surrogate", "atan slope 2")
    assert found == [("own-surrogate", "atan slope 2"), (best.name, best.surrogate)]


def test_a_twin_is_among_the_gradients_that_are_sought(command: Command, tmp_path: Path) -> None:
    made = ("--agent", DQN, "--method", "qcfs", "--sim-steps", 2, "--quantised", "--distil-updates", 1)
    made += ("--calibration-states", 200, "--test-states", 20, "--threads", 1)
    snn = tmp_path / "snn" / "agent.safetensors"
    assert command("convert", "run", *made, "--out", snn).code == 0
    victim = snn.with_suffix(".quantised.safetensors")
    options = ("--attack", "fgsm", "--epsilon", 0.1, "--states", 30, "--best-source", "--threads", 1)
    attacked = command(
        "adversarial", "states", "--agent", victim, *options, "--twin", DQN, "--out", tmp_path / "out"
    )
    assert attacked.code == 0
    agent, twin = load_agent(victim).agent, load_agent(DQN).agent
    searched = collect(agent, SEARCH_STATES, 0, "attack search")
    best = best_sources(agent, searched, [0.1], twin)[0.1]
    assert best.surrogate == "relu, weights before conversion"
    found = {
        (row.gradient_source, json.loads(row.threat)["surrogate"]) for row in state_rows(tmp_path / "out")
    }
    assert found == {("straight-through", ""), (best.name, best.surrogate)}


def test_losses_draws_starts_and_share_of_decisions_are_in_the_rows(command: Command, tmp_path: Path) -> None:
    options = ("--attack", "fgsm", "pgd", "random-sign", "--steps", 2, "--restarts", 1, 3, "--draws", 1, 120)
    options += ("--loss", "margin", "value", "--frequency", 0.25, "--epsilon", 0.05, "--states", 60)
    options += ("--query-states", 20, "--threads", 1, "--out", tmp_path / "out")
    assert command("adversarial", "states", "--agent", DQN, *options).code == 0
    rows, named = state_rows(tmp_path / "out"), ("loss", "restarts", "queries")
    assert [
        (row.attack, *(json.loads(row.threat)[name] for name in named), row.num_states) for row in rows
    ] == [
        ("fgsm", "margin", 1, 0, 60),
        ("fgsm", "value", 1, 0, 60),
        ("pgd", "margin", 1, 0, 60),
        ("pgd", "margin", 3, 0, 60),
        ("pgd", "value", 1, 0, 60),
        ("pgd", "value", 3, 0, 60),
        ("random-sign", "", 0, 0, 60),
        ("random-sign", "margin", 0, 120, 20),
    ]
    for row in rows:
        assert flipped(row).mean() == pytest.approx(row.flip_share)
        assert (
            0.0 < row.attacked_share < 0.6
        )  # about a quarter of other states than those that set the threshold
        assert row.flip_share <= row.attacked_share
        if row.gradient_source:
            assert row.zero_gradient_share == 0.0


def test_attacks_go_on_where_they_were_killed(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--agent", DQN, "--epsilon", 0.01, 0.1, "--states", 20, "--threads", 1, "--out")
    assert command("adversarial", "states", *options, tmp_path / "whole").code == 0
    attacked: list[str] = []
    attack = stored.attack_states

    def until_third(*arguments: object) -> StateAttackRow:
        attacked.append("")
        if len(attacked) == 3:
            raise KeyboardInterrupt
        return attack(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("adversarial.states.attack_states", until_third)
    monkeypatch.setattr("core.records.KEEP_EVERY_S", 0.0)
    assert command("adversarial", "states", *options, tmp_path / "killed").code == 130
    assert command("adversarial", "states", *options, tmp_path / "killed").code == 0
    assert len(attacked) == 5  # four attacks, one of which was begun twice
    assert str(state_rows(tmp_path / "killed")) == str(state_rows(tmp_path / "whole"))


def test_what_was_kept_of_another_threat_is_measured_anew(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another number of threads sums otherwise, and the gap above which decisions are attacked is another number."""
    options = ("--agent", DQN, "--attack", "random-sign", "uniform", "--frequency", 0.5, "--epsilon", 0.1)
    options += ("--states", 20, "--threads", 1, "--out")
    assert command("adversarial", "states", *options, tmp_path / "whole").code == 0
    attack = stored.attack_states

    def until_second(*arguments: object) -> StateAttackRow:
        elsewhere.setattr("adversarial.states.attack_states", interrupted)
        return attack(*arguments)  # type: ignore[arg-type]

    def interrupted(*arguments: object) -> StateAttackRow:
        raise KeyboardInterrupt

    monkeypatch.setattr("core.records.KEEP_EVERY_S", 0.0)
    threshold = timing.gap_threshold
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(timing, "gap_threshold", lambda *given: threshold(*given) + 1e-6)
        elsewhere.setattr("adversarial.states.attack_states", until_second)
        assert command("adversarial", "states", *options, tmp_path / "killed").code == 130
    finished = command("adversarial", "states", *options, tmp_path / "killed")
    assert (finished.code, "measured anew, because gradients or gaps differ here: 1" in finished.out) == (
        0,
        True,
    )
    assert str(state_rows(tmp_path / "killed")) == str(state_rows(tmp_path / "whole"))


def test_two_lengths_of_one_attack_are_played_apart(command: Command, tmp_path: Path) -> None:
    options = ("--agent", DQN, "--attack", "pgd", "--steps", 1, 2, "--epsilon", 0, 0.1, "--episodes", 2)
    assert command("adversarial", "run", *options, "--threads", 1, "--out", tmp_path / "out").code == 0
    rows = read_rows(tmp_path / "out" / "attacks.parquet", AttackRow)
    assert [(row.attack, json.loads(row.threat)["steps"], row.episode) for row in rows] == [
        *(("none", 0, episode) for episode in range(2)),
        *(("pgd", steps, episode) for steps in (1, 2) for episode in range(2)),
    ]


def test_the_first_game_of_each_attack_is_filmed_also_afterwards(command: Command, tmp_path: Path) -> None:
    options = (
        "--agent",
        DQN,
        "--attack",
        "random-sign",
        "--epsilon",
        0,
        0.25,
        "--episodes",
        1,
        "--threads",
        1,
    )
    assert command("adversarial", "run", *options, "--out", tmp_path / "out").code == 0
    assert not list((tmp_path / "out").glob("*.mp4"))
    theirs = tmp_path / "out" / "01-random-sign-0.25-episode-0.mp4"
    theirs.write_text("mine")
    refused = command("adversarial", "run", *options, "--record", "--out", tmp_path / "out")
    assert (refused.code, f"{theirs} exists" in refused.err) == (2, True)
    assert theirs.read_text() == "mine"
    theirs.unlink()
    filmed = command("adversarial", "run", *options, "--record", "--out", tmp_path / "out")
    assert (filmed.code, "already done" in filmed.out) == (0, True)
    videos = sorted(path.name for path in (tmp_path / "out").glob("*.mp4"))
    assert list(findings(tmp_path / "out")) == []
    theirs.write_bytes(theirs.read_bytes() + b"more")
    refused = command("adversarial", "run", *options, "--record", "--out", tmp_path / "out")
    assert (refused.code, f"{theirs} was changed after" in refused.err) == (2, True)
    assert videos == ["00-none-0-episode-0.mp4", "01-random-sign-0.25-episode-0.mp4"]
    rows = read_rows(tmp_path / "out" / "attacks.parquet", AttackRow)
    assert [row.attack for row in rows] == ["none", "random-sign"]


@pytest.mark.parametrize(
    ("verb", "options", "said"),
    [
        ("states", ("--epsilon", 0), "no epsilon above 0"),
        ("states", ("--states", 0), "states is 0"),
        ("states", ("--attack", "fgms"), "fgms"),
        ("states", ("--steps", 0), "steps is 0: accepted is an integer from 1"),
        ("states", ("--restarts", 1, 0), "restarts is 0: accepted is an integer from 1"),
        ("run", ("--twin", DQN), "without --best-source"),
        ("run", ("--frequency", 0), "frequency is 0"),
        ("run", ("--frequency", 2), "frequency is 2"),
        ("run", ("--scope", "newest-frame"), "whole-stack"),
        ("states", ("--transfer", AGENTS / "pong-dqn-s0.safetensors"), "pong"),
        ("states", ("--transfer", DQN), "the victim or its twin"),
        ("states", ("--epsilon", "1e300"), "epsilon is 1e300"),
        ("states", ("--attack", "square", "--steps", 20), "steps is 20: none of square takes it"),
        ("states", ("--attack", "mi-fgsm", "--restarts", 3), "restarts is 3: none of mi-fgsm takes it"),
        ("run", ("--attack", "fgsm", "--draws", 1, 500), "draws is 1 500: none of fgsm takes it"),
        ("run", ("--attack", "uniform", "--loss", "margin"), "loss is margin: none of uniform takes it"),
        ("states", ("--attack", "square", "--best-source"), "best_source is True: none of square takes it"),
    ],
)
def test_what_no_attack_can_be_made_of_is_refused(
    command: Command, tmp_path: Path, verb: str, options: tuple[object, ...], said: str
) -> None:
    is_refused(command("adversarial", verb, "--agent", DQN, *options, "--out", tmp_path / "out"), said)
    assert not (tmp_path / "out").exists()


def test_without_attacks_there_is_no_verdict(command: Command, tmp_path: Path) -> None:
    is_refused(command("adversarial", "verdict", tmp_path), "no attacks under", "attacks.parquet")


def test_an_undefended_agent_of_pong_loses_every_point_to_pgd(tmp_path: Path, command: Command) -> None:
    """A whole game on the real ALE, at one grey level; three gradients a decision are enough."""
    finished = command(
        "adversarial", "run", "--agent", AGENTS / "pong-dqn-s0.safetensors", "--attack", "pgd", "--steps", 3,
        "--epsilon", "1/255", "--episodes", 1, "--seed", 1, "--out", tmp_path / "out",
    )  # fmt: skip
    assert finished.code == 0, finished.err
    (game,) = read_rows(tmp_path / "out" / "attacks.parquet", AttackRow)
    assert game.score < -19
    assert not game.truncated


def test_a_registered_agent_is_attacked_by_its_name(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fresh(game: Game) -> Agent:
        return NETWORKS["relu"].make(game, seeding.torch_generator(0, "weights"))

    monkeypatch.setattr(AGENTS_BY_NAME, "_entries", dict(AGENTS_BY_NAME.items()))
    monkeypatch.setattr(AGENTS_BY_NAME, "_origins", dict(AGENTS_BY_NAME._origins))
    AGENTS_BY_NAME.register("fresh")(fresh)
    options = ("--epsilon", 0.1, "--states", 20, "--threads", 1, "--out", tmp_path / "out")
    is_refused(command("adversarial", "states", "--agent", "fresh", *options), "fresh", "--game")
    named = ("--agent", "fresh", "--game", "minatar/breakout")
    assert command("adversarial", "states", *named, *options).code == 0
    rows = state_rows(tmp_path / "out")
    assert [(row.attack, row.attacker) for row in rows] == [("fgsm", "white-box"), ("random-sign", "noise")]
    assert {(row.network, len(row.checkpoint_id)) for row in rows} == {("fresh", 12)}
    # Nothing can be changed of random play; the refusal comes before anything is written.
    for verb in ("states", "run"):
        named = ("--agent", "random", "--game", "minatar/breakout", "--epsilon", 0.1, "--threads", 1)
        refused = command("adversarial", verb, *named, "--out", tmp_path / "random")
        is_refused(refused, "agent is random: random play looks at nothing")
    assert not (tmp_path / "random").exists()


def test_options_are_set_for_the_attacks_that_have_them(command: Command, tmp_path: Path) -> None:
    options = ("--agent", DQN, "--attack", "mi-fgsm", "random-sign", "--epsilon", 0.1, "--states", 10)
    options += ("--threads", 1, "--out", tmp_path / "out")
    for settings, said in (
        (("momentum",), "field=value is needed"),
        (("momentum=fast",), "momentum of mi-fgsm is 'fast'"),
        (("momentum=-1",), "momentum is -1.0"),
        (("decay=1",), "none of mi-fgsm, random-sign has an option 'decay'"),
    ):
        is_refused(command("adversarial", "states", *options, "--set", *settings), said)
    assert command("adversarial", "states", *options, "--set", "momentum=0.5", "steps=3").code == 0
    told = [json.loads(row.threat) for row in state_rows(tmp_path / "out")]
    assert [(threat["momentum"], threat["steps"]) for threat in told] == [(0.5, 3), (0.0, 0)]
