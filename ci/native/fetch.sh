#!/usr/bin/env bash
# Fetches the sources of the default native libraries: SPDK 20.07 and the DPDK inside it, which Debian carries in its
# source package `ceph`. Usage: fetch.sh <empty directory>; leaves <directory>/spdk behind.
#
# Uses the machine's own apt configuration (mirrors, proxies, keys) through temporary lists, and leaves it unchanged.
set -euo pipefail

dir=$1
mkdir -p "$dir"/{lists/partial,cache/archives/partial,parts}
apt=(apt-get -q -o APT::Sandbox::User=root -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$dir/parts"
	-o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir/cache")

# shellcheck disable=SC1091
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")

# Where this machine gets Debian's main archive from (either format of apt's sources; not the security archive).
# The single-quoted $(…) are apt's.
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT) $(ORIGIN) $(LABEL)' 'Created-By: Packages' |
	awk '$2 == "main" && $3 == "Debian" && $4 == "Debian" { print $1; exit }')
if [ -z "$site" ]; then
	echo "no Debian archive (Origin: Debian, component main) among the configured apt sources"
	exit 3
fi
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# The release at hand first, then later ones: a mirror need not keep the old source.
for suite in "$codename" stable testing unstable; do
	echo "-- trying suite $suite"
	{
		echo "Types: deb-src"
		echo "URIs: $site"
		echo "Suites: $suite"
		echo "Components: main"
		[ ! -r "$keyring" ] || echo "Signed-By: $keyring"
	} >"$dir/parts/source.sources"
	"${apt[@]}" update || continue
	(cd "$dir" && "${apt[@]}" source --download-only --tar-only ceph) || continue
	tarball=$(find "$dir" -maxdepth 1 -name 'ceph_*.orig.tar.*' ! -name '*.asc' | head -n 1)
	[ -n "$tarball" ] || continue
	echo "-- extracting $tarball"
	rm -rf "$dir/spdk"
	tar -C "$dir" -xf "$tarball" --wildcards '*/src/spdk' --strip-components=2 || true
	rm -f "$tarball"
	if grep -qs 'SPDK_VERSION_MAJOR[[:space:]]*20$' "$dir/spdk/include/spdk/version.h" &&
		grep -qs 'SPDK_VERSION_MINOR[[:space:]]*7$' "$dir/spdk/include/spdk/version.h" &&
		[ -f "$dir/spdk/dpdk/meson.build" ]; then
		echo "-- SPDK 20.07 found in $suite"
		exit 0
	fi
	echo "-- no SPDK 20.07 in that one"
done
echo "no suite serves a source package with SPDK 20.07 in it"
exit 4
