#!/bin/sh
# The same in Lambda, in a job of one machine and in a job of many. SCAR tells mpirun where there are nodes, and how many ranks each takes;
# where there are none, RANKS says how many to start here.
set -eu
name=$(basename "$INPUT_FILE_PATH" .txt)
if [ -n "${SCAR_HOSTFILE:-}" ]; then
    set -- mpirun
else
    set -- mpirun -n "${RANKS:-1}"
fi
"$@" poisson "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/$name.result.txt"
