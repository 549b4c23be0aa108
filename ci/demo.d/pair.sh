# shellcheck shell=bash
# Sourced by ci/demo: a mirrored pair in namespaces. What happens in it is in ci/lab/examples/pair.
: "${root:?}" "${dir:?}" "${LOG:?}" "${release:?}"

IMAGE_MIB=256

run "building the host" "The log has the compiler's words." \
	cargo build --release --locked -p lab --example pair
# A file system with real files: the native libraries.
run "making a file system" "e2fsprogs is among the packages that ci/setup installs." \
	mke2fs -q -t ext4 -F -d "$("$root/ci/setup" --print-prefix)" "$dir/image" ${IMAGE_MIB}M

# Volumes and logs are files in memory, which outlive the programs. On a file system of a drive the kernel ends direct writes in workers of
# the cores, which nodes poll: on a busy machine they wait for seconds.
place=$(mktemp -d)
trap 'umount -l "$place" 2>>"$LOG"; rmdir "$place"' EXIT
mount -t tmpfs -o size=1g,mode=700 none "$place" || die "cannot mount a tmpfs: run this as root, in a container with CAP_SYS_ADMIN."

say "Two appliances that keep the same volume, an etcd, and a host that goes to whichever serves:"
status=0
"$release/examples/pair" demo "$dir/run" "$dir/image" "$place" 2> >(tee -a "$LOG" >&2) | tee -a "$LOG" || status=$?
[ -e "$dir/run/report.json" ] || die "the demonstration did not come to its end: see above."
jq --arg title "A node is killed, the other one takes over, the first comes back: $IMAGE_MIB MiB of a file system" \
	--arg cpu "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" --arg cores "$(nproc)" --arg kernel "$(uname -r)" \
	'{title: $title, machine: {cpu: $cpu, cores: $cores, kernel: $kernel, link: "packet sockets, veth, MTU 1500, no offloads",
		device: "files in memory"}} + .' "$dir/run/report.json" >"$dir/report.json"
jq -r -f "$root/ci/demo.d/pair.jq" "$dir/report.json" >"$dir/report.txt"
jq -r -f "$root/ci/demo.d/pair-plot.jq" "$dir/report.json" >"$dir/report.svg"
# Etcd's data: what the programs said stays.
rm -rf "$dir/image" "$dir/run/etcd"
echo
cat "$dir/report.txt"
[ "$status" -eq 0 ] || die "something that was compared is not what was written."
say "The report is in $dir: report.json, report.txt, report.svg; the log is $LOG."
