/* Shared by the shim's C files; not seen by Rust. */
#ifndef TL_SPDK_INTERNAL_H
#define TL_SPDK_INTERNAL_H

#include "compat.h"
#include "shim.h"

#include <spdk/likely.h>
#include <spdk/nvme_spec.h>
#include <sys/uio.h>

_Static_assert(sizeof(struct tl_iovec) == sizeof(struct iovec), "an iovec by another name");
_Static_assert(offsetof(struct tl_iovec, base) == offsetof(struct iovec, iov_base), "an iovec by another name");
_Static_assert(offsetof(struct tl_iovec, len) == offsetof(struct iovec, iov_len), "an iovec by another name");

/* The list adds up to exactly `bytes`, and has no empty element. */
static inline bool tl_adds_up(const struct tl_iovec *iov, uint32_t iovcnt, uint64_t bytes)
{
	uint64_t sum = 0;
	uint32_t i;

	for (i = 0; i < iovcnt; i++) {
		if (iov[i].len == 0 || iov[i].len > bytes - sum) {
			return false;
		}
		sum += iov[i].len;
	}
	return iovcnt != 0 && sum == bytes;
}

static inline int32_t tl_status_errno(int32_t sct, int32_t sc)
{
	if (sct == SPDK_NVME_SCT_GENERIC) {
		switch (sc) {
		case SPDK_NVME_SC_SUCCESS:
			return 0;
		case SPDK_NVME_SC_ABORTED_BY_REQUEST:
		case SPDK_NVME_SC_ABORTED_SQ_DELETION:
			return -ECANCELED;
		case SPDK_NVME_SC_LBA_OUT_OF_RANGE:
			return -ERANGE;
		case SPDK_NVME_SC_CAPACITY_EXCEEDED:
			return -ENOSPC;
		case SPDK_NVME_SC_INVALID_OPCODE:
			return -ENOTSUP;
		case SPDK_NVME_SC_INVALID_NAMESPACE_OR_FORMAT:
			return -ENXIO;
		default:
			return -EIO;
		}
	}
	return -EIO;
}

#endif
