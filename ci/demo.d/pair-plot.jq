# The report of a pair's demonstration as an SVG: the host's throughput, what is left to be copied, and what happened when.
def escape: tostring | gsub("&"; "&amp;") | gsub("<"; "&lt;");
def to1: . * 10 | round / 10;
def text($x; $y; $size; $anchor; $colour; $words):
	"<text x=\"\($x | to1)\" y=\"\($y | to1)\" font-size=\"\($size)\" text-anchor=\"\($anchor)\" fill=\"\($colour)\">\($words | escape)</text>";
def line($x1; $y1; $x2; $y2; $colour; $more):
	"<line x1=\"\($x1 | to1)\" y1=\"\($y1 | to1)\" x2=\"\($x2 | to1)\" y2=\"\($y2 | to1)\" stroke=\"\($colour)\" \($more)/>";
def polyline($colour; $points): "<polyline fill=\"none\" stroke=\"\($colour)\" stroke-width=\"1.4\" points=\"\($points | join(" "))\"/>";
# The next larger of 10, 20, 50, 100, …
def round_up: . as $n | first((1, 10, 100, 1000) as $power | (10, 20, 50) | . * $power | select(. >= $n));
.timeline as $t | $t.bin_s as $bin | ([$t.mib_per_second | length * $bin] + [$t.events[].at_s] | max) as $seconds
| ([$t.mib_per_second[], 1] | max | round_up) as $most | ([$t.left[].mib, 1] | max | round_up) as $most_left
| 60 as $x0 | 840 as $wide | 90 as $y0 | 260 as $high | ($y0 + $high) as $base
| ($base + 52 + 17 * ($t.events | length)) as $height
| def x($s): $x0 + $wide * $s / $seconds;
"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\"\($height)\" viewBox=\"0 0 960 \($height)\" font-family=\"DejaVu Sans, Helvetica, sans-serif\">",
"<rect width=\"960\" height=\"\($height)\" fill=\"white\"/>",
text(20; 32; 19; "start"; "#222"; .title),
text(20; 54; 12; "start"; "#666"; "\(.machine.cpu), Linux \(.machine.kernel); leases of \(.lease_s) s"),
text(20; 71; 12; "start"; "#1f6feb"; "MiB/s acknowledged to the host, by tenths of a second"),
text(940; 71; 12; "end"; "#d1671f"; "MiB still to be copied to the other node"),
((0, 0.25, 0.5, 0.75, 1) | . as $part | line($x0; $base - $high * $part; $x0 + $wide; $base - $high * $part; "#ddd"; ""),
	text($x0 - 6; $base - $high * $part + 4; 11; "end"; "#1f6feb"; $most * $part | to1),
	text($x0 + $wide + 6; $base - $high * $part + 4; 11; "start"; "#d1671f"; $most_left * $part | to1)),
(range(0; $seconds; 5) | text(x(.); $base + 16; 11; "middle"; "#666"; "\(.) s")),
($t.events | to_entries[] | .key as $i | .value as $event
	| line(x($event.at_s); $y0; x($event.at_s); $base; "#999"; "stroke-dasharray=\"4 3\""),
	text(x($event.at_s) - 3; $y0 + 10 + 12 * ($i % 3); 11; "end"; "#444"; $i + 1),
	text($x0; $base + 42 + 17 * $i; 12; "start"; "#222"; "\($i + 1).  \($event.at_s | to1) s  \($event.what)")),
polyline("#d1671f"; [$t.left[] | "\(x(.at_s) | to1),\($base - $high * .mib / $most_left | to1)"]),
polyline("#1f6feb"; [$t.mib_per_second | to_entries[] | "\(x(.key * $bin) | to1),\($base - $high * ([.value, $most] | min) / $most | to1)"]),
"</svg>"
