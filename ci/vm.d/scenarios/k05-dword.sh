# shellcheck shell=bash disable=SC2154,SC2034
# a controller that wants dword-aligned lists: still not a byte copied
# long 600

qemu=$(qemu_with_sgls 2) || skip "QEMU has no switch for SGL support, and this one's code is not the one we know how to change"
drive flash 64
head -c 16M /dev/urandom >"$run/pattern"
mapfile -t devices < <(nvme nvme0 1 "" flash:512)
appliance e1000e "${devices[@]}"
client -drive "file=$run/pattern,if=virtio,format=raw,readonly=on"
ready
configure < <(one_subsystem 1)
serve
connect
without_copies write_and_read flash 4096 2
without_copies write_and_read flash 131072 16
disconnect
stop
