# Runs with consistency points as an SVG: the longest and the 99th percentile of each tenth of a second, on a logarithmic scale, points marked.
def escape: gsub("&"; "&amp;") | gsub("<"; "&lt;");
def text($x; $y; $size; $anchor; $colour; $words):
	"<text x=\"\($x)\" y=\"\($y)\" font-size=\"\($size)\" text-anchor=\"\($anchor)\" fill=\"\($colour)\">\($words | escape)</text>";
def line($x1; $y1; $x2; $y2; $colour; $more): "<line x1=\"\($x1)\" y1=\"\($y1)\" x2=\"\($x2)\" y2=\"\($y2)\" stroke=\"\($colour)\" \($more)/>";
def to1: . * 10 | round / 10;
.runs as $runs | 70 as $left | 860 as $wide | 200 as $high | 262 as $each | 90 as $top
# From 10 µs to 1 s.
| def y($us; $base): $base + $high - ($high * (([[$us, 10] | max, 1000000] | min | log10) - 1) / 5) | to1;
"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\"\($top + $each * ($runs | length) + 30)\" viewBox=\"0 0 960 \($top + $each * ($runs | length) + 30)\" font-family=\"DejaVu Sans, Helvetica, sans-serif\">",
"<rect width=\"960\" height=\"\($top + $each * ($runs | length) + 30)\" fill=\"white\"/>",
text(20; 32; 19; "start"; "#222"; .title),
text(20; 54; 12; "start"; "#666"; "one connection, depth \($runs[0].depth), as its host sees it; most writes take 100 µs on a device, one in a hundred 1 ms, if nothing else is said"),
text(20; 71; 12; "start"; "#666"; "\(.machine.cpu), Linux \(.machine.kernel); shaded: a consistency point is under way"),
($runs | to_entries[] | .value as $run | ($top + .key * $each) as $base
	| def x($s): $left + $wide * ([$s, $run.seconds] | min) / $run.seconds | to1;
	text($left; $base + 4; 13; "start"; "#222"; "consistency points \($run.what): \($run.ends | length) in \($run.seconds | round) s, \($run.writes / $run.seconds | round) writes/s"
		+ if $run.drive_us == $run.log_us then "" else ", the drive: \($run.drive_us[0] / 1000) and \($run.drive_us[1] / 1000) ms" end),
	($base + 14 | . as $b
	| ([$run.begins, $run.ends] | map(map(select(. <= $run.seconds))) | . as [$begins, $ends]
		| $ends[] as $to | ([$begins[] | select(. <= $to)] | max) as $from | select($from != null)
		| "<rect x=\"\(x($from))\" y=\"\($b)\" width=\"\([x($to) - x($from), 1.5] | max | to1)\" height=\"\($high)\" fill=\"#1f6feb\" opacity=\"0.14\"/>"),
	((10, 100, 1000, 10000, 100000, 1000000) | . as $us | line($left; y($us; $b); $left + $wide; y($us; $b); "#ddd"; ""),
		text($left - 6; y($us; $b) + 4; 11; "end"; "#666"; if $us < 1000 then "\($us) µs" elif $us < 1000000 then "\($us / 1000) ms" else "1 s" end)),
	line($left; y($run.limit_us; $b); $left + $wide; y($run.limit_us; $b); "#c33"; "stroke-dasharray=\"4 3\""),
	text($left + $wide; y($run.limit_us; $b) - 4; 11; "end"; "#c33"; "ten times a device's slowest"),
	(({name: "p99_us", colour: "#1f6feb"}, {name: "max_us", colour: "#444"}) | . as $kind
		| "<polyline fill=\"none\" stroke=\"\($kind.colour)\" stroke-width=\"1.2\" points=\"\([$run.bins[] | "\(x(.at_s - $run.bin_s / 2)),\(y(.[$kind.name]; $b))"] | join(" "))\"/>"),
	(range(0; $run.seconds; if $run.seconds > 8 then 2 else 1 end) | text(x(.); $b + $high + 14; 11; "middle"; "#666"; "\(.) s")))),
($top + $each * ($runs | length) + 14 | . as $y
	| line(70; $y - 4; 94; $y - 4; "#444"; ""), text(100; $y; 12; "start"; "#222"; "longest"), line(180; $y - 4; 204; $y - 4; "#1f6feb"; ""), text(210; $y; 12; "start"; "#222"; "p99, of each tenth of a second")),
"</svg>"
