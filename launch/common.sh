# Functions that the launch scripts share. It is read with `source`, not run.

# Print the lines of usage at the top of the calling script and end.
usage() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
  exit "${1:-0}"
}

# Run a command, or print it where DRY_RUN=1, quoted so that it can be pasted into a shell.
run() {
  if [[ "${DRY_RUN:-0}" == 1 ]]; then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}

# Number of GPUs of this machine: GPUS where it is set, else what nvidia-smi lists.
count_gpus() {
  if [[ -n "${GPUS:-}" ]]; then
    echo "$GPUS"
  elif command -v nvidia-smi >/dev/null; then
    nvidia-smi --list-gpus | wc -l
  else
    echo "$0: nvidia-smi is not there; set GPUS to the number of GPUs of this machine." >&2
    return 1
  fi
}

# Whether something listens on a TCP port: listens HOST PORT
listens() {
  (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null
}
