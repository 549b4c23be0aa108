# shellcheck shell=bash disable=SC2154,SC2034
# a controller that takes only PRPs: pages of several segments are pulled up and counted; e1000e network
# short 240

qemu=$(qemu_with_sgls 0) || skip "QEMU has no switch for SGL support, and this one's code is not the one we know how to change"
drive flash 64
head -c 16M /dev/urandom >"$run/pattern"
mapfile -t devices < <(nvme nvme0 1 "" flash:512)
appliance e1000e "${devices[@]}"
client -drive "file=$run/pattern,if=virtio,format=raw,readonly=on"
ready
configure < <(one_subsystem 1)
serve
connect
write_and_read flash 4096 2
write_and_read flash 131072 16
pulled_up=$(counter '.copied_bytes | .device_bounce + .pull_up')
[ "$pulled_up" -gt 0 ] || fail "PRPs cannot describe fragments, yet nothing was pulled up"
[ "$pulled_up" -le "$(counter .io.written_bytes)" ] || fail "$pulled_up bytes were pulled up, more than were written"
[ "$(copied)" -eq "$pulled_up" ] || fail "bytes were copied for other reasons: $(jq -c '.shards[].copied_bytes' "$run/stats.json")"
disconnect
stop
