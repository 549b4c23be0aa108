/* SPDK 20.07 on one side, 24.01 or later on the other. */
#ifndef TL_SPDK_COMPAT_H
#define TL_SPDK_COMPAT_H

#include <spdk/stdinc.h>
#include <spdk/version.h>

#define TL_SPDK_LEGACY (SPDK_VERSION < SPDK_VERSION_NUM(24, 1, 0))

#endif
