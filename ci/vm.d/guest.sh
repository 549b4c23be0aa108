# shellcheck shell=bash disable=SC2034
# What a guest is made of: Debian's kernel, and initramfs archives that are put together at boot. Sourced by ci/vm.
#
#   base        static busybox, the kernel's modules that the scenarios load, and init: every guest
#   initiator   nvme-cli, fio, e2fsprogs, xfsprogs and the like, as this machine has them: the client
#   system      systemd and dpkg, as this machine has them: for the appliance that docs/deploy.md describes
#   appliance   the program and what it links to
#
# Scenarios that say `newer_kernel` have Debian's kernel of its next release, too, which has what its own has not: newer-base. Those that say
# `$tls_tools` have that release's nvme-cli and tlshd: tls-tools. For `newest_kernel` and `$newest_tools` it is the same of Debian's testing.
#
# The kernels and the first three are cached, under a name that changes when what they are made from does.

: "${root:?}" "${cache:?}"

# Modules by name; what they depend on comes along.
modules=(virtio_pci virtio_console virtio_blk virtio_net e1000e
	uio_pci_generic vfio-pci vfio_iommu_type1
	nvme nvme-tcp crc32c_generic crc32c_intel libcrc32c ext4 xfs nls_ascii)

# Modules of the newer kernel besides.
newer_modules=(nvme-auth dh_generic hmac sha256_generic sha512_generic drbd tls gcm ctr ghash-generic ghash-clmulni-intel aesni-intel)

# Programs of the client guest, from the packages in ci/lib/packages.
initiator=(nvme fio mkfs.ext4 e2fsck dumpe2fs mkfs.xfs xfs_repair sfdisk partx)

# Programs and units of the guest that runs systemd.
system=(/usr/lib/systemd/systemd /usr/lib/systemd/systemd-{sysctl,modules-load,journald,shutdown} systemctl systemd-analyze journalctl
	dpkg dpkg-deb dpkg-split dpkg-query tar start-stop-daemon ldconfig)
units=({basic,sysinit,multi-user,sockets,timers,paths,slices,local-fs,local-fs-pre,swap,network-pre,shutdown,umount,final}.target
	systemd-sysctl.service systemd-modules-load.service systemd-journald{.service,.socket,-dev-log.socket})

# kernel_fetch: downloads Debian's kernel package (once) and prints where it is.
kernel_fetch() {
	local name held
	held=$(find "$cache" -maxdepth 1 -name 'linux-image-*.deb' -print -quit)
	if [ -z "$held" ]; then
		name=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-\)/\1/p' | head -n 1)
		if [ -z "$name" ] || ! (cd "$cache" && apt-get -q -o APT::Sandbox::User=root download "$name") >&2; then
			kernel_fetch_afresh >&2
		fi
		held=$(find "$cache" -maxdepth 1 -name 'linux-image-*.deb' -print -quit)
	fi
	echo "$held"
}

