# shellcheck shell=bash disable=SC2154,SC2034
# killed in the middle of writes and started again on the same hugepages and devices: the client reconnects, and its data are right
# short 400

drive flash 64
mapfile -t devices < <(nvme nvme0 1 "" flash:512)
appliance virtio-net-pci "${devices[@]}"
client
ready
configure < <(one_subsystem 1)
serve
connect --reconnect-delay=1
free=$(on appliance 'grep HugePages_Free /proc/meminfo')

for round in 1 2; do
	begin client "round$round" 'fio --name=verify --filename=/dev/nvme0n1 --size=8m --rw=randwrite --bs=16k --ioengine=libaio --direct=1 --iodepth=8 \
		--verify=crc32c --loops=2 --output=/dev/null'
	sleep 2
	on appliance 'kill -KILL $(cat /run/throughline.pid)'
	await 10 "it does not die" on appliance '! kill -0 $(cat /run/throughline.pid)'
	serve
	end client "round$round" 300 || fail "verified writes failed across a restart (round $round)"
done
[ "$(on appliance 'grep HugePages_Free /proc/meminfo')" = "$free" ] || fail "hugepages were lost: $(on appliance 'grep HugePages /proc/meminfo' | tr '\n' ' ')"
disconnect
stop
