#!/bin/bash
# sbatch examples/cluster/slurm.sh STUDY: a study on the nodes of one Slurm job, driven by Ray on the first of them.
# If the job ends before the study, submit it again: what is done is skipped. A stage that is interrupted begins again, so
# --time must be longer than the longest stage (python reproduce.py STUDY --dry-run --stages).
#SBATCH --job-name=spikeq
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --kill-on-bad-exit=0 ray symmetric-run --address "$head:6379" --min-nodes "$SLURM_JOB_NUM_NODES" -- \
    python -m spikeq reproduce "$1" --engine ray --address auto
