#!/usr/bin/env bash
# GRPO on several machines. Run the same command on every machine, with another NODE_RANK.
#
#   NODES=2 NODE_RANK=0 HEAD_ADDRESS=10.0.0.1 launch/ray_nodes.sh --recipe qwen3_vl_8b --data QA --model HF --out runs/grpo
#   NODES=2 NODE_RANK=1 HEAD_ADDRESS=10.0.0.1 launch/ray_nodes.sh
#
# Machine 0 starts Ray, waits until all machines have joined, trains, and stops its Ray; the others stop theirs when machine 0
# is gone. A Ray that runs on a machine already is left alone. Data, models and --out must lie on a file system that
# all machines see. Options are those of `mllm4d train grpo` and Hydra overrides; they win over what this script sets.
#
# NODES         number of machines
# NODE_RANK     0 to NODES - 1; Slurm's SLURM_PROCID where it is not set
# HEAD_ADDRESS  address of machine 0 that the others reach
# GPUS          GPUs of a machine (default: all that nvidia-smi lists)
# RAY_AUTH_TOKEN  a secret, the same on all machines, that Ray asks every process for: `openssl rand -hex 32` makes one
# RAY_PORT      port of machine 0 (6379)
# RAY_OPTIONS   more options of `ray start` for this machine, separated by spaces
# WAIT_MINUTES  how long the machines wait for each other (10)
# DRY_RUN=1     print the commands and start nothing

set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ "${1:-}" != -h && "${1:-}" != --help ]] || usage
: "${NODES:?set it to the number of machines}"
: "${HEAD_ADDRESS:?set it to the address of machine 0}"
rank=${NODE_RANK:-${SLURM_PROCID:?set NODE_RANK to the number of this machine, from 0}}
port=${RAY_PORT:-6379}
if [[ "${DRY_RUN:-0}" != 1 ]]; then
  : "${RAY_AUTH_TOKEN:?set it to a secret that is the same on all machines, for instance from: openssl rand -hex 32}"
  # Ray's command line asks for a token by default, its Python library does not offer one unless told.
  export RAY_AUTH_TOKEN RAY_AUTH_MODE=token
fi
wait_s=$((${WAIT_MINUTES:-10} * 60))
gpus=$(count_gpus)
read -r -a ray_options <<<"${RAY_OPTIONS:-}"
ray_pid=

# `ray stop` would end every Ray of this user. With --block, `ray start` ends what it started when it is terminated.
stop_own_ray() {
  if [[ -n "$ray_pid" ]]; then
    kill "$ray_pid" 2>/dev/null || true
    wait "$ray_pid" 2>/dev/null || true
  fi
}
trap stop_own_ray EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start_ray() {
  local command=(ray start --block "--num-gpus=$gpus" --disable-usage-stats "$@" ${ray_options[@]+"${ray_options[@]}"})
  if [[ "${DRY_RUN:-0}" == 1 ]]; then
    run "${command[@]}"
  else
    "${command[@]}" &
    ray_pid=$!
  fi
}

# Wait until the head listens, or until this machine's Ray has ended, or the time is over.
wait_for_head() {
  local deadline=$((SECONDS + wait_s))
  until listens "$HEAD_ADDRESS" "$port"; do
    if [[ -n "$ray_pid" ]] && ! kill -0 "$ray_pid" 2>/dev/null; then
      echo "$0: Ray ended before it listened on $HEAD_ADDRESS:$port." >&2
      return 1
    fi
    if ((SECONDS >= deadline)); then
      echo "$0: nothing listens on $HEAD_ADDRESS:$port after $((wait_s / 60)) minutes." >&2
      return 1
    fi
    sleep 1
  done
}

wait_for_nodes='
import sys, time
import ray

address, nodes, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
deadline = time.monotonic() + seconds
ray.init(address=address, logging_level="ERROR", log_to_driver=False)
while (alive := sum(node["Alive"] for node in ray.nodes())) < nodes:
    if time.monotonic() > deadline:
        sys.exit(f"{alive} of {nodes} machines have joined Ray at {address} after {seconds / 60:.0f} minutes")
    time.sleep(2)
'

if ((rank == 0)); then
  start_ray --head "--node-ip-address=$HEAD_ADDRESS" "--port=$port" --include-dashboard=false
  if [[ "${DRY_RUN:-0}" != 1 ]]; then
    wait_for_head
    python -c "$wait_for_nodes" "$HEAD_ADDRESS:$port" "$NODES" "$wait_s"
  fi
  # The recipes have 8 processes for videos and prompts on one machine; they are counted over all machines together.
  export RAY_ADDRESS="$HEAD_ADDRESS:$port"
  run mllm4d train grpo "trainer.nnodes=$NODES" "trainer.n_gpus_per_node=$gpus" \
    "actor_rollout_ref.rollout.agent.num_workers=$((8 * NODES))" "$@"
else
  if [[ "${DRY_RUN:-0}" != 1 ]]; then
    wait_for_head
  fi
  start_ray "--address=$HEAD_ADDRESS:$port"
  if [[ -n "$ray_pid" ]]; then
    # Ray's own exit code does not tell the end of the run from a fault: the head is gone after the run only.
    while kill -0 "$ray_pid" 2>/dev/null && listens "$HEAD_ADDRESS" "$port"; do sleep 2; done
    if listens "$HEAD_ADDRESS" "$port"; then
      echo "$0: Ray ended on this machine while machine 0 is running." >&2
      exit 1
    fi
  fi
fi
