#!/usr/bin/env bash
# Builds the default native libraries from their sources. Usage: build.sh <sources: spdk/> <prefix> <stage> dpdk|spdk
# Installs under <stage><prefix>; the caller moves it into place. This file, with fetch.sh, is the recipe whose hash
# names the cached prefix: a change here means a new build.
set -euo pipefail

src=$1 prefix=$2 stage=$3 step=$4
jobs=$(nproc)
out=$stage$prefix

# Portable code (SSE4.2), because the result is cached; frame pointers and line tables for perf.
arch=corei7
flags="-fno-omit-frame-pointer -g1"

drivers=(bus bus/pci bus/vdev mempool mempool/ring common common/iavf net
	net/af_packet net/null net/ring net/pcap net/tap net/memif net/virtio
	net/e1000 net/ixgbe net/i40e net/iavf net/ice net/ena net/vmxnet3)
# Libraries that those drivers use, and that SPDK's copy of DPDK switches off.
libraries=(gso security timer stack gro ip_frag rcu)

build_dpdk() {
	local l d disabled=()
	cd "$src/dpdk"
	for l in "${libraries[@]}"; do
		sed -i "/^build = false/d; /^reason = 'not needed by SPDK'/d" "lib/librte_$l/meson.build"
	done
	while read -r d; do
		case " ${drivers[*]} " in *" $d "*) ;; *) disabled+=("$d") ;; esac
	done < <(cd drivers && find . -mindepth 2 -maxdepth 2 -type d -printf '%P\n')
	meson setup --prefix="$prefix" --libdir=lib --buildtype=debugoptimized -Dmachine=$arch -Dtests=false \
		-Dc_args="-fPIC -Wno-error -Wno-stringop-overflow -fcommon $flags" \
		-Ddisable_drivers="$(IFS=, && echo "${disabled[*]}")" "$src/dpdk-build"
	# Drivers are linked in: the EAL must not load them a second time. And no dependency on libbsd.
	sed -i 's/#define RTE_EAL_PMD_PATH .*/#define RTE_EAL_PMD_PATH ""/; /#define RTE_USE_LIBBSD/d' \
		"$src/dpdk-build/rte_build_config.h"
	DESTDIR=$stage ninja -j "$jobs" -C "$src/dpdk-build" install
	# Only the static libraries are used.
	rm -rf "$out"/lib/librte_*.so* "$out"/lib/dpdk
}

patch_spdk() {
	cd "$src"
	# An NVMe/TCP command always carries one descriptor, however many pieces the host's memory is in; this version's
	# initiator takes the one for the other and refuses lists. Its PDUs have room for 14 pieces.
	sed -i '/^nvme_tcp_ctrlr_get_max_sges/,/^}/ s/return 1;/return 14;/' lib/nvme/nvme_tcp.c
	sed -i 's/if (ctrlr->cdata.nvmf_specific.msdbd != 0) {/if (ctrlr->cdata.nvmf_specific.msdbd != 0 \&\& ctrlr->trid.trtype != SPDK_NVME_TRANSPORT_TCP) {/' \
		lib/nvme/nvme_ctrlr.c
	grep -q 'return 14;' lib/nvme/nvme_tcp.c
	grep -q 'SPDK_NVME_TRANSPORT_TCP) {' lib/nvme/nvme_ctrlr.c
}

build_spdk() {
	cd "$src"
	export CFLAGS="-DHAVE_ARC4RANDOM $flags"
	./configure --prefix="$prefix" --target-arch=$arch --with-dpdk="$out" --disable-tests --disable-unit-tests \
		--without-vhost --without-virtio
	make -j "$jobs"
	make -C test/bdev/bdevperf
}

install_spdk() {
	cd "$src"
	install -d "$out"/{bin,include,lib/pkgconfig,share/spdk}
	cp -a build/lib/libspdk_*.a isa-l/.libs/libisal.a "$out/lib/"
	rm -f "$out"/lib/libspdk_ut_mock.a
	cp -a include/spdk include/spdk_internal "$out/include/"
	install -m 755 build/bin/{spdk_dd,spdk_tgt,nvmf_tgt} test/bdev/bdevperf/bdevperf "$out/bin/"
	install -m 755 build/examples/identify "$out/bin/spdk_nvme_identify"
	install -m 755 build/examples/perf "$out/bin/spdk_nvme_perf"
	cp -a scripts/rpc.py scripts/rpc "$out/share/spdk/"
	ln -s ../share/spdk/rpc.py "$out/bin/rpc.py"
	local lib name
	for lib in build/lib/libspdk_*.a; do
		name=$(basename "$lib" .a)
		name=${name#lib}
		write_pc "$name" "-l$name"
	done
	write_pc spdk_syslibs "-lisal -luuid -laio -lnuma -lcrypto -lpthread -ldl -lrt -lm"
}

write_pc() {
	{
		# shellcheck disable=SC2016
		printf 'prefix=${pcfiledir}/../..\n'
		printf 'Name: %s\nDescription: SPDK library %s\nVersion: 20.07\n' "$1" "$1"
		# shellcheck disable=SC2016
		printf 'Libs: -L${prefix}/lib %s\nCflags: -I${prefix}/include\n' "$2"
	} >"$out/lib/pkgconfig/$1.pc"
}

# One step per call, so that the caller can show which one is running (not `a && b`: that would switch errexit off).
case $step in
dpdk) build_dpdk ;;
spdk)
	patch_spdk
	build_spdk
	install_spdk
	;;
esac
