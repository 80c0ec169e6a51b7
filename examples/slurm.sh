#!/usr/bin/env bash
# Train on several nodes under SLURM, and go on after a time limit or a preemption:
#   sbatch examples/slurm.sh recipes/lsp-coco-pose_hrnet-lite.toml
# Submit it from the checkout; checkout, runs/ and the data must lie on a file system that all nodes share.
#SBATCH --job-name=edgekp-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1      # torchrun starts the processes of a node, one for each GPU
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@180      # to this script, 180 s before the time limit
set -euo pipefail

recipe=${1:?usage: sbatch examples/slurm.sh RECIPE.toml [--set SECTION.KEY=VALUE ...]}
processes=${SLURM_GPUS_ON_NODE:-1}
cpus=${SLURM_CPUS_PER_TASK:-1}
nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
first_node=${nodes%%$'\n'*}      # not head: it may close the pipe while scontrol still writes
port=$((20000 + SLURM_JOB_ID % 20000))
export OMP_NUM_THREADS=$((cpus / processes > 0 ? cpus / processes : 1))

# On SIGTERM all processes end after the same optimizer step, and the first one saves the state.
requeue=no
step= ending=no interrupted=no
end_step() { ending=yes interrupted=yes; if [ -n "$step" ]; then kill -TERM "$step" || true; fi; }
trap 'requeue=yes; end_step' USR1
trap end_step TERM               # preempted: SLURM puts the job back by itself, because of --requeue

# --resume goes on from the state of the run if there is one, and starts it if there is none.
srun --cpus-per-task="$cpus" .venv/bin/torchrun --nnodes="$SLURM_NNODES" --nproc-per-node="$processes" \
  --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$first_node:$port" \
  -m train --recipe "$recipe" --resume "${@:2}" &
step=$!
if [ "$ending" = yes ]; then end_step; fi    # the signal came before the step had a number

interrupted=yes
while [ "$interrupted" = yes ]; do    # a signal ends wait, not the step
  interrupted=no code=0
  wait "$step" || code=$?
done
if [ "$requeue" = yes ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
