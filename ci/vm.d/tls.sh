# shellcheck shell=bash disable=SC2154,SC2016
# Hosts over TLS: what the scenarios k07-tls have in common. Sourced by run.sh.
#
# Listeners: 4420 requires TLS, 4421 allows it, 4422 has none. Hosts, and what the program has for them:
#
#   0, 1, 4   the PSK `first`            3   nothing: it comes in the clear
#   2         that, and DH-HMAC-CHAP     5   the PSK `long`, of SHA-384

: "${target:?}" "${nqn:?}"

host() { echo "nqn.2026-01.com.example:host$1"; }
# as NUMBER: who a client says it is.
as() { echo "-q $(host "$1") -I 11111111-2222-4333-8444-55555555555$1"; }

# tls_keys: keys that both guests have.
tls_keys() {
	local name
	on appliance 'cd /etc && throughline key gen --tls --file first && throughline key gen --tls --hmac sha384 --file long &&
		throughline key gen --file own && throughline key gen --hmac sha384 --file controller'
	# One that nvme-cli made.
	on client 'nvme gen-tls-key --hmac 1' | put appliance /etc/second
	on appliance 'chmod 600 /etc/second'
	for name in first second long own controller; do on appliance "cat /etc/$name" | put client "/etc/$name"; done
}

# serve_tls [LINE]: the program, with that line in [target].
serve_tls() {
	local name number
	{
		printf '[target]\n%s\nlisten = [{ address = "%s:4420", tls = "required" }, { address = "%s:4421", tls = "allowed" }, "%s:4422"]\n' \
			"${1:-}" "$target" "$target" "$target"
		for name in first long own controller; do printf '[[key]]\nname = "%s"\nfile = "/etc/%s"\n' "$name" "$name"; done
		one_subsystem 1
		printf 'hosts = ['
		for number in 0 1 4; do printf '{ nqn = "%s", psk = "first" }, ' "$(host "$number")"; done
		printf '{ nqn = "%s", psk = "first", dhchap_key = "own", dhchap_ctrlr_key = "controller" }, ' "$(host 2)"
		printf '{ nqn = "%s" }, { nqn = "%s", psk = "long" }]\n' "$(host 3)" "$(host 5)"
	} >"$run/stores"
	configure <"$run/stores"
	serve
}

# start_tlshd: what docs/security.md says of a host.
start_tlshd() {
	put client /etc/hosts <<<"$target target"
	put client /etc/nsswitch.conf <<<'hosts: files'
	printf '[authenticate]\nkeyrings=.nvme\n' | put client /etc/tlshd.conf
	# Where it is from 1.1 on. What is no module is built in.
	on client 'mkdir -p /etc/tlshd && cp /etc/tlshd.conf /etc/tlshd/config
		for name in nvme-auth dh_generic hmac sha256_generic sha512_generic tls gcm ctr ghash-generic ghash-clmulni-intel aesni-intel; do
			modprobe $name 2>/dev/null
		done
		tlshd -s >/run/tlshd.log 2>&1 &'
}

# insert HOST IDENTITY KEY [SUBSYSTEM]: the client has the key, by an identity of that version.
insert() {
	on client "nvme check-tls-key --insert --hostnqn $(host "$1") --subsysnqn ${4:-$nqn} --identity $2 --keydata \$(cat /etc/$3)"
}

handshakes() { counter .counters.tls.handshakes; }

# connect_tls HOST [OPTION...]: each queue of it is encrypted, and the host's kernel says so.
connect_tls() {
	local before
	before=$(handshakes)
	on client "nvme connect -t tcp -a $target -s ${port:-4420} -n $nqn $(as "$1") --tls ${*:2}"
	await 10 "the client sees no namespace" on client '[ -b /dev/nvme0n1 ]'
	[ "$(handshakes)" -ge $((before + 2)) ] || fail "host$1: not every queue is encrypted"
	on client 'grep -q . /sys/class/nvme/nvme0/tls_key' || fail "host$1: its kernel has no key for it"
}

verified() {
	on client 'fio --name=verify --filename=/dev/nvme0n1 --size=8m --rw=randrw --bsrange=4k-64k --blockalign=4k --ioengine=libaio --direct=1 \
		--iodepth=8 --verify=crc32c --output=/run/fio' 120 || fail "verified I/O failed: $(on client 'tail -n 3 /run/fio')"
}

# refused WHAT LINE WORD OPTION...: the client does not get in; the program's log has the line, and the host says that word. Neither takes long.
refused() {
	local what=$1 line=$2 word=$3 before
	before=$(on appliance 'wc -l </run/throughline.log')
	on client 'dmesg -c >/dev/null'
	! on client "nvme connect -t tcp -a $target -n $nqn ${*:4}" 10 >"$run/refused" 2>&1 || fail "a client got in $what"
	on client '[ ! -e /dev/nvme0n1 ]' || fail "a client that was refused has the namespace"
	on client dmesg >>"$run/refused"
	grep -q -- "$word" "$run/refused" || fail "the host says something else $what: $(tail -n 2 "$run/refused" | tr '\n' ' ')"
	printf '%s: %s\n' "$what" "$(grep -h -- "$word" "$run/refused" | tail -n 1)" >>"$run/refusals"
	[ -n "$line" ] || return 0
	await 10 "the log does not say '$line' $what" on appliance "tail -n +$((before + 1)) /run/throughline.log | grep -q '$line'"
}

# frames_with_plaintext: how many lines of what goes over the wire have what the client writes and reads.
frames_with_plaintext() {
	on appliance 'throughline capture --port port0 --file /run/frames --seconds 6 --snap 2048 >/run/capture 2>&1; echo done >>/run/capture' &
	sleep 2
	on client 'yes plaintext | head -c 65536 >/run/plain
		dd if=/run/plain of=/dev/nvme0n1 bs=64k oflag=direct && dd if=/dev/nvme0n1 of=/run/back bs=64k count=1 iflag=direct && cmp /run/plain /run/back' >/dev/null 2>&1
	wait %% 2>/dev/null || true
	on appliance 'grep -c plaintext /run/frames || true'
}

# log_has WORDS: in the log of the program.
log_has() { on appliance "grep -q '$1' /run/throughline.log"; }
