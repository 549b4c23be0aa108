/* EAL, lcores, and the table of registered memory. */
#include "internal.h"

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_launch.h>
#include <rte_log.h>
#include <rte_memory.h>
#include <stdlib.h>
#include <string.h>

/* ---- EAL ---------------------------------------------------------------------------------------------------------- */

int32_t tl_eal_init(int32_t argc, char **argv)
{
	int rc;

	rte_errno = 0;
	rc = rte_eal_init(argc, argv);
	return rc >= 0 ? rc : (rte_errno != 0 ? -rte_errno : -EINVAL);
}

int32_t tl_eal_cleanup(void)
{
	return rte_eal_cleanup();
}

const char *tl_dpdk_version(void)
{
	return rte_version();
}

const char *tl_strerror(int32_t err)
{
	return rte_strerror(err < 0 ? -err : err);
}

void tl_dpdk_log_level(uint32_t level)
{
	rte_log_set_global_level(level);
}

uint32_t tl_lcore_next(uint32_t prev)
{
	unsigned int next = rte_get_next_lcore(prev == TL_LCORE_NONE ? UINT32_MAX : prev, 0, 0);

	return next >= RTE_MAX_LCORE ? TL_LCORE_NONE : next;
}

uint32_t tl_lcore_main(void)
{
	return tlc_main_lcore();
}

uint32_t tl_lcore_current(void)
{
	unsigned int id = rte_lcore_id();

	return id == LCORE_ID_ANY ? TL_LCORE_NONE : id;
}

int32_t tl_lcore_socket(uint32_t lcore)
{
	if (lcore >= RTE_MAX_LCORE || !rte_lcore_is_enabled(lcore)) {
		return 0;
	}
	return (int32_t)rte_lcore_to_socket_id(lcore);
}

int32_t tl_lcore_launch(uint32_t lcore, tl_lcore_fn fn, void *arg)
{
	if (lcore >= RTE_MAX_LCORE || !rte_lcore_is_enabled(lcore) || lcore == tlc_main_lcore()) {
		return -EINVAL;
	}
	return rte_eal_remote_launch(fn, arg, lcore);
}

int32_t tl_lcore_wait(uint32_t lcore)
{
	if (lcore >= RTE_MAX_LCORE || !rte_lcore_is_enabled(lcore)) {
		return -EINVAL;
	}
	return rte_eal_wait_lcore(lcore);
}

uint64_t tl_tsc(void)
{
	return rte_rdtsc();
}

uint64_t tl_tsc_hz(void)
{
	return rte_get_tsc_hz();
}

/* ---- Memory ------------------------------------------------------------------------------------------------------- */

struct region {
	uintptr_t base;
	uint64_t len; /* 0: free slot */
	uint32_t page_log2;
	rte_iova_t *iova; /* of each page */
};

/* Written by the control thread while no port runs, read by all. */
static struct region regions[16];

static const struct region *region_of(uintptr_t va, uint64_t len)
{
	unsigned int i;

	for (i = 0; i < RTE_DIM(regions); i++) {
		const struct region *r = &regions[i];

		if (va - r->base < r->len && len <= r->len - (va - r->base)) {
			return r;
		}
	}
	return NULL;
}

int32_t tl_extmem_register(void *va, uint64_t len, uint64_t page_size)
{
	struct region *r = NULL;
	uint64_t i, pages;
	int rc;

	if (page_size == 0 || (page_size & (page_size - 1)) != 0 || len == 0 || len % page_size != 0 ||
	    (uintptr_t)va % page_size != 0) {
		return -EINVAL;
	}
	for (i = 0; i < RTE_DIM(regions) && r == NULL; i++) {
		r = regions[i].len == 0 ? &regions[i] : NULL;
	}
	if (r == NULL) {
		return -ENOSPC;
	}
	pages = len / page_size;
	r->iova = calloc(pages, sizeof(*r->iova));
	if (r->iova == NULL) {
		return -ENOMEM;
	}
	for (i = 0; i < pages; i++) {
		r->iova[i] = rte_mem_virt2iova((uint8_t *)va + i * page_size);
		if (r->iova[i] == RTE_BAD_IOVA) {
			free(r->iova);
			r->iova = NULL;
			return -EFAULT;
		}
	}
	rc = rte_extmem_register(va, len, r->iova, (unsigned int)pages, page_size);
	if (rc != 0) {
		free(r->iova);
		r->iova = NULL;
		return tlc_error(rc);
	}
	r->base = (uintptr_t)va;
	r->page_log2 = (uint32_t)__builtin_ctzll(page_size);
	r->len = len;
	return 0;
}

int32_t tl_extmem_unregister(void *va, uint64_t len)
{
	unsigned int i;
	int rc;

	for (i = 0; i < RTE_DIM(regions); i++) {
		struct region *r = &regions[i];

		if (r->len == len && r->base == (uintptr_t)va && len != 0) {
			rc = rte_extmem_unregister(va, len);
			if (rc != 0) {
				return tlc_error(rc);
			}
			free(r->iova);
			memset(r, 0, sizeof(*r));
			return 0;
		}
	}
	return -ENOENT;
}

uint64_t tl_iova_range(const void *va, uint64_t len)
{
	const struct region *r = region_of((uintptr_t)va, len);
	uint64_t offset, mask;

	if (r == NULL) {
		return TL_BAD_IOVA;
	}
	offset = (uintptr_t)va - r->base;
	mask = (1ULL << r->page_log2) - 1;
	if (len != 0 && ((offset ^ (offset + len - 1)) & ~mask) != 0) {
		return TL_BAD_IOVA;
	}
	return r->iova[offset >> r->page_log2] + (offset & mask);
}

uint64_t tl_region_page(const void *va, uint64_t len)
{
	const struct region *r = region_of((uintptr_t)va, len);

	return r == NULL ? 0 : 1ULL << r->page_log2;
}

uint64_t tl_iova(const void *va)
{
	return tl_iova_range(va, 1);
}

uint64_t tl_virt2iova(const void *va)
{
	rte_iova_t iova = rte_mem_virt2iova(va);

	return iova == RTE_BAD_IOVA ? TL_BAD_IOVA : iova;
}

/* Device addresses differ from page to page, so a region is mapped page by page. */
static int32_t dma(uint16_t port, void *va, uint64_t len, bool map)
{
	struct rte_eth_dev_info info;
	uint64_t page = tl_region_page(va, len), done;
	int rc = rte_eth_dev_info_get(port, &info);

	if (rc != 0) {
		return rc;
	}
	if (page == 0 || (uintptr_t)va % page != 0 || len % page != 0) {
		return -EINVAL;
	}
	for (done = 0; done < len; done += page) {
		uint8_t *at = (uint8_t *)va + done;

		rte_errno = 0;
		rc = map ? rte_dev_dma_map(info.device, at, tl_iova(at), page)
			 : rte_dev_dma_unmap(info.device, at, tl_iova(at), page);
		if (rc != 0 && rte_errno == ENOTSUP) {
			return 0; /* a virtual device, or one without an IOMMU: nothing to map */
		}
		if (rc != 0 && rte_errno != EEXIST) {
			return tlc_error(rc);
		}
	}
	return 0;
}

int32_t tl_port_dma_map(uint16_t port, void *va, uint64_t len)
{
	return dma(port, va, len, true);
}

int32_t tl_port_dma_unmap(uint16_t port, void *va, uint64_t len)
{
	return dma(port, va, len, false);
}
