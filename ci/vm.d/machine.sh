# shellcheck shell=bash
# Guests as scenarios see them: boot one, run commands in it, ask its QEMU for things. Sourced by run.sh.

: "${run:?the directory of this run}" "${kernel:?}" "${base:?}"

declare -A guest_pid guest_in guest_out qmp_in qmp_out

# boot NAME MEBIBYTES ARCHIVE... -- QEMU-ARGUMENT...: starts a guest of one CPU, or ${guest_cpus}; await_guest waits until it answers.
boot() {
	local name=$1 memory=$2 archives=() pipe append
	shift 2
	while [ "$1" != -- ]; do archives+=("$1") && shift; done
	shift
	append="guest=$name rdinit=/init console=ttyS0 quiet panic=-1 oops=panic"
	# An emulated machine on a busy host: its timers are good, if late. Not so what it must calibrate, the TSC and the timers of local
	# APICs: a kernel that is held up meanwhile takes the TSC for many times slower, and then 30 seconds of its are over in two.
	append+=' no_timer_check'
	[ "${THROUGHLINE_VM_ACCEL:-tcg}" != tcg ] || append+=' clocksource=hpet tsc=unstable nolapic_timer'
	append+=" ${guest_append:-}"
	cat "$base" "${archives[@]}" >"$run/$name.cpio"
	for pipe in agent qmp; do
		rm -f "$run/$name.$pipe".{in,out}
		mkfifo "$run/$name.$pipe".{in,out}
	done
	# Whatever becomes of this script, its guests end with it. A copy of QEMU does not find its files by itself.
	QEMU_MODULE_DIR=/usr/lib/x86_64-linux-gnu/qemu setpriv --pdeathsig KILL "${qemu:-qemu-system-x86_64}" -L /usr/share/qemu -L /usr/share/seabios -name "$name" -nodefaults -no-user-config -display none -no-reboot \
		-machine "${guest_machine:-q35}" -accel "${THROUGHLINE_VM_ACCEL:-tcg}" -cpu "${guest_cpu:-max}" -smp "${guest_cpus:-1}" -m "$memory" \
		-kernel "$kernel/vmlinuz" -initrd "$run/$name.cpio" -append "$append" \
		-chardev "file,id=console,path=$run/$name.console" -serial chardev:console \
		-device virtio-serial-pci,addr=0x2 -chardev "pipe,id=agent,path=$run/$name.agent" \
		-device virtserialport,chardev=agent,nr=1 \
		-chardev "pipe,id=qmp,path=$run/$name.qmp" -mon chardev=qmp,mode=control \
		"$@" >"$run/$name.qemu" 2>&1 </dev/null &
	guest_pid[$name]=$!
	# Opened for both directions, so that neither end waits for the other to come or notices it go.
	exec {fd}<>"$run/$name.agent.in" && guest_in[$name]=$fd
	exec {fd}<>"$run/$name.agent.out" && guest_out[$name]=$fd
	exec {fd}<>"$run/$name.qmp.in" && qmp_in[$name]=$fd
	exec {fd}<>"$run/$name.qmp.out" && qmp_out[$name]=$fd
}

alive() { [ -n "${guest_pid[$1]:-}" ] && kill -0 "${guest_pid[$1]}" 2>/dev/null; }

# line_from NAME FD SECONDS: one line, or failure when the guest ends or the time does.
line_from() {
	local name=$1 fd=$2 end=$((SECONDS + $3)) part line=
	while :; do
		if IFS= read -r -t 1 -u "$fd" part; then
			printf '%s\n' "$line$part"
			return 0
		fi
		line+=$part
		alive "$name" || fail "the $name's machine ended: $(tail -n 2 "$run/$name.qemu" "$run/$name.console" 2>/dev/null | tr '\n' ' ')"
		[ "$SECONDS" -lt "$end" ] || return 1
	done
}

await_guest() {
	local name
	for name; do
		# Kept for it until it has booted.
		on "$name" true 180
		line_from "$name" "${qmp_out[$name]}" 10 >/dev/null
		qmp "$name" '{"execute":"qmp_capabilities"}' >/dev/null
	done
}

# on NAME COMMAND [SECONDS]: runs a shell command in a guest; its output and status are ours.
on() {
	local name=$1 limit=${3:-60} status length header
	printf '== %d s, on %s: %s\n' "$SECONDS" "$name" "$2" >>"$run/transcript"
	printf '%d %s\n' "$limit" "$(base64 -w 0 <<<"$2")" >&"${guest_in[$name]}"
	header=$(line_from "$name" "${guest_out[$name]}" $((limit + 15))) || fail "the $name does not answer: $2"
	read -r status length <<<"$header"
	timeout 30 head -c "$length" <&"${guest_out[$name]}" | tee -a "$run/transcript"
	if [ "$status" -ne 0 ]; then
		printf '== status %s\n' "$status" >>"$run/transcript"
		return "$status"
	fi
}

# qmp NAME JSON: a command for a guest's QEMU; prints what it returns.
qmp() {
	local name=$1 line
	printf '== %d s, qmp %s: %s\n' "$SECONDS" "$name" "$2" >>"$run/transcript"
	printf '%s\n' "$2" >&"${qmp_in[$name]}"
	while line=$(line_from "$name" "${qmp_out[$name]}" 20); do
		printf '%s\n' "$line" >>"$run/transcript"
		case $line in
		'{"return"'*) jq -c .return <<<"$line" && return ;;
		'{"error"'*) fail "QEMU: $(jq -r .error.desc <<<"$line")" ;;
		esac
	done
	fail "the $name's QEMU does not answer: $2"
}

# within SECONDS COMMAND...: runs the command every half second until it succeeds; fails when that takes longer.
within() {
	local late=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$late" ] || return 1
		sleep 0.5
	done
}

# await SECONDS WHAT COMMAND...: the same, and the scenario fails.
await() { within "$1" "${@:3}" || fail "$2: not within the time it may take"; }

# halt NAME...: ends guests at once, as a power cut does.
halt() {
	local name
	for name; do
		kill -KILL "${guest_pid[$name]}" 2>/dev/null || true
		wait "${guest_pid[$name]}" 2>/dev/null || true
		unset "guest_pid[$name]"
	done
}

# begin GUEST JOB COMMAND: runs a command in the background; end GUEST JOB SECONDS: waits for it, and gives its output and status.
begin() { on "$1" "(sh -c $(printf '%q' "$3"); echo \$? >/run/$2.status) >/run/$2.output 2>&1 &"; }
end() {
	within "$3" on "$1" "[ -s /run/$2.status ]" ||
		fail "$2 in the $1 goes on and on; its kernel said last: $(on "$1" 'dmesg | tail -n 3' | tr '\n' ';')"
	on "$1" "cat /run/$2.output; read -r status </run/$2.status; rm /run/$2.status; exit \$status"
}