# The same with apt lists of our own, for a machine whose lists are missing or out of date.
kernel_fetch_afresh() {
	local lists=$cache/lists name apt
	mkdir -p "$lists/partial"
	apt=(-q -o APT::Sandbox::User=root -o "Dir::State::Lists=$lists" -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=")
	apt-get "${apt[@]}" update
	name=$(apt-cache "${apt[@]}" depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-\)/\1/p' | head -n 1)
	(cd "$cache" && apt-get "${apt[@]}" download "${name:-linux-image-amd64}")
	rm -rf "$lists"
}

# newer_kernel_fetch: the same for the kernel of Debian's next release, as its security archive has it.
newer_kernel_fetch() {
	local name held
	mkdir -p "$cache/newer"
	held=$(find "$cache/newer" -maxdepth 1 -name 'linux-image-*.deb' -print -quit)
	if [ -z "$held" ]; then
		name=$(apt-cache search --names-only '^linux-image-6\.12\.[0-9]+\+deb12-amd64$' 2>/dev/null | cut -d ' ' -f 1 | sort -V | tail -n 1)
		[ -z "$name" ] || (cd "$cache/newer" && apt-get -q -o APT::Sandbox::User=root download "$name") >&2
		held=$(find "$cache/newer" -maxdepth 1 -name 'linux-image-*.deb' -print -quit)
	fi
	echo "$held"
}

# kernel_unpack DIR DEB...: leaves DIR/vmlinuz and DIR/lib/modules/VERSION with the modules named above.
kernel_unpack() {
	local dir=$1 deb tree version path
	tree=$(mktemp -d "$cache/kernel.XXXXXX")
	for deb in "${@:2}"; do dpkg-deb -x "$deb" "$tree"; done
	version=$(basename "$(find "$tree/lib/modules" "$tree/usr/lib/modules" -mindepth 1 -maxdepth 1 -print -quit 2>/dev/null)")
	[ -d "$tree/lib" ] || mv "$tree/usr/lib" "$tree/lib"
	busybox depmod -b "$tree" "$version"
	mkdir -p "$dir"
	mv "$(find "$tree" -type f -name 'vmlinuz*' -print -quit)" "$dir/vmlinuz"
	module_closure "$tree/lib/modules/$version" | while read -r path; do
		install -D -m 644 "$tree/lib/modules/$version/$path" "$dir/lib/modules/$version/$path"
		case $path in *.xz) xz -d "$dir/lib/modules/$version/$path" ;; esac
	done
	find "$tree/lib/modules/$version" -maxdepth 1 \( -name modules.builtin -o -name modules.order \) -exec cp {} "$dir/lib/modules/$version/" \;
	busybox depmod -b "$dir" "$version"
	rm -rf "$tree"
}

# Paths of the modules wanted and of all they need, from modules.dep.
module_closure() {
	awk -v wanted="${modules[*]}" '
		function stem(path) { gsub(/.*\/|\.ko(\..*)?$/, "", path); gsub(/-/, "_", path); return path }
		{ sub(/:/, "", $1); path[stem($1)] = $1; all[$1] = $0 }
		END {
			n = split(wanted, names, " ")
			for (i = 1; i <= n; i++) {
				gsub(/-/, "_", names[i])
				if (!(names[i] in path)) continue # built in
				m = split(all[path[names[i]]], parts, " ")
				for (j = 1; j <= m; j++) if (!seen[parts[j]]++) print parts[j]
			}
		}' "$1/modules.dep"
}

# programs DIR FILE...: copies programs into DIR with the libraries they link to, all under usr/ (as merged-usr has it).
programs() {
	local dir=$1 file
	shift
	{
		printf '%s\n' "$@"
		ldd "$@" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/lib[^ ]*\) (.*/\1/p'
	} | sort -u | while read -r file; do
		install -D "$file" "$dir/$(usr_path "$file")"
	done
	# Loaded by glibc at run time, when a thread is cancelled.
	install -D -m 644 /lib/x86_64-linux-gnu/libgcc_s.so.1 "$dir/usr/lib/x86_64-linux-gnu/libgcc_s.so.1"
}

