# shellcheck shell=bash
# Sourced by ci/bench: what drives and the log are told to write for what hosts write to a logged namespace, the engine alone.
: "${root:?}" "${dir:?}" "${release:?}" "${size:?}"

build "the engine alone" -p engine --example alone
# A consistency point every 8,192 writes, as halves of 64 MiB are left when half full; memory for all that comes between two.
commands=819200 half_mib=64
rm -f "$dir/samples.jsonl"
machine >"$dir/machine.json"
for load in "--mib 16" "--mib 64" "--gib 1" "--zipf --mib 64" "--zipf --gib 1" "--sequential --mib 16" "--sequential --gib 1"; do
	# shellcheck disable=SC2086
	above_others "$release/examples/alone" write --logged --half-mib $half_mib --clusters 262144 --commands $commands $load |
		jq -c '.' >>"$dir/samples.jsonl" || die "the engine alone does not do: $load"
	say "  $load"
done
jq -s --slurpfile machine "$dir/machine.json" -f "$root/ci/bench.d/device-writes.jq" "$dir/samples.jsonl" >"$dir/report.json"
jq -r '
	def pad($n): tostring | (" " * ([0, $n - length] | max)) + .;
	def left($n): tostring | . + (" " * ([0, $n - length] | max));
	def to($digits): pow(10; $digits) as $scale | . * $scale | round / $scale;
	.title, "\(.machine.commit); depth \(.loads[0].depth), \(.loads[0].commands) writes of 4 KiB", "",
	("load" | left(24)) + ("points" | pad(7)) + ("pages to the drive/write" | pad(26)) + ("at least" | pad(10)) + ("operations/write" | pad(18)) + ("at least" | pad(10))
		+ ("KiB/operation" | pad(15)) + ("log operations/write" | pad(22)) + ("log bytes/byte" | pad(16)) + ("copied" | pad(8)),
	(.loads[] | ("\(.pattern), \(.mib) MiB" | left(24)) + (.points | pad(7)) + (.device_bytes_per_byte | to(3) | pad(26)) + (.least_pages | to(3) | pad(10))
		+ (.device_operations_per_write | to(3) | pad(18)) + (.least_operations | to(3) | pad(10))
		+ (4 * .device_bytes_per_byte / .device_operations_per_write | to(1) | pad(15)) + (.log_operations_per_write | to(3) | pad(22)) + (.log_device_bytes_per_byte | to(3) | pad(16))
		+ (.copied_bytes_per_byte | pad(8))),
	"", "At least: each page that was written between two consistency points once, and pages side by side together, 128 KiB at most, on average."' \
	"$dir/report.json" | tee "$dir/report.txt"
say "Everything is in $dir: report.json, report.txt."
