# shellcheck shell=bash
# Shared by the commands under ci/: one log, short lines on the terminal, and failures that say what to do.
# A command sets LOG before it sources this file.

: "${LOG:?the command that sources common.sh names its log file first}"

say() { printf '%s\n' "$*" | tee -a "$LOG"; }
note() { printf '%s\n' "$*" >>"$LOG"; }

# die "what happened and what to do": the last line anyone sees.
die() {
	printf 'error: %s\n' "$1" | tee -a "$LOG" >&2
	printf 'The log is %s\n' "$LOG" >&2
	exit 1
}

# run "what it does" "what to do when it fails" command...: output goes to the log, time passing is shown.
run() {
	local what=$1 remedy=$2 start=$SECONDS pid status=0 shown=0
	shift 2
	note "== $what: $*"
	"$@" >>"$LOG" 2>&1 </dev/null &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		sleep 0.2
		if [ -t 1 ]; then
			printf '\r  %s … %ds ' "$what" "$((SECONDS - start))"
		elif [ $((SECONDS - start)) -ge $((shown + 20)) ]; then
			shown=$((SECONDS - start))
			printf '  %s … %ds\n' "$what" "$shown"
		fi
	done
	wait "$pid" || status=$?
	if [ -t 1 ]; then printf '\r\033[K'; fi
	if [ "$status" -ne 0 ]; then
		printf -- '--- last lines of the log\n' >&2
		tail -n 15 "$LOG" >&2
		die "$what failed (exit status $status). $remedy"
	fi
	say "  $what: $((SECONDS - start))s"
}