usr_path() {
	case $1 in
	/usr/*) echo "${1#/}" ;;
	/lib*/* | /bin/* | /sbin/*) echo "usr$1" ;;
	*) echo "usr/bin/$(basename "$1")" ;;
	esac
}

# archive DIR FILE: an initramfs archive of a directory.
archive() {
	(cd "$1" && find . -mindepth 1 | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >"$2.part"
	mv "$2.part" "$2"
}

build_base() {
	local tree=$1 kernel=$2 dir
	mkdir -p "$tree"/{dev,proc,sys,run,tmp,var/tmp,etc,root,mnt,usr/{bin,sbin,lib,lib64}}
	for dir in bin sbin lib lib64; do ln -s "usr/$dir" "$tree/$dir"; done
	cp "$(command -v busybox)" "$tree/usr/bin/busybox"
	cp -r "$kernel/lib/modules" "$tree/usr/lib/modules"
	install -m 755 "$root/ci/vm.d/init" "$tree/init"
	echo 'root:x:0:0:root:/root:/bin/sh' >"$tree/etc/passwd"
}

build_initiator() {
	local tree=$1 name found=()
	for name in "${initiator[@]}"; do
		found+=("$(PATH=$PATH:/usr/sbin:/sbin command -v "$name")") || die "There is no $name here: run ci/setup as root."
	done
	programs "$tree" "${found[@]}"
	gcc -O2 -Wall -o "$tree/usr/bin/exercise" "$root/ci/vm.d/exercise.c"
	gcc -O2 -Wall -pthread -o "$tree/usr/bin/witness" "$root/ci/vm.d/witness.c"
	install -D -m 644 /etc/mke2fs.conf "$tree/etc/mke2fs.conf"
}

build_system() {
	local tree=$1 name found=() path
	for name in "${system[@]}"; do
		path=$(PATH=$PATH:/usr/sbin:/sbin command -v "$name") || die "There is no $name here: run ci/setup as root."
		found+=("$path")
	done
	programs "$tree" "${found[@]}"
	mkdir -p "$tree"/usr/lib/systemd/system/{sysinit,multi-user}.target.wants "$tree"/var/{lib,log,tmp} "$tree/etc/systemd"
	for name in "${units[@]}"; do cp "/usr/lib/systemd/system/$name" "$tree/usr/lib/systemd/system/"; done
	for name in systemd-sysctl.service systemd-journald.service; do
		ln -s "../$name" "$tree/usr/lib/systemd/system/sysinit.target.wants/$name"
	done
	ln -s multi-user.target "$tree/usr/lib/systemd/system/default.target"
	cp /etc/os-release "$tree/etc/os-release"
	: >"$tree/etc/machine-id"
	printf '%s:x:%s:\n' root 0 tty 5 disk 6 systemd-journal 900 >"$tree/etc/group"
}

# forget GLOB: what no run has used for a day; another tree's run may be using a younger one.
forget() { find "$cache" -maxdepth 1 -name "$1" -mmin +1440 -exec rm -rf {} +; }

# cached NAME KEY BUILDER ARGUMENT...: the archive NAME, built by BUILDER unless one for the same KEY is there.
cached() {
	local name=$1 key=$2 file tree
	shift 2
	file=$cache/$name-$(sha256sum <<<"$key" | cut -c1-12).cpio
	if [ ! -e "$file" ]; then
		tree=$(mktemp -d "$cache/$name.XXXXXX")
		"$1" "$tree" "${@:2}"
		forget "$name-*.cpio"
		archive "$tree" "$file"
		rm -rf "$tree"
	fi
	touch "$file"
	echo "$file"
}

# prepare_guests PROGRAM: everything a boot needs, into the variables below.
prepare_guests() {
	local deb key lock
	mkdir -p "$cache"
	exec {lock}>"$cache/lock"
	flock "$lock"
	deb=$(kernel_fetch)
	[ -n "$deb" ] || die "Debian's kernel could not be fetched: is there a network, and does /etc/apt name a Debian mirror?"
	key=$(cat "$root"/ci/vm.d/{guest.sh,init,exercise.c,witness.c} | sha256sum && basename "$deb")
	kernel=$cache/kernel-$(sha256sum <<<"$key" | cut -c1-12)
	if [ ! -e "$kernel/vmlinuz" ]; then
		forget 'kernel-*'
		rm -rf "$kernel.part"
		kernel_unpack "$kernel.part" "$deb"
		mv "$kernel.part" "$kernel"
	fi
	touch "$kernel"
	base=$(cached base "$key" build_base "$kernel")
	key+=$(dpkg-query -W nvme-cli fio e2fsprogs xfsprogs libc6 busybox-static 2>/dev/null)
	client_tools=$(cached initiator "$key" build_initiator)
	system_tools=$(cached system "$key$(dpkg-query -W systemd dpkg tar)" build_system)
	exec {lock}>&-
}

# prepare_newer_kernel: for scenarios that boot the newer kernel, too.
prepare_newer_kernel() {
	local deb key lock
	exec {lock}>"$cache/lock"
	flock "$lock"
	deb=$(newer_kernel_fetch)
	[ -n "$deb" ] || die "No kernel 6.12 could be fetched: is there a network, and does /etc/apt name Debian's security archive?"
	key=$(cat "$root"/ci/vm.d/{guest.sh,init} | sha256sum && basename "$deb")
	newer_kernel=$cache/newer-kernel-$(sha256sum <<<"$key" | cut -c1-12)
	if [ ! -e "$newer_kernel/vmlinuz" ]; then
		forget 'newer-kernel-*'
		rm -rf "$newer_kernel.part"
		modules+=("${newer_modules[@]}")
		kernel_unpack "$newer_kernel.part" "$deb"
		mv "$newer_kernel.part" "$newer_kernel"
	fi
	touch "$newer_kernel"
	newer_base=$(cached newer-base "$key" build_base "$newer_kernel")
	exec {lock}>&-
}

# prepare_drbd: the programs of DRBD, as Debian has them: for scenarios that look at how others do it.
prepare_drbd() {
	local held lock
	exec {lock}>"$cache/lock"
	flock "$lock"
	held=$(find "$cache" -maxdepth 1 -name 'drbd-utils_*.deb' -print -quit)
	if [ -z "$held" ]; then
		(cd "$cache" && apt-get -q -o APT::Sandbox::User=root download drbd-utils) >&2
		held=$(find "$cache" -maxdepth 1 -name 'drbd-utils_*.deb' -print -quit)
	fi
	[ -n "$held" ] || die "drbd-utils could not be fetched: is there a network, and does /etc/apt name a Debian mirror?"
	drbd_tools=$(cached drbd "$(basename "$held")" build_drbd "$held")
	exec {lock}>&-
}

build_drbd() {
	local tree=$1 unpacked=$1.unpacked
	dpkg-deb -x "$2" "$unpacked"
	programs "$tree" "$unpacked"/sbin/drbd{adm,setup,meta} "$unpacked"/lib/drbd/drbd{adm,setup}-84
	# Where the first two look for those that go with an older module.
	mkdir -p "$tree/usr/lib/drbd"
	mv "$tree"/usr/bin/drbd{adm,setup}-84 "$tree/usr/lib/drbd/"
	rm -rf "$unpacked"
}

# fetch_packages SUITE NAME...: directory of packages of one of Debian's releases, and all that they need, by lists of our own and as if nothing
# were installed. They change with the release: they are fetched once a week. Status 1 when they cannot be had.
fetch_packages() {
	local suite=$1 dir apt
	find "$cache" -maxdepth 1 -name "packages-$suite" -mtime +7 -exec rm -rf {} +
	if [ ! -e "$cache/packages-$suite" ]; then
		dir=$(mktemp -d "$cache/packages.XXXXXX")
		mkdir -p "$dir"/{lists,cache/archives}/partial
		: >"$dir/status"
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" >"$dir/sources.list"
		apt=(-q -y -o APT::Sandbox::User=root -o APT::Install-Recommends=false -o "Dir::State=$dir" -o "Dir::State::Lists=$dir/lists"
			-o "Dir::State::status=$dir/status" -o "Dir::Cache=$dir/cache" -o "Dir::Etc::SourceList=$dir/sources.list"
			-o Dir::Etc::SourceParts=/dev/null -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null)
		if apt-get "${apt[@]}" update >&2 && apt-get "${apt[@]}" --download-only install "${@:2}" >&2; then
			mv "$dir/cache/archives" "$cache/packages-$suite"
		fi
		rm -rf "$dir"
	fi
	[ -e "$cache/packages-$suite" ] && echo "$cache/packages-$suite"
}

# prepare_tls: a host's user land for TLS, which Debian's own release has not: nvme-cli that knows PSKs, and tlshd. What they link to, libc
# included, is of their release, too. tls_tools stays empty where they cannot be had.
prepare_tls() {
	local packages lock
	exec {lock}>"$cache/lock"
	flock "$lock"
	if packages=$(fetch_packages trixie nvme-cli ktls-utils); then
		tls_tools=$(cached tls-tools "$(sha256sum <"$root/ci/vm.d/guest.sh") $(ls "$packages")" build_tls "$packages")
	fi
	exec {lock}>&-
}

# prepare_newest: the same as Debian's testing has it, and its kernel.
prepare_newest() {
	local packages key lock
	exec {lock}>"$cache/lock"
	flock "$lock"
	if packages=$(fetch_packages testing nvme-cli ktls-utils linux-image-amd64 tiny-initramfs); then
		key=$(cat "$root"/ci/vm.d/{guest.sh,init} | sha256sum && ls "$packages")
		newest_kernel=$cache/newest-kernel-$(sha256sum <<<"$key" | cut -c1-12)
		if [ ! -e "$newest_kernel/vmlinuz" ]; then
			forget 'newest-kernel-*'
			rm -rf "$newest_kernel.part"
			(modules+=("${newer_modules[@]}") && kernel_unpack "$newest_kernel.part" "$packages"/linux-{image,binary,modules}-*.deb)
			mv "$newest_kernel.part" "$newest_kernel"
		fi
		touch "$newest_kernel"
		newest_base=$(cached newest-base "$key" build_base "$newest_kernel")
		newest_tools=$(cached newest-tools "$key" build_tls "$packages")
	fi
	exec {lock}>&-
}

# Each program is started by the loader of its release, which finds its libraries beside it.
build_tls() {
	local tree=$1 unpacked=$1.unpacked deb name library file
	for deb in "$2"/*.deb; do
		case $deb in */linux-*) ;; *) dpkg-deb -x "$deb" "$unpacked" ;; esac
	done
	mkdir -p "$tree"/usr/{bin,sbin,lib/newer}
	library=$unpacked/usr/lib/x86_64-linux-gnu
	for name in nvme tlshd; do
		cp "$unpacked/usr/sbin/$name" "$tree/usr/lib/newer/"
		"$library/ld-linux-x86-64.so.2" --library-path "$library" --list "$unpacked/usr/sbin/$name" |
			sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | while read -r file; do cp -L "$file" "$tree/usr/lib/newer/"; done
		# Before that of this machine's release in PATH.
		cat >"$tree/usr/sbin/$name" <<-END
			#!/bin/sh
			exec /usr/lib/newer/ld-linux-x86-64.so.2 --library-path /usr/lib/newer /usr/lib/newer/$name "\$@"
		END
		chmod 755 "$tree/usr/sbin/$name"
	done
	rm -rf "$unpacked"
}

