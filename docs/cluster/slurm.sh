#!/bin/bash
# One run on many nodes of a Slurm cluster: task 0 of the array is the leader, which also runs
# luigid; the others are workers. In a clone on a file system that all nodes see, once `make setup`
# is done there (params.yaml: bucket and weights on s3://, see docs/how-to/many-machines.md):
#
#   export QUADRAT_STORE=s3://reef/store AWS_PROFILE=reef
#   sbatch docs/cluster/slurm.sh
#
#SBATCH --job-name=quadrat
#SBATCH --array=0-7
#SBATCH --nodes=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=12:00:00
# Five minutes before the limit a worker is told to finish what it has in hand.
#SBATCH --signal=B:USR1@300
# Machines that differ make nothing for each other: ask for one kind of node, or of card.
##SBATCH --constraint=icelake
##SBATCH --gres=gpu:a100:1

set -euo pipefail
: "${QUADRAT_STORE:?set it to s3://…, where finished shards are kept}"
export PATH="$PWD/.venv/bin:$PATH"
[[ ${SLURM_JOB_GPUS:-} ]] || export QUADRAT_WORKERS="$SLURM_CPUS_ON_NODE"

leader=${SLURM_ARRAY_JOB_ID}_0
port=$((10000 + SLURM_ARRAY_JOB_ID % 20000)) # its own: another run's luigid may be on the node
export LUIGI_CONFIG_PATH="$PWD/.quadrat/slurm-$SLURM_JOB_ID.cfg"

work_for() { # HOST: Luigi reads this on top of the clone's luigi.cfg
  mkdir -p .quadrat
  printf '[core]\nlocal_scheduler = false\nscheduler_host = %s\nscheduler_port = %s\n' \
    "$1" "$port" >"$LUIGI_CONFIG_PATH"
}

over() { # for all, however the leader ends: also for those that still wait for a node
  set +e
  scancel --quiet "${SLURM_ARRAY_JOB_ID}_[1-$SLURM_ARRAY_TASK_MAX]"
  kill "$luigid"
}

if ((SLURM_ARRAY_TASK_ID == 0)); then
  work_for "$(hostname)"
  luigid --port "$port" --state-path ".quadrat/slurm-$SLURM_JOB_ID.pickle" \
    >".quadrat/slurm-$SLURM_JOB_ID.log" 2>&1 &
  luigid=$!
  trap : USR1 # the signal is for workers; the leader goes on
  trap over EXIT
  dvc repro
else
  # The leader's node: n/a while it waits for one, nothing once it is over.
  until host=$(squeue --noheader --jobs="$leader" --format=%B) && [[ $host != n/a ]]; do
    sleep 10
  done
  [[ $host ]] || exit 0
  work_for "$host"
  # Not `make worker`, which keeps SIGUSR1 to itself; exec, so that the worker gets Slurm's.
  exec python -m stages.worker --idle 600
fi
