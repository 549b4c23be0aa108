# shellcheck shell=bash
# Sourced by ci/bench: a mirrored pair in namespaces: bytes on the link, mirrored writes beside others, the rate of a copy. The hosts and
# what they do are in ci/lab/examples/pair.
: "${root:?}" "${dir:?}" "${release:?}" "${size:?}" "${peer_program?}"

build throughline -p throughline
build "the hosts" -p lab --example pair
how=()
# shellcheck disable=SC2154 # of ci/bench
[ -z "$tls" ] || how+=(tls)
[ "$size" = full ] || how+=(quick)
machine >"$dir/machine.json"
say "Two appliances and their hosts:"
# Not above others: each of the two cores has a program that polls it, and the kernel's own threads need a turn (without one its grace
# periods stand still, and `ip` with them).
"$release/examples/pair" bench "$dir/run" "${how[@]}" ${peer_program:+"$peer_program"} 2>>"$LOG" | tee -a "$LOG" || die "the pair did not do what was measured."
jq --arg peer "$([ -z "$peer_program" ] || spdk_version "$peer_program")" --slurpfile machine "$dir/machine.json" -f "$root/ci/bench.d/pair.jq" "$dir/run/report.json" >"$dir/report.json"
jq -r -f "$root/ci/bench.d/pair-table.jq" "$dir/report.json" | tee "$dir/report.txt"
say "Everything is in $dir: report.json, report.txt."
