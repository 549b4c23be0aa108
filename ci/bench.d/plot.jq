# A report as an SVG: a pair of bars for each load, IOPS relative to the peer's, with the figures beside them.
def escape: gsub("&"; "&amp;") | gsub("<"; "&lt;");
def text($x; $y; $size; $anchor; $colour; $words):
	"<text x=\"\($x)\" y=\"\($y)\" font-size=\"\($size)\" text-anchor=\"\($anchor)\" fill=\"\($colour)\">\($words | escape)</text>";
def bar($x; $y; $w; $h; $colour): "<rect x=\"\($x)\" y=\"\($y)\" width=\"\($w)\" height=\"\($h)\" fill=\"\($colour)\" rx=\"2\"/>";
def k: if . >= 100000 then "\(. / 1000 | round)k" elif . >= 1000 then "\(. / 100 | round / 10)k" else "\(round)" end;
.peer as $peer | .loads as $loads
| ([$loads[] | (.ratio.iops // 0), 1] | max) as $most
| 230 as $at | (520 / $most) as $scale | 46 as $row | 96 as $top
| ($top + ($loads | length) * $row + 40) as $height
| "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"960\" height=\"\($height)\" viewBox=\"0 0 960 \($height)\" font-family=\"DejaVu Sans, Helvetica, sans-serif\">",
"<rect width=\"960\" height=\"\($height)\" fill=\"white\"/>",
text(20; 32; 19; "start"; "#222"; .title),
text(20; 54; 12; "start"; "#666"; "IOPS, relative to \($peer) = 1; \(.device) device; \(.wire)"),
text(20; 71; 12; "start"; "#666"; "\(.machine.cpu), Linux \(.machine.kernel); medians of \(.rounds) rounds"),
"<line x1=\"\($at + $scale)\" y1=\"\($top - 10)\" x2=\"\($at + $scale)\" y2=\"\($height - 34)\" stroke=\"#999\" stroke-dasharray=\"4 3\"/>",
($loads | to_entries[] | .key as $i | .value as $load | ($top + $i * $row) as $y
	| text($at - 10; $y + 20; 12; "end"; "#222"; "\($load.pattern) \($load.bytes / 1024) KiB, depth \($load.depth) × \($load.connections)"),
	bar($at; $y; ($load.ratio.iops // 0) * $scale; 16; "#1f6feb"),
	text($at + ($load.ratio.iops // 0) * $scale + 6; $y + 12; 11; "start"; "#1f6feb"; "\($load.throughline.iops | k) IOPS, p99 \($load.throughline.p99_us | round) µs — \(($load.ratio.iops // 0) * 100 | round / 100)×"),
	bar($at; $y + 18; $scale; 16; "#c9ced6"),
	text($at + $scale + 6; $y + 30; 11; "start"; "#666"; "\($load.peer.iops | k) IOPS, p99 \($load.peer.p99_us | round) µs")),
bar($at; $height - 24; 12; 12; "#1f6feb"), text($at + 18; $height - 14; 12; "start"; "#222"; "throughline"),
bar($at + 120; $height - 24; 12; 12; "#c9ced6"), text($at + 138; $height - 14; 12; "start"; "#222"; $peer),
"</svg>"
