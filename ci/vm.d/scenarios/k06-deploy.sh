# shellcheck shell=bash disable=SC2154,SC2034
# docs/deploy.md step by step: the Debian package under systemd, with bind, check, a restart after a kill, and removal
# long 1200

drive flash 64
head -c 4M /dev/urandom >"$run/pattern"
THROUGHLINE=$program "$root/ci/deb/build" "$run" 2>"$run/build.log"
mkdir "$run/package" && mv "$run"/*.deb "$run/package/throughline.deb"
archive "$run/package" "$run/package.cpio"
mapfile -t devices < <(nvme nvme0 1 "" flash:512 && nic appliance lan0 e1000e)
guest_append=systemd boot appliance 1280 "$appliance_tools" "$system_tools" "$run/package.cpio" -- "${devices[@]}"
client -drive "file=$run/pattern,if=virtio,format=raw,readonly=on"
await_guest appliance client
on client 'modprobe -a virtio_net nvme-tcp virtio_blk && ip link set eth0 up && ip address add 192.0.2.2/24 dev eth0'
await 60 "systemd does not come up" on appliance 'systemctl is-active multi-user.target'

# 1. Install. What it depends on is there, without dpkg knowing.
# (By its path: busybox has a dpkg of its own.)
on appliance 'rm /usr/bin/throughline && mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates /var/lib/dpkg/triggers && touch /var/lib/dpkg/status
	/usr/bin/dpkg --force-depends -i /throughline.deb && systemd-analyze verify --man=no throughline.service'
on appliance '! systemctl is-active throughline' || fail "it is started without a configuration"

# 2. Hugepages; this machine has fewer than the file asks for.
on appliance 'mkdir -p /etc/sysctl.d && echo vm.nr_hugepages = 384 >/etc/sysctl.d/throughline.conf && systemctl restart systemd-sysctl'
[ "$(on appliance 'cat /proc/sys/vm/nr_hugepages')" -eq 384 ] || fail "systemd-sysctl did not reserve the hugepages"

# 3. and 4. The machine, and a configuration. The kernel has both devices.
on appliance 'modprobe -a nvme e1000e'
await 20 "the kernel does not see the drive" on appliance '[ -b /dev/nvme0n1 ]'
on appliance 'throughline check' | grep -A 1 "$DRIVE NVMe, nvme" | grep -q "throughline bind $DRIVE" || fail "check does not name bind"
configure < <(one_subsystem 1)
on appliance 'mv /etc/throughline.toml /etc/throughline/'
! on appliance 'throughline check --config /etc/throughline/throughline.toml' || fail "it is ready with devices that the kernel has"

# 5. Devices. One in use is refused, and nothing changes.
bind='throughline bind --config /etc/throughline/throughline.toml'
on appliance 'mkswap /dev/nvme0n1 >/dev/null && swapon /dev/nvme0n1'
! on appliance "$bind" >"$run/refused" 2>&1 || fail "a disk in use was taken"
grep -q "$DRIVE is in use by this system: nvme0n1 is swap" "$run/refused" || fail "bind said: $(cat "$run/refused")"
on appliance "swapoff /dev/nvme0n1 && $bind --dry-run" >"$run/dry"
grep -q "$DRIVE NVMe      nvme → uio_pci_generic: this system loses nvme0n1 (64 MiB, no partitions)" "$run/dry" || fail "bind would: $(cat "$run/dry")"
on appliance '[ -b /dev/nvme0n1 ]' || fail "--dry-run took the drive"

# 6. Start. The unit binds; check says what is left to say.
on appliance 'systemctl enable --now throughline' 120 || fail "the service does not start: $(on appliance 'systemctl status throughline' | tail -n 3 | tr '\n' ' ')"
on appliance '[ ! -b /dev/nvme0n1 ] && systemctl is-active throughline'
property() { on appliance "systemctl show -P $1 throughline"; }
[ "$(property LimitMEMLOCK)" = infinity ] || fail "memory may not be locked"
alive_at=$(property WatchdogTimestampMonotonic)
! on appliance 'throughline unbind '$DRIVE >"$run/refused" 2>&1 || fail "a drive was taken from the running program"
grep -q "is driven by throughline" "$run/refused" || fail "unbind said: $(cat "$run/refused")"

# 7. A host.
connect --reconnect-delay=1
write_and_read flash 131072 4
[ "$(property WatchdogTimestampMonotonic)" -gt "$alive_at" ] || fail "the watchdog is not fed"
on appliance 'kill -KILL $(systemctl show -P MainPID throughline)'
await 200 "systemd does not restart it" on appliance '[ "$(systemctl show -P NRestarts throughline)" = 1 ] && systemctl is-active throughline'
write_and_read flash 4096 1
disconnect

# 8. Away with it: the kernel finds what the host wrote.
on appliance 'systemctl disable --now throughline && throughline unbind --config /etc/throughline/throughline.toml' 60
await 20 "the kernel did not get the drive back" on appliance '[ -b /dev/nvme0n1 ] && [ -e /sys/bus/pci/devices/'$NIC'/net ]'
[ "$(on appliance 'head -c 4194304 /dev/nvme0n1 | sha256sum')" = "$(sha256sum <"$run/pattern")" ] || fail "the drive does not hold what the host wrote"
on appliance '/usr/bin/dpkg -P throughline && [ ! -e /usr/sbin/throughline ] && [ -e /etc/throughline/throughline.toml ]'
