# shellcheck shell=bash disable=SC2154,SC2034
# a Linux 6.12 client proves who it is (DH-HMAC-CHAP), and the target too: every hash, groups, wrong keys, a key that is changed
# long 420

# A host that has another name than the guest's own needs another identifier, too.
host=nqn.2026-01.com.example:host0
id=11111111-2222-4333-8444-555555555555
drive flash 64
mapfile -t devices < <(nvme nvme0 1 "" flash:512)
appliance virtio-net-pci "${devices[@]}"
newer_kernel
client
ready
on client 'modprobe -a nvme-auth dh_generic hmac sha256_generic sha512_generic; uname -r' >"$run/kernel"

# key NAME HMAC: a key that both guests have.
key() {
	on appliance "throughline key gen --hmac $2 --file /etc/$1.key"
	on appliance "cat /etc/$1.key" | put client "/etc/$1.key"
}
key host sha256
key target sha384
key other sha512

# serve_with HASH GROUP: what is agreed on.
serve_with() {
	{
		printf '[target]\ndhchap_digests = ["%s"]\ndhchap_dhgroups = ["%s"]\n' "$1" "$2"
		printf '[[key]]\nname = "host"\nfile = "/etc/host.key"\n[[key]]\nname = "target"\nfile = "/etc/target.key"\n'
		one_subsystem 1
		printf 'hosts = [{ nqn = "%s", dhchap_key = "host", dhchap_ctrlr_key = "target" }]\n' "$host"
	} >"$run/stores"
	configure <"$run/stores"
	serve
}
# with KEY [KEY]: what the client is given: its own, and the target's.
with() { echo "-q $host -I $id --dhchap-secret \$(cat /etc/$1.key)${2:+ --dhchap-ctrl-secret \$(cat /etc/$2.key)}"; }
# refused WHAT KEYS: the client does not get in.
refused() {
	! on client "nvme connect -t tcp -a $target -s 4420 -n $nqn $2" >"$run/refused" 2>&1 || fail "a client got in $1"
	on client '[ ! -e /dev/nvme0n1 ]' || fail "a client that was refused has the namespace"
}
verified() {
	on client 'fio --name=verify --filename=/dev/nvme0n1 --size=4m --rw=randrw --bsrange=4k-64k --blockalign=4k --ioengine=libaio --direct=1 \
		--iodepth=8 --verify=crc32c --output=/run/fio' || fail "verified I/O failed: $(on client 'tail -n 3 /run/fio')"
}

while read -r hash group keys; do
	serve_with "$hash" "$group"
	# shellcheck disable=SC2086 # a key, or two
	connect "$(with $keys)"
	[ "$(counter .counters.nvmf.authenticated)" -ge 2 ] || fail "not every queue was authenticated ($hash, $group)"
	[ "$(on client 'cat /sys/class/nvme/nvme0/dhchap_secret')" != none ] || fail "the client thinks that it has no key"
	verified
	disconnect
	[ "$hash $group" = "sha512 ffdhe3072" ] || stop
done <<-END
	sha256 null host
	sha384 ffdhe2048 host target
	sha512 ffdhe3072 host target
END

# None, another one, and a target that cannot prove who it is.
refused 'without a key' "-q $host -I $id"
refused 'with another key' "$(with other)"
refused 'though the target has another key than it wants' "$(with host other)"
refused 'by another name' "-q nqn.2026-01.com.example:host1 -I ${id/11111111/22222222} --dhchap-secret \$(cat /etc/host.key)"
[ "$(counter .counters.nvmf.authentication_failures)" -ge 2 ] || fail "refusals are not counted"

# The key is changed while the client is there: it proves that it has the new one, and goes on.
connect "$(with host target)"
rpc() { on appliance "throughline rpc $1 '$2'" >>"$run/changes"; }
rpc keyring_file_add_key '{"name": "other", "path": "/etc/other.key"}'
rpc nvmf_subsystem_set_keys "{\"nqn\": \"$nqn\", \"host\": \"$host\", \"dhchap_key\": \"other\", \"dhchap_ctrlr_key\": \"target\"}"
before=$(counter .counters.nvmf.authenticated)
on client 'tr -d "\n" </etc/other.key >/sys/class/nvme/nvme0/dhchap_secret'
again() { [ "$(counter .counters.nvmf.authenticated)" -gt "$before" ]; }
await 20 "the client does not prove that it has the new key" again
verified
on client '! dmesg | grep -qi reconnecting' || fail "the new key cost the connection"
disconnect
refused 'with the key that was taken from it' "$(with host target)"
connect "$(with other target)"
disconnect
on appliance '! grep -q "DHHC-1" /run/throughline.log' || fail "a key is in the log"
stop
