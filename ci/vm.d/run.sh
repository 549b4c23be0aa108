#!/usr/bin/env bash
# Runs one scenario to its end: run.sh FILE DIRECTORY. Called by ci/vm, which bounds its time. The directory holds everything
# of this run; DIRECTORY/reason says why a scenario failed (status 1) or was skipped (status 77).
set -eEuo pipefail

scenario=$1
run=$2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# fail REASON, skip REASON: the first one counts.
fail() {
	[ -s "$run/reason" ] || printf '%s\n' "$*" >"$run/reason"
	exit 1
}
skip() {
	printf '%s\n' "$*" >"$run/reason"
	exit 77
}

on_error() {
	local status=$? line=$1 command=$2
	[ -s "$run/reason" ] || printf 'line %s: %s (status %s)\n' "$line" "$command" "$status" >"$run/reason"
}
trap 'on_error "$LINENO" "$BASH_COMMAND"' ERR
trap 'fail "interrupted, or out of time"' TERM INT

# Ends the guests; what they logged stays.
finish() {
	local status=$? name
	trap - EXIT ERR
	set +e
	if [ "$status" -ne 0 ] && alive appliance && alive client; then
		(on appliance 'cat /run/throughline.log' 10) >"$run/throughline.log"
		(on appliance 'throughline stats --json' 20) >"$run/stats-at-the-end.json"
		(on appliance dmesg 10) >"$run/appliance.dmesg"
		(on client dmesg 10) >"$run/client.dmesg"
	fi
	if [ "$status" -ne 0 ] && alive partner; then
		(on partner 'cat /run/throughline.log' 10) >"$run/partner.log"
		(on partner 'throughline stats --json' 20) >"$run/partner-stats.json"
	fi
	# shellcheck disable=SC2154 # machine.sh declares it
	for name in "${!guest_pid[@]}"; do halt "$name"; done
	exit "$status"
}
trap finish EXIT

# shellcheck source=ci/vm.d/guest.sh
. "$root/ci/vm.d/guest.sh"
# shellcheck source=ci/vm.d/machine.sh
. "$root/ci/vm.d/machine.sh"
# shellcheck source=ci/vm.d/lab.sh
. "$root/ci/vm.d/lab.sh"
# shellcheck source=ci/vm.d/tls.sh
. "$root/ci/vm.d/tls.sh"
# shellcheck source=/dev/null
. "$scenario"
