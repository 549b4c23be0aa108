# shellcheck shell=bash disable=SC2154,SC2034
# blocks that the drive cannot read or write: the client is told so, and nothing else is disturbed
# short 240

drive disk 64
# Every write to 512-byte sector 8192 and every read of sector 16384 fails.
faulty='{"driver": "blkdebug", "node-name": "flash", "image": "disk", "inject-error": [
	{"event": "none", "iotype": "write", "sector": 8192, "errno": 5},
	{"event": "none", "iotype": "read", "sector": 16384, "errno": 5}]}'
mapfile -t devices < <(image disk && printf '%s\n' -blockdev "${faulty//$'\n'/}" && nvme nvme0 1 "" flash:512)
appliance virtio-net-pci "${devices[@]}"
client
ready
configure < <(one_subsystem 1)
serve
connect

# Direct commands of 8 blocks: the ones that touch the sector fail, their neighbours do not.
dd_block() { on client "dd if=$1 of=$2 bs=4096 count=1 $3 2>/dev/null"; }
for block in 1023 1025; do dd_block /dev/zero /dev/nvme0n1 "seek=$block oflag=direct" || fail "a write beside the bad block failed"; done
! dd_block /dev/zero /dev/nvme0n1 "seek=1024 oflag=direct" || fail "a write that the drive refused succeeded"
for block in 2047 2049; do dd_block /dev/nvme0n1 /dev/null "skip=$block iflag=direct" || fail "a read beside the bad block failed"; done
! dd_block /dev/nvme0n1 /dev/null "skip=2048 iflag=direct" || fail "a read that the drive refused succeeded"
on client "dmesg | grep -E 'nvme0(c0)?n1, sector 8192 ' | grep -q 'critical medium error'" || fail "the client was not told of a medium error in a write"
on client "dmesg | grep -E 'nvme0(c0)?n1, sector 16384 ' | grep -q 'critical medium error'" || fail "the client was not told of a medium error in a read"
# One large command over the bad block fails as a whole.
! on client "dd if=/dev/zero of=/dev/nvme0n1 bs=128k seek=32 count=1 oflag=direct" || fail "a large write over the bad block succeeded"
on client 'fio --name=after --filename=/dev/nvme0n1 --offset=32m --size=4m --rw=randwrite --bs=4k --ioengine=libaio --direct=1 --iodepth=16 \
	--verify=crc32c --output=/dev/null'
on client '! dmesg | grep -qE "reconnect|Reset|timeout"' || fail "the connection did not survive it"
[ "$(counter .io.errors)" -ge 3 ] || fail "the program counted $(counter .io.errors) errors"
disconnect
stop
