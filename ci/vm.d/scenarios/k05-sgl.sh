# shellcheck shell=bash disable=SC2154,SC2034
# a controller that takes scatter-gather lists: not a byte copied, virtio network with checksums and segments left to the card
# short 240

drive flash 64
head -c 16M /dev/urandom >"$run/pattern"
mapfile -t devices < <(nvme nvme0 1 "" flash:512)
with_taps
appliance virtio-net-pci "${devices[@]}"
client -drive "file=$run/pattern,if=virtio,format=raw,readonly=on"
ready
configure < <(one_subsystem 1)
on appliance 'throughline check --config /etc/throughline.toml'
serve
connect
without_copies write_and_read flash 4096 2
without_copies write_and_read flash 131072 16
[ "$(counter .io.written_bytes)" -ge $((18 << 20)) ] || fail "$(counter .io.written_bytes) bytes were counted as written"
[ -z "${taps:-}" ] || offloaded checksums_verified checksums_computed frames_segmented
[ "$(counter .counters.tcp.tcp_checksum_bad)" -eq 0 ] || fail "$(counter .counters.tcp.tcp_checksum_bad) checksums were wrong"
disconnect
stop
