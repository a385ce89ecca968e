#!/bin/sh
# One line from each rank. mpirun's exit code is the script's: nothing comes after it, and no pipe hides it.
if [ -n "${SCAR_HOSTFILE:-}" ]; then
    exec mpirun hello
fi
exec mpirun -n "${RANKS:-1}" hello
