#!/bin/sh
# hosts.sh N COMMAND...: runs COMMAND on N ranks, each on a host of its own, all on this machine: a host is a network
# namespace with an address, a name and a cable to a common switch. At the end prints what each host put on its cable:
# "host 2 sent 12345 bytes". Needs root and iproute2. Exit code: COMMAND's.
set -eu

# mpirun starts its daemons with this script in place of ssh: hosts.sh OPTIONS... HOST COMMAND...
if [ -n "${DTRAIN_HOSTS:-}" ]; then
    while [ "${1#-}" != "$1" ]; do shift; done
    host=${1##*.}
    shift
    exec ip netns exec "$DTRAIN_HOSTS$host" unshare --uts sh -c "hostname host$host; $*"
fi

n=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
export DTRAIN_HOSTS="dtrain$$."
switch=${DTRAIN_HOSTS}switch
hosts=$(seq 1 "$n")

remove() {
    for name in $hosts switch; do ip netns del "$DTRAIN_HOSTS$name" 2>/dev/null || :; done
}
trap remove EXIT
trap 'exit 1' INT TERM

ip netns add "$switch"
ip -n "$switch" link add bridge type bridge
ip -n "$switch" link set bridge up
for i in $hosts; do
    host=$DTRAIN_HOSTS$i
    ip netns add "$host"
    ip link add name eth0 netns "$host" type veth peer name "port$i" netns "$switch"
    ip -n "$host" link set lo up
    ip -n "$host" addr add "10.77.0.$i/24" dev eth0
    ip -n "$host" link set eth0 up
    ip -n "$switch" link set "port$i" master bridge
    ip -n "$switch" link set "port$i" up
done

status=0
net=10.77.0.0/24
env OMPI_MCA_plm_rsh_agent="$here/hosts.sh" OMPI_MCA_plm_rsh_no_tree_spawn=1 \
    OMPI_MCA_oob_tcp_if_include=$net OMPI_MCA_btl_tcp_if_include=$net OMPI_MCA_pml=ob1 OMPI_MCA_btl=tcp,self \
    ip netns exec "${DTRAIN_HOSTS}1" unshare --uts sh -c 'hostname host1; exec "$@"' - \
    "$here/../launch/mpirun.sh" -H "$(seq -s, -f '10.77.0.%g' 1 "$n")" "$@" || status=$?
for i in $hosts; do
    echo "host $i sent $(ip netns exec "$DTRAIN_HOSTS$i" cat /sys/class/net/eth0/statistics/tx_bytes) bytes"
done
exit $status
