# shellcheck shell=bash disable=SC2154,SC2034
# a drive is pulled: its namespace fails, the other one goes on, and the program ends cleanly
# short 240

drive flash 64
drive other 64
mapfile -t devices < <(nvme nvme0 1 "" flash:512 && nvme nvme1 2 "" other:512)
appliance virtio-net-pci "${devices[@]}"
client
ready 0000:02:00.0
configure <<END
[[store]]
name = "flash"
nvme = { transport_id = "trtype:PCIe traddr:$DRIVE", nsid = 1 }
[[store]]
name = "other"
nvme = { transport_id = "trtype:PCIe traddr:0000:02:00.0", nsid = 1 }
[[subsystem]]
nqn = "$nqn"
namespaces = ["flash", "other"]
END
# degraded: the program serves, and says what it does not.
degraded() {
	serving || return 1
	jq -e '.state == "degraded" and (.reasons | length == 1) and (.reasons[0] | contains("store `flash` is gone"))' "$run/stats.json"
}
serve
connect
on client 'dd if=/dev/zero of=/dev/nvme0n1 bs=4096 count=16 oflag=direct'
begin client other 'fio --name=verify --filename=/dev/nvme0n2 --size=8m --rw=randwrite --bs=4k --ioengine=libaio --direct=1 --iodepth=4 --verify=crc32c \
	--output=/dev/null'
begin client flash 'fio --name=pulled --filename=/dev/nvme0n1 --size=16m --rw=randwrite --bs=4k --ioengine=libaio --direct=1 --iodepth=4 --time_based --runtime=60 \
	--output=/dev/null'
sleep 1
qmp appliance '{"execute": "device_del", "arguments": {"id": "nvme0"}}'
await 40 "the missing drive is not told" degraded
! end client flash 60 || fail "writes to a drive that is gone succeeded"
end client other 90 || fail "the other drive was disturbed"
! on client 'dd if=/dev/zero of=/dev/nvme0n1 bs=4096 count=1 oflag=direct' || fail "a write to a drive that is gone succeeded"
on client 'dd if=/dev/zero of=/dev/nvme0n2 bs=4096 count=16 oflag=direct' || fail "the other drive does not work any more"
on client '! dmesg | grep -qE "reconnect|timeout"' || fail "the connection did not survive it"
disconnect
stop
