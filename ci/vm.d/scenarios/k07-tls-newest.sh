# shellcheck shell=bash disable=SC2154,SC2034,SC2016
# the newest Linux over TLS (kernel, nvme-cli and tlshd of Debian testing): keys of SHA-384, the specification's derivation, DH-HMAC-CHAP, worn-out keys
# long 240

[ -n "$newest_tools" ] || skip "nvme-cli, ktls-utils and the kernel of Debian testing could not be fetched: is deb.debian.org in reach?"
drive flash 64
mapfile -t devices < <(nvme nvme0 1 "" flash:512)
appliance virtio-net-pci "${devices[@]}"
newest_kernel
client_more=$newest_tools
client
ready
on client 'uname -r; nvme version' >"$run/versions"
start_tlshd
tls_keys
serve_tls

insert 0 1 first
insert 1 0 first
insert 5 1 long
insert 2 1 first
for number in 0 1 5; do
	connect_tls "$number"
	verified
	disconnect
done
on client "nvme check-tls-key --compat --insert --hostnqn $(host 4) --subsysnqn $nqn --identity 1 --keydata \$(cat /etc/first)"
connect_tls 4
verified
disconnect
connect_tls 2 "--dhchap-secret \$(cat /etc/own) --dhchap-ctrl-secret \$(cat /etc/controller)"
[ "$(counter .counters.nvmf.authenticated)" -ge 2 ] || fail "not every queue was authenticated"
verified
disconnect
stop

# It takes no new key either: the connection ends, and the host comes back.
serve_tls 'tls_key_mib = 3'
connect_tls 5 --reconnect-delay=1
before=$(handshakes)
on client 'dmesg -c >/dev/null'
verified
log_has 'as much went over it as may under one key' || fail "no key was worn out"
[ "$(handshakes)" -ge $((before + 4)) ] || fail "the host did not come back in TLS"
on client '! dmesg | grep -q timeout' || fail "commands timed out: $(on client 'dmesg | grep timeout | tail -n 1')"
disconnect
stop
