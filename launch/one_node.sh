#!/usr/bin/env bash
# Train on all GPUs of this machine.
#
#   launch/one_node.sh STAGE OPTIONS...
#   launch/one_node.sh grpo --recipe qwen3_vl_8b --data QA --model runs/cold/hf --out runs/grpo
#
# STAGE    sft, cold-start or grpo
# OPTIONS  options of `mllm4d train STAGE` and Hydra overrides; they win over what this script sets
#
# Variables: GPUS (default: all that nvidia-smi lists), DRY_RUN=1 (print the command and start nothing).

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ $# -ge 1 ]] || usage 2 >&2
[[ "$1" != -h && "$1" != --help ]] || usage
stage=$1
shift
gpus=$(count_gpus)
# The first override is the script's: of two values for one key Hydra takes the last.
run mllm4d train "$stage" "trainer.n_gpus_per_node=$gpus" "$@"
