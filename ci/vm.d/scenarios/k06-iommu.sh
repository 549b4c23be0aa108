# shellcheck shell=bash disable=SC2154,SC2034
# card and drive behind an IOMMU, both by vfio-pci: nothing copied
# short 240

drive flash 64
head -c 4M /dev/urandom >"$run/pattern"
mapfile -t devices < <(nvme nvme0 1 "" flash:512)
guest_append=intel_iommu=on appliance e1000e -device intel-iommu "${devices[@]}"
client -drive "file=$run/pattern,if=virtio,format=raw,readonly=on"
ready
[ "$(grep -c "→ vfio-pci" "$run/bound")" -eq 2 ] || fail "bind chose another driver: $(cat "$run/bound")"
# A soft dependency of vfio, which busybox's modprobe does not know of.
on appliance 'modprobe vfio_iommu_type1'
configure < <(one_subsystem 1)
on appliance 'throughline check --config /etc/throughline.toml'
serve
connect
without_copies write_and_read flash 4096 1
without_copies write_and_read flash 131072 4
on appliance '! dmesg | grep -i "DMAR:.*fault"' || fail "a device reached for memory that is not ours"
disconnect
stop
