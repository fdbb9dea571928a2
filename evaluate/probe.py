"""Measurements of layers, representations and single neurons, which `evaluate probe` writes as rows."""

from collections.abc import Sequence
from pathlib import Path

from core.checkpoint import Checkpoint
from core.progress import Progress
from core.records import write_rows
from core.rows import EmbeddingRow, OperationsRow, ResponseRow
from evaluate.embedding import embed, require_embeddable
from evaluate.operations import operations_rows
from evaluate.responses import neuron_responses
from play.states import collect


def probe_agents(
    checkpoints: Sequence[Checkpoint],
    num_states: int,
    seed: int,
    operations_file: Path,
    embedding_file: Path | None = None,
) -> None:
    """Write the operations of agents' layers, and how the first agent of each kind represents states.

    Args:
        checkpoints: agents of one game; the first one's play gives the states to represent.
        num_states: states of each agent's own play that are counted; and as many that are represented.
        seed: of the games and of t-SNE.
        operations_file, embedding_file: files for the rows; None if states are not to be represented.

    Raises:
        Refusal: an agent has no layers, or there are too few states for t-SNE.
    """
    operations: list[OperationsRow] = []
    embeddings: list[EmbeddingRow] = []
    first: dict[str, Checkpoint] = {}
    if embedding_file is not None:
        for checkpoint in checkpoints:
            first.setdefault(checkpoint.agent.kind, checkpoint)
        for checkpoint in first.values():
            require_embeddable(checkpoint.agent, num_states)
        shown = collect(checkpoints[0].agent, num_states, seed, "embedding")
    with Progress("probe", len(checkpoints) + len(first), "agents") as progress:
        for checkpoint in checkpoints:
            played = collect(checkpoint.agent, num_states, seed, "operations")
            operations += operations_rows(checkpoint, played, seed)
            progress.advance(1, f"operations of {checkpoint.agent.kind} {checkpoint.id}")
        for checkpoint in first.values():
            embeddings += embed(checkpoint, shown, checkpoints[0].id, seed)
            progress.advance(1, f"states as {checkpoint.agent.kind} {checkpoint.id} represents them")
    write_rows(operations_file, OperationsRow, operations)
    if embedding_file is not None:
        write_rows(embedding_file, EmbeddingRow, embeddings)


def probe_neurons(file: Path) -> None:
    """Write the responses of single neurons to a file."""
    write_rows(file, ResponseRow, neuron_responses())
