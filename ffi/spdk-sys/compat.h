/* SPDK 20.07 on one side, 24.01 or later on the other. */
#ifndef TL_SPDK_COMPAT_H
#define TL_SPDK_COMPAT_H

#include <spdk/stdinc.h>
#include <spdk/version.h>

#define TL_SPDK_LEGACY (SPDK_VERSION < SPDK_VERSION_NUM(24, 1, 0))
/* 24.05 brought configuration from a buffer, and the controller's own word on the length of lists. */
#define TL_SPDK_BEFORE_2405 (SPDK_VERSION < SPDK_VERSION_NUM(24, 5, 0))

#endif
