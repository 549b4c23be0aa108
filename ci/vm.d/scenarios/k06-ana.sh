# shellcheck shell=bash disable=SC2154,SC2034
# a stock Linux client with two paths: verified I/O goes over to the other one and back as ANA states change, and meets no error
# long 300

drive flash 64
mapfile -t devices < <(nvme nvme0 1 "" flash:512)
appliance virtio-net-pci "${devices[@]}"
client
ready
{
	printf '[target]\nlisten = ["%s:4420", "%s:4421"]\n' "$target" "$target"
	one_subsystem 1
	printf 'ana = "inaccessible"\n'
} >"$run/stores"
configure <"$run/stores"
serve

# set_state PORT STATE: of the namespace, for hosts that came by that port.
set_state() {
	on appliance "throughline rpc nvmf_subsystem_listener_set_ana_state '{\"nqn\": \"$nqn\", \"ana_state\": \"$2\", \"anagrpid\": 1,
		\"listen_address\": {\"trtype\": \"TCP\", \"traddr\": \"$target\", \"trsvcid\": \"$1\"}}'" >>"$run/changes"
}
# knows PORT STATE: whether the client has heard that.
knows() { on client "grep -qx '$2' /sys/class/nvme/nvme$(($1 - 4420))/nvme0c$(($1 - 4420))n1/ana_state"; }

set_state 4420 optimized
connect
on client "nvme connect -t tcp -a $target -s 4421 -n $nqn"
await 20 "the client does not know how it reaches the namespace by the second path" knows 4421 inaccessible
knows 4420 optimized || fail "the client does not know how it reaches the namespace by the first path"
on client 'nvme list-subsys' >"$run/subsystems"
[ "$(grep -c 'tcp traddr=.* live' "$run/subsystems")" -eq 2 ] || fail "there are not two live paths: $(tr '\n' ' ' <"$run/subsystems")"
on client '[ -b /dev/nvme0n1 ] && [ ! -b /dev/nvme1n1 ]' || fail "the two paths are not one namespace"
on client 'nvme id-ctrl /dev/nvme1' >"$run/controller"
grep -q '^cmic *: *0xb$' "$run/controller" || fail "the controller does not say that it reports asymmetric access"
on client 'nvme ana-log /dev/nvme1' >"$run/log"
grep -q 'state[[:space:]]*:[[:space:]]*inaccessible' "$run/log" || fail "the log does not say how the namespace is reached: $(tr '\n' ' ' <"$run/log")"

begin client busy 'while [ ! -e /run/enough ]; do
	fio --name=verify --filename=/dev/nvme0n1 --size=8m --rw=randrw --bsrange=4k-16k --blockalign=4k --ioengine=libaio --direct=1 --iodepth=8 \
		--verify=crc32c --verify_backlog=64 --output=/run/fio || exit 1
done'
requests() { counter '.io | .reads + .writes'; }
flowing() { [ "$(requests)" -gt $((before + 50)) ]; }
goes_on() {
	before=$(requests)
	await 30 "I/O stands still $1" flowing
}
goes_on 'before anything is changed'

# As a role moves between nodes: nobody is served while it does. Every other time the new path is there at once, and nothing says
# beforehand that the old one goes.
from=4420 to=4421
for round in 1 2 3 4 5 6; do
	if [ $((round % 2)) -eq 1 ]; then
		set_state "$from" change
		before=$(requests)
		sleep 1
		[ "$(requests)" -eq "$before" ] || fail "the namespace was reached while its role moved"
	fi
	set_state "$from" inaccessible
	set_state "$to" optimized
	goes_on "after it went over to port $to (round $round)"
	await 20 "the client does not know of the path that was lost" knows "$from" inaccessible
	knows "$to" optimized || fail "the client does not know of the path that it uses"
	read -r from to <<<"$to $from"
done

on client 'touch /run/enough'
end client busy 60 || fail "verified I/O failed: $(on client 'tail -n 3 /run/fio')"
on client '! dmesg | grep -qiE "i/o error|resetting|reconnect|timeout"' ||
	fail "the client did not go over quietly: $(on client 'dmesg | grep -iE "i/o error|resetting|reconnect|timeout" | tail -n 3' | tr '\n' ';')"
disconnect
stop
