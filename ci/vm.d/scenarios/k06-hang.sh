# shellcheck shell=bash disable=SC2154,SC2034
# a drive that hangs for longer than the client waits: the client resets its controller, and once the drive is back all is right
# long 600

braked_drive
appliance virtio-net-pci "${devices[@]}"
client
ready
configure < <(one_subsystem 1)
serve
before=$(pools)
on client 'echo 5 >/sys/module/nvme_core/parameters/io_timeout'
connect --reconnect-delay=1
begin client verify 'fio --name=verify --filename=/dev/nvme0n1 --size=8m --rw=randwrite --bs=16k --ioengine=libaio --direct=1 --iodepth=8 --verify=crc32c \
	--loops=2 --output=/dev/null'
sleep 1
# Four seconds a command, eight commands at once.
brake 4096
await 90 "the client does not lose patience" on client 'dmesg | grep -q "starting error recovery"'
on appliance 'throughline stats' || fail "the program hangs with its drive"
brake 0
end client verify 200 || fail "verified writes failed across the drive's pause"
await 30 "the controller is not back" on client '[ "$(cat /sys/class/nvme/nvme0/state)" = live ]'
disconnect
await 60 "not everything came back: $before at first, $(pools) now" settled
stop
