#!/usr/bin/env bash
# Captions a data set with a job array: one task a GPU, every task its own stripe of the shards.
#
#   DATASET=msrs FUSIONCLI_DATA=/data sbatch docs/slurm/caption.sh plan            # once: hashes the files, writes the plan
#   DATASET=msrs FUSIONCLI_DATA=/data sbatch --array=0-15 --dependency=afterok:PLAN_JOB docs/slurm/caption.sh
#   DATASET=msrs sbatch --dependency=afterany:ARRAY_JOB docs/slurm/caption.sh verify
#
# A task that is killed or preempted is simply started again (--requeue): finished shards are kept, the one in hand is redone.
# STORE must be a folder that all nodes share, or an s3:// or gs:// URL. OPTIONS goes to `fusioncli caption` as it is;
# SHARD_SIZE (128) is the unit of work: what a killed task has to do again.
#SBATCH --job-name=caption
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=%x-%A-%a.log
set -euo pipefail

DATASET=${DATASET:?name of the data set}
STORE=${STORE:-stores/$DATASET}
read -r -a program <<<"${FUSIONCLI:-fusioncli}"
read -r -a options <<<"${OPTIONS:---captioner vllm --embedder clip}"
read -r -a source <<<"${PAIRS:+--pairs $PAIRS}"
[ -n "${PAIRS:-}" ] || source=(--dataset "$DATASET")

case "${1:-run}" in
    plan) exec "${program[@]}" --quiet caption "${source[@]}" --store "$STORE" --shard-size "${SHARD_SIZE:-128}" --plan-only ;;
    run) exec "${program[@]}" --quiet caption "${source[@]}" --store "$STORE" "${options[@]}" ;; # rank and size from SLURM_ARRAY_TASK_*
    verify) exec "${program[@]}" --quiet store verify "$STORE" ;;
    *) echo "usage: $0 [plan | run | verify]" >&2; exit 2 ;;
esac
