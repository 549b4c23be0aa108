# shellcheck shell=bash disable=SC2154,SC2034,SC2016
# a Linux 6.12 client over TLS (Debian 13's nvme-cli and tlshd): refusals, a changed key, a restart under load, DH-HMAC-CHAP, worn-out keys
# long 420

[ -n "$tls_tools" ] || skip "nvme-cli and ktls-utils of Debian 13 could not be fetched: is deb.debian.org in reach?"
drive flash 64
mapfile -t devices < <(nvme nvme0 1 "" flash:512)
appliance virtio-net-pci "${devices[@]}"
newer_kernel
client_more=$tls_tools
client
ready
on client 'uname -r; nvme version' >"$run/versions"
start_tlshd
tls_keys
serve_tls

# Both versions of identities, where TLS is required and where it is allowed.
insert 0 1 first
insert 1 0 first
for number in 0 1; do
	port=$((4420 + number)) connect_tls "$number"
	verified
	[ "$number" != 0 ] || [ "$(frames_with_plaintext)" = 0 ] || fail "what was written is seen on the wire"
	disconnect
done
# Who has no key comes in the clear, where that is allowed: there it is seen.
on client "nvme connect -t tcp -a $target -s 4421 -n $nqn $(as 3)"
await 10 "the client sees no namespace" on client '[ -b /dev/nvme0n1 ]'
[ "$(frames_with_plaintext)" -gt 0 ] || fail "a capture does not show what is in the clear"
disconnect

# Who does not get in.
insert 4 1 second
insert 4 0 second
insert 7 1 first
insert 5 1 long
refused 'by a key whose digest is none of ours' 'it offers a PSK that there is none of' 'TLS handshake complete, error -13' "-s 4420 $(as 4) --tls"
key=$(on client "sed -n 's/^\([0-9a-f]*\) .* NVMe0R01 $(host 4) .*/\1/p' /proc/keys")
refused 'with another key' 'it does not have the PSK that it offers' 'TLS handshake complete, error -13' "-s 4420 $(as 4) --tls --tls_key=0x$key"
refused 'by a name that is not listed' 'host7.*it offers a PSK that there is none of' 'TLS handshake complete, error -13' "-s 4420 $(as 7) --tls"
refused 'with no key in its keyring' '' 'pre-shared TLS key is missing' "-s 4420 $(as 6) --tls"
refused 'in the clear where TLS is required' 'it spoke in the clear where TLS is required' 'failed to receive icresp' "-s 4420 $(as 0)"
refused 'in the clear though it has a PSK' 'host0.*it is not let in there, or not without TLS' 'not allowed' "-s 4421 $(as 0)"
refused 'in the clear though it has a PSK, without TLS' 'host0.*it is not let in there, or not without TLS' 'not allowed' "-s 4422 $(as 0)"
refused 'with TLS where there is none' 'its listener has none' 'TLS handshake complete, error -13' "-s 4422 $(as 0) --tls"
# GnuTLS before 3.8.11 proves every key with SHA-256: keys of SHA-384 are of no use to Debian 13.
refused 'with a key of SHA-384' 'another hash than the key' 'TLS handshake complete, error -13' "-s 4420 $(as 5) --tls"

# Discovery: with a PSK a host is told of listeners with TLS, as required; without, of the others.
discover() { on client "nvme discover -t tcp -a $target -q $(host "$1") ${*:2}" >"$run/discovery-$1" 2>&1; }
discover 0 -s 4421
listeners() { sed -n 's/^\(trsvcid\|treq\|sectype\): *\([a-z0-9]*\).*/\2/p' "$run/discovery-$1" | paste -s -d ' '; }
[ "$(listeners 0)" = 'required 4420 tls13 required 4421 tls13' ] || fail "the log of a host with a PSK: $(listeners 0)"
discover 3 -s 4422
[ "$(grep -c 4422 "$run/discovery-3") $(grep -c 4420 "$run/discovery-3")" = '1 0' ] || fail "the log of a host without a PSK: $(listeners 3)"
# In TLS, and then all that it lists.
insert 0 1 first nqn.2014-08.org.nvmexpress.discovery
before=$(handshakes)
on client "nvme connect-all -t tcp -a $target -s 4420 $(as 0) --tls" >"$run/connect-all" 2>&1 || fail "connect-all: $(tail -n 1 "$run/connect-all")"
await 10 "connect-all connects nothing" on client '[ -b /dev/nvme0n1 ] || [ -b /dev/nvme1n1 ]'
[ "$(handshakes)" -ge $((before + 3)) ] || fail "connect-all did not do all in TLS"
on client 'nvme disconnect-all'

# The key is changed while the host is connected: that goes on, and the next connection needs the new one.
connect_tls 0
rpc() { on appliance "throughline rpc $1 '$2'" >>"$run/changes"; }
rpc keyring_file_add_key '{"name": "second", "path": "/etc/second"}'
rpc nvmf_subsystem_set_keys "{\"nqn\": \"$nqn\", \"host\": \"$(host 0)\", \"psk\": \"second\"}"
verified
disconnect
refused 'with the key that was taken from it' 'it offers a PSK that there is none of' 'TLS handshake complete, error -13' "-s 4420 $(as 0) --tls"
key=$(insert 0 1 second | sed -n 's/^Inserted TLS key //p')
connect_tls 0 "--tls_key=0x$key"
verified

# The program is killed and started under load: the host comes back by itself. It has the first key again, as the file says.
disconnect
connect_tls 1 --reconnect-delay=2
begin client load 'fio --name=load --filename=/dev/nvme0n1 --size=16m --rw=randrw --bs=16k --ioengine=libaio --direct=1 --iodepth=8 --verify=crc32c \
	--loops=4 --do_verify=1 --verify_fatal=1 --output=/run/fio-load'
writes=$(counter .io.writes)
flowing() { [ "$(counter .io.writes)" -gt $((writes + 200)) ]; }
await 30 "no I/O flows" flowing
on appliance 'kill -9 $(cat /run/throughline.pid)'
serve
end client load 300 >"$run/load" || fail "verified I/O failed over a restart: $(on client 'tail -n 3 /run/fio-load')"
on client 'dmesg | grep -q "Successfully reconnected"' || fail "the host did not come back"
[ "$(handshakes)" -ge 2 ] || fail "it did not come back in TLS"
disconnect

# DH-HMAC-CHAP in it, either way.
insert 2 1 first
connect_tls 2 "--dhchap-secret \$(cat /etc/own) --dhchap-ctrl-secret \$(cat /etc/controller)"
[ "$(counter .counters.nvmf.authenticated)" -ge 2 ] || fail "not every queue was authenticated"
verified
disconnect
refused 'with TLS, and without its other key' '' 'authentication' "-s 4420 $(as 2) --tls"
stop

# A key wears out: Linux takes no new one, so the connection ends, and the host comes back at once.
serve_tls 'tls_key_mib = 3'
connect_tls 1 --reconnect-delay=1
on client 'dmesg -c >/dev/null'
before=$(handshakes)
verified
log_has 'as much went over it as may under one key' || fail "no key was worn out"
[ "$(handshakes)" -ge $((before + 4)) ] || fail "the host did not come back in TLS"
on client '! dmesg | grep -q timeout' || fail "commands timed out: $(on client 'dmesg | grep timeout | tail -n 1')"
[ "$(counter .counters.tls.bad_records)" = 0 ] || fail "records could not be opened"
disconnect
on appliance '! grep -q "NVMeTLSkey-1:0.:" /run/throughline.log' || fail "a key is in the log"
stop