# prepare_program FILE TREE: the appliance's own archive, from the program just built.
prepare_program() {
	local file=$1 tree=$2
	mkdir -p "$tree"
	programs "$tree" "$file"
	[ "${file##*/}" = throughline ] || mv "$tree/$(usr_path "$file")" "$tree/usr/bin/throughline"
	appliance_tools=$tree.cpio
	archive "$tree" "$appliance_tools"
	rm -rf "$tree"
}

# qemu_with_sgls VALUE: prints the path of a QEMU whose NVMe controller reports VALUE in the SGLS field of Identify Controller:
# 0 takes PRPs only, 2 wants dword-aligned lists. QEMU has no switch for it, so a copy of the program gets another constant:
# in the function that fills Identify Controller, the store to SGLS (byte 536) lies behind the one to VER (byte 80, version
# 1.4). Status 1 when this QEMU's code looks different.
qemu_with_sgls() {
	local original file
	original=$(readlink -f "$(command -v qemu-system-x86_64)")
	file=$cache/qemu-sgls$1-$(sha256sum "$original" | cut -c1-12)
	if [ ! -x "$file" ]; then
		forget "qemu-sgls$1-*"
		# shellcheck disable=SC2016
		perl -0777 -pe '
			BEGIN { $sgls = shift; $found = 0 }
			s{(\xc7[\x80-\x87]) (....) (\x00\x04\x01\x00 .{0,500}?) (\xc7[\x80-\x87]) (....) ([\x01-\x03]\x00.\x00)}{
				my ($ver, $at) = (unpack("V", $2), unpack("V", $5));
				my $hit = $at - $ver == 536 - 80;
				$found += $hit;
				"$1$2$3$4$5" . ($hit ? pack("V", $sgls) : $6)
			}gsex;
			END { exit($found == 1 ? 0 : 1) }' "$1" "$original" >"$file.part" || {
			rm -f "$file.part"
			return 1
		}
		chmod +x "$file.part"
		mv "$file.part" "$file"
	fi
	touch "$file"
	echo "$file"
}
