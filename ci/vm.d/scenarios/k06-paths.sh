# shellcheck shell=bash disable=SC2154,SC2034
# two paths to one namespace: verified I/O goes on over the other one while either is down
# long 600

target1=198.51.100.1
drive flash 64
mapfile -t devices < <(nvme nvme0 1 "" flash:512 && nic appliance lan1 e1000e)
mapfile -t more < <(nic client lan1 virtio-net-pci)
appliance virtio-net-pci "${devices[@]}"
client "${more[@]}"
ready "$NIC1"
on client 'ip link set eth1 up && ip address add 198.51.100.2/24 dev eth1'
port_more="[[port]]
device = \"$NIC1\"
addresses = [\"$target1/24\"]"
configure < <(one_subsystem 1)
serve
connect --keep-alive-tmo=5 --reconnect-delay=1
on client "nvme connect -t tcp -a $target1 -s 4420 -n $nqn --keep-alive-tmo=5 --reconnect-delay=1"
on client 'nvme list-subsys' >"$run/subsystems"
[ "$(grep -c 'tcp traddr=.* live' "$run/subsystems")" -eq 2 ] || fail "there are not two live paths: $(tr '\n' ' ' <"$run/subsystems")"
on client '[ -b /dev/nvme0n1 ] && [ ! -b /dev/nvme1n1 ]' || fail "the two paths are not one namespace"

link() { qmp appliance "{\"execute\": \"set_link\", \"arguments\": {\"name\": \"nic-$1\", \"up\": $2}}"; }
state() { on client "cat /sys/class/nvme/nvme$1/state"; }
live() { [ "$(state "$1")" = live ]; }
dead() { ! live "$1"; }
for lan in lan0 lan1; do
	path=${lan#lan}
	begin client verify 'fio --name=verify --filename=/dev/nvme0n1 --size=8m --rw=randwrite --bs=8k --ioengine=libaio --direct=1 --iodepth=8 \
		--verify=crc32c --loops=3 --output=/dev/null'
	sleep 1
	link $lan false
	await 60 "the client does not notice that $lan is down" dead "$path"
	end client verify 200 || fail "I/O failed while $lan was down"
	link $lan true
	await 60 "the path over $lan does not come back" live "$path"
done
[ "$(on client 'cat /sys/block/nvme0n1/stat' | wc -w)" -gt 4 ]
disconnect
stop
