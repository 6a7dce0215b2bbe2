#!/bin/sh
# mpirun.sh ARGS...: mpirun with the settings that many ranks on few cores, root and containers need. The arguments go
# to mpirun untouched; what the caller has set in the environment wins. On a cluster plain mpirun does as well.
set -eu

# Names of Open MPI 4 are OMPI_MCA_*; Open MPI 5 moved what concerns the launch (mapping, binding) to PRTE_MCA_*.
# Each version ignores the names of the other.
setting() { # setting NAME VALUE
    eval "export $1=\"\${$1-$2}\""
}

# More ranks than cores: a rank that waits must give its core to one that works.
setting OMPI_MCA_mpi_yield_when_idle 1
# ... and more ranks than slots are not an error.
setting OMPI_MCA_rmaps_base_oversubscribe 1
setting PRTE_MCA_rmaps_default_mapping_policy :oversubscribe
# Ranks share cores as the system schedules them: bound ones would pile up on the first cores.
setting OMPI_MCA_hwloc_base_binding_policy none
setting PRTE_MCA_hwloc_default_binding_policy none

# mpirun refuses to run as root unless told twice (containers have only root).
if [ "$(id -u)" = 0 ]; then
    setting OMPI_ALLOW_RUN_AS_ROOT 1
    setting OMPI_ALLOW_RUN_AS_ROOT_CONFIRM 1
    setting PRTE_ALLOW_RUN_AS_ROOT 1
    setting PRTE_ALLOW_RUN_AS_ROOT_CONFIRM 1
fi

# Ranks of one host read large messages out of each other's memory with process_vm_readv. A container's seccomp filter
# may forbid that unless CAP_SYS_PTRACE (bit 19) is held, and Open MPI finds out too late ("Read -1, expected ...").
# Without it, messages are copied twice through shared memory. Open MPI 4 calls that transport vader; 5 has smsc.
status=/proc/self/status
if grep -q '^Seccomp:[[:space:]]*2' $status 2>/dev/null; then
    capabilities=$(sed -n 's/^CapEff:[[:space:]]*//p' $status)
    if [ $((0x$capabilities >> 19 & 1)) = 0 ]; then
        setting OMPI_MCA_btl_vader_single_copy_mechanism none
        setting OMPI_MCA_smsc ^cma
    fi
fi

exec mpirun "$@"
