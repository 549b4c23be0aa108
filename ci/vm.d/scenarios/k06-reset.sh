# shellcheck shell=bash disable=SC2154,SC2034
# a drive that keeps a command for too long is reset, and what it had is done once more: the client sees a pause, and no error
# long 600

braked_drive
appliance virtio-net-pci "${devices[@]}"
client
ready
configure < <(one_subsystem 1 | sed '0,/^nvme = .*/s//&\ntimeout_s = 3/')
serve
before=$(pools)
connect --reconnect-delay=1
begin client verify 'fio --name=verify --filename=/dev/nvme0n1 --size=8m --rw=randwrite --bs=16k --ioengine=libaio --direct=1 --iodepth=4 --verify=crc32c \
	--loops=2 --output=/dev/null'
sleep 1
# Two seconds a command, four commands at once: the last of them is too long under way.
brake 8192
await 60 "the drive is not reset" on appliance 'grep -q "its controller is reset" /run/throughline.log'
brake 0
end client verify 200 || fail "verified writes failed across the drive's reset"
on client '! dmesg | grep -qE "I/O error|starting error recovery"' || fail "the client saw more than a pause"
well() { on appliance 'throughline stats --json' >"$run/stats.json" && jq -e '.reasons == []' "$run/stats.json"; }
await 60 "readiness does not know that the drive is well again" well
disconnect
await 60 "not everything came back: $before at first, $(pools) now" settled
stop
