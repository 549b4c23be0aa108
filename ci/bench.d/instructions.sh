# shellcheck shell=bash
# Sourced by ci/bench: instructions per 4 KiB command, counted by callgrind; on an idle machine, as timers go by the real clock.
: "${root:?}" "${dir:?}" "${release:?}"

recorded=$root/ci/bench.d/instructions.json
tolerance=0.05

build "the engine alone" -p engine --example alone

# annotated FILE yes|no: callgrind's table, functions with or without what they call: [{n, name}].
annotated() {
	callgrind_annotate --inclusive="$2" --auto=no --threshold=100 "$1" 2>>"$LOG" | jq -R -n '
		[inputs | capture("^ *(?<n>[0-9,]+) +\\([ .0-9]+%\\) +(?<where>.*)$")
		| {n: (.n | gsub(","; "") | tonumber), name: (.where | sub(" \\[[^\\[]*\\]$"; "") | sub("^[^:]*:"; "") | sub(" +$"; ""))}]'
}

# count OPERATION: total and functions, by themselves without what they call, as JSON.
count() {
	local out=$dir/$1.callgrind figures=$dir/$1.json
	nice -n 5 valgrind --tool=callgrind --callgrind-out-file="$out" --toggle-collect='*poll_counted*' \
		"$release/examples/alone" "$1" --instructions --commands 2000 >"$figures" 2>>"$LOG" || die "the engine alone does not run under valgrind ($1)."
	# Stages end where these functions do; what is left is the loop and what SPDK polls, and counts as complete.
	local stages
	stages=$(annotated "$out" yes | jq --argjson commands "$(jq .commands "$figures")" '
		. as $lines | def of($name): [$lines[] | select(.name == $name) | .n] | max // error("no function \($name)");
		def link($name): of("shard::link::Link<P>::" + $name); of("engine::alone::Alone::poll_counted") as $all
		| link("receive") as $receive | of("net::stack::receive::<impl net::stack::Stack>::receive") as $tcp
		| (link("serve") + link("complete")) as $session | of("volume::volumes::Volumes<D>::start") as $submit | link("transmit") as $transmit
		| {receive: ($receive - $tcp), tcp: $tcp, protocol: ($session - $submit), submit: $submit,
		   complete: ($all - $receive - $session - $transmit), transmit: $transmit}
		| map_values(. / $commands | round)')
	annotated "$out" no | jq --argjson commands "$(jq .commands "$figures")" --argjson stages "$stages" '
		(.[] | select(.name == "PROGRAM TOTALS") | .n) as $total
		| (map(select(.name | test("^<?(net|nvmf|shard|volume|cache|block|collections|sync|pages|sgl|engine)::|^tl_")))
			| group_by(.name) | map({name: .[0].name, n: (map(.n) | add / $commands)}) | sort_by(-.n) | .[:16]) as $functions
		| {total: ($total / $commands | round), stages: $stages, functions: ($functions | map({key: .name, value: (.n | round)}) | from_entries)}'
}

jq -n --argjson write "$(count write)" --argjson read "$(count read)" '{write: $write, read: $read}' >"$dir/instructions.json"
if [ -n "$record" ]; then
	cp "$dir/instructions.json" "$recorded"
	say "Recorded: $(jq -c '{write: .write.total, read: .read.total}' "$recorded") instructions per command."
	exit
fi
jq -r -n --argjson tolerance $tolerance --slurpfile was "$recorded" --slurpfile is "$dir/instructions.json" '
	def percent($a; $b): if $a == 0 then "new" else "\((($b - $a) * 1000 / $a | round) / 10)%" end;
	def moved($a; $b): ($b - $a | fabs) > $tolerance * ([$a, 40] | max);
	($was[0] | keys_unsorted[]) as $operation | $was[0][$operation] as $old | $is[0][$operation] as $new
	| "\($operation): \($old.total) recorded, \($new.total) now (\(percent($old.total; $new.total)))",
	  "  by stage: \($new.stages | to_entries | map("\(.key) \(.value)") | join(", "))",
	  (([$old.functions, $new.functions | keys_unsorted[]] | unique[]) as $name | ($old.functions[$name] // 0) as $a | ($new.functions[$name] // 0) as $b
		| select(moved($a; $b)) | "  \($a) -> \($b) (\(percent($a; $b))) \($name)")' | tee "$dir/report.txt"
jq -e -n --argjson tolerance $tolerance --slurpfile was "$recorded" --slurpfile is "$dir/instructions.json" '
	[$was[0] | keys_unsorted[] | ($is[0][.].total - $was[0][.].total) <= $tolerance * $was[0][.].total] | all' >/dev/null ||
	die "more instructions than recorded: if that is meant, record them with ci/bench --instructions --record."
