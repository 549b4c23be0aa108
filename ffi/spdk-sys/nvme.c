/* NVMe controllers and queue pairs, without the block device layer. */
#include "internal.h"

#include <spdk/env.h>
#include <spdk/nvme.h>

struct tl_nvme_qpair {
	struct spdk_nvme_qpair *qpair;
	/* The controller's rules for lists of memory: */
	uint32_t max_segments;
	uint32_t page_mask; /* PRP: every inner edge of a list on a page; 0: no such rule */
	uint32_t unit_mask; /* addresses and lengths in dwords: 3; else 0 */
};

static struct spdk_nvme_ctrlr *in(struct tl_nvme_ctrlr *ctrlr)
{
	return (struct spdk_nvme_ctrlr *)ctrlr;
}

static struct spdk_nvme_ns *in_ns(struct tl_nvme_ns *ns)
{
	return (struct spdk_nvme_ns *)ns;
}

/* ---- Controllers -------------------------------------------------------------------------------------------------- */

int32_t tl_nvme_connect(const char *trid, const struct tl_nvme_opts *opts, struct tl_nvme_ctrlr **out)
{
	struct spdk_nvme_transport_id id;
	struct spdk_nvme_ctrlr_opts o;
	struct spdk_nvme_ctrlr *ctrlr;

	memset(&id, 0, sizeof(id));
	if (spdk_nvme_transport_id_parse(&id, trid) != 0) {
		return -EINVAL;
	}
	if (id.trtype != SPDK_NVME_TRANSPORT_PCIE && id.subnqn[0] == '\0') {
		snprintf(id.subnqn, sizeof(id.subnqn), "%s", SPDK_NVMF_DISCOVERY_NQN);
	}
	spdk_nvme_ctrlr_get_default_ctrlr_opts(&o, sizeof(o));
	if (opts != NULL) {
		if (opts->hostnqn != NULL) {
			snprintf(o.hostnqn, sizeof(o.hostnqn), "%s", opts->hostnqn);
		}
		o.keep_alive_timeout_ms = opts->keep_alive_ms != 0 ? opts->keep_alive_ms : o.keep_alive_timeout_ms;
		o.num_io_queues = opts->io_queues != 0 ? opts->io_queues : o.num_io_queues;
		o.io_queue_size = opts->queue_size != 0 ? opts->queue_size : o.io_queue_size;
		o.io_queue_requests = opts->queue_requests != 0 ? opts->queue_requests : o.io_queue_requests;
		o.header_digest = opts->header_digest != 0;
		o.data_digest = opts->data_digest != 0;
	}
	ctrlr = spdk_nvme_connect(&id, &o, sizeof(o));
	if (ctrlr == NULL) {
		return -ENODEV;
	}
	*out = (struct tl_nvme_ctrlr *)ctrlr;
	return 0;
}

int32_t tl_nvme_detach(struct tl_nvme_ctrlr *ctrlr)
{
	return spdk_nvme_detach(in(ctrlr));
}

/* NVMe's strings are padded with blanks. */
static void text(char *out, size_t out_len, const int8_t *from, size_t from_len)
{
	size_t n = from_len < out_len - 1 ? from_len : out_len - 1;

	memcpy(out, from, n);
	while (n > 0 && (out[n - 1] == ' ' || out[n - 1] == '\0')) {
		n--;
	}
	memset(out + n, 0, out_len - n);
}

static bool over_fabric(struct spdk_nvme_ctrlr *ctrlr)
{
	return spdk_nvme_ctrlr_get_transport_id(ctrlr)->trtype != SPDK_NVME_TRANSPORT_PCIE;
}

/* Takes lists of any shape: by its own word, or because a fabric sends the data along. */
static bool takes_lists(struct spdk_nvme_ctrlr *ctrlr)
{
	return over_fabric(ctrlr) || (spdk_nvme_ctrlr_get_flags(ctrlr) & SPDK_NVME_CTRLR_SGL_SUPPORTED) != 0;
}

static bool wants_dwords(struct spdk_nvme_ctrlr *ctrlr)
{
	return !over_fabric(ctrlr) &&
	       (spdk_nvme_ctrlr_get_flags(ctrlr) & SPDK_NVME_CTRLR_SGL_REQUIRES_DWORD_ALIGNMENT) != 0;
}

static uint32_t min_page(struct spdk_nvme_ctrlr *ctrlr)
{
	return 1u << (12 + spdk_nvme_ctrlr_get_regs_cap(ctrlr).bits.mpsmin);
}

static uint32_t max_segments(struct spdk_nvme_ctrlr *ctrlr)
{
	uint32_t n;

	if (!takes_lists(ctrlr)) {
		return spdk_nvme_ctrlr_get_max_xfer_size(ctrlr) / min_page(ctrlr) + 1;
	}
#if TL_SPDK_BEFORE_2405
	/* Not told by these versions: the numbers in their transports (nvme_tcp of 20.07: as ci/native/build.sh sets it). */
	switch (spdk_nvme_ctrlr_get_transport_id(ctrlr)->trtype) {
	case SPDK_NVME_TRANSPORT_PCIE:
		return 250;
	case SPDK_NVME_TRANSPORT_TCP:
		return 14;
	default:
		n = spdk_nvme_ctrlr_get_data(ctrlr)->nvmf_specific.msdbd;
		return n == 0 || n > 16 ? 16 : n;
	}
#else
	n = spdk_nvme_ctrlr_get_max_sges(ctrlr);
	return n != 0 ? n : 1;
#endif
}

int32_t tl_nvme_info(struct tl_nvme_ctrlr *opaque, struct tl_nvme_info *out)
{
	struct spdk_nvme_ctrlr *ctrlr = in(opaque);
	const struct spdk_nvme_ctrlr_data *data = spdk_nvme_ctrlr_get_data(ctrlr);
	const struct spdk_nvme_transport_id *id = spdk_nvme_ctrlr_get_transport_id(ctrlr);

	uint16_t oncs; /* optional commands: the specification's bits, whatever SPDK calls them */

	memset(out, 0, sizeof(*out));
	memcpy(&oncs, &data->oncs, sizeof(oncs));
	text(out->model, sizeof(out->model), data->mn, sizeof(data->mn));
	text(out->serial, sizeof(out->serial), data->sn, sizeof(data->sn));
	text(out->firmware, sizeof(out->firmware), (const int8_t *)&data->fr, sizeof(data->fr));
	snprintf(out->subnqn, sizeof(out->subnqn), "%.*s", (int)sizeof(out->subnqn) - 1, (const char *)data->subnqn);
	snprintf(out->transport, sizeof(out->transport), "%.*s", (int)sizeof(out->transport) - 1, id->trstring);
	out->sgl = takes_lists(ctrlr) && !wants_dwords(ctrlr);
	out->sgl_dword = takes_lists(ctrlr) && wants_dwords(ctrlr);
	out->write_cache = data->vwc.present;
	out->dsm = (oncs >> 2) & 1;
	out->write_zeroes = (oncs >> 3) & 1;
	out->max_segments = max_segments(ctrlr);
	out->max_xfer = spdk_nvme_ctrlr_get_max_xfer_size(ctrlr);
	out->min_page = min_page(ctrlr);
	out->namespaces = spdk_nvme_ctrlr_get_num_ns(ctrlr);
	return 0;
}

static bool attach_nothing(void *arg, const struct spdk_nvme_transport_id *id, struct spdk_nvme_ctrlr_opts *opts)
{
	(void)arg, (void)id, (void)opts;
	return false;
}

static void attached(void *arg, const struct spdk_nvme_transport_id *id, struct spdk_nvme_ctrlr *ctrlr,
		     const struct spdk_nvme_ctrlr_opts *opts)
{
	(void)arg, (void)id, (void)ctrlr, (void)opts;
}

/* A device that left the bus answers every read with ones (or, behind some bridges, zeros). SPDK acts on what the kernel
 * reported of it (its requests come back, and it is not waited for any more) only while it looks for new controllers: so it is
 * made to look. */
static void look_for_removal(struct spdk_nvme_ctrlr *ctrlr)
{
	struct spdk_nvme_transport_id bus;
	union spdk_nvme_csts_register csts;

	if (over_fabric(ctrlr) || spdk_nvme_ctrlr_is_failed(ctrlr)) {
		return;
	}
	csts = spdk_nvme_ctrlr_get_regs_csts(ctrlr);
	if (csts.bits.rdy == 1 && csts.raw != UINT32_MAX) {
		return;
	}
	memset(&bus, 0, sizeof(bus));
	spdk_nvme_trid_populate_transport(&bus, SPDK_NVME_TRANSPORT_PCIE);
	spdk_nvme_probe(&bus, NULL, attach_nothing, attached, NULL);
}

int32_t tl_nvme_admin_poll(struct tl_nvme_ctrlr *ctrlr)
{
	look_for_removal(in(ctrlr));
	return spdk_nvme_ctrlr_process_admin_completions(in(ctrlr));
}

/* A question for the SMART log, until it is answered. */
struct smart {
	tl_nvme_smart_fn fn;
	void *arg;
	struct spdk_nvme_health_information_page page;
};

static void smart_told(void *opaque, const struct spdk_nvme_cpl *cpl)
{
	struct smart *smart = opaque;

	smart->fn(smart->arg, spdk_nvme_cpl_is_error(cpl) ? NULL : (const uint8_t *)&smart->page);
	free(smart);
}

int32_t tl_nvme_smart(struct tl_nvme_ctrlr *ctrlr, tl_nvme_smart_fn fn, void *arg)
{
	struct smart *smart = calloc(1, sizeof(*smart));
	int rc;

	if (smart == NULL) {
		return -ENOMEM;
	}
	smart->fn = fn;
	smart->arg = arg;
	/* SPDK has the drive write to memory of its own, and copies from that. */
	rc = spdk_nvme_ctrlr_cmd_get_log_page(in(ctrlr), SPDK_NVME_LOG_HEALTH_INFORMATION, SPDK_NVME_GLOBAL_NS_TAG, &smart->page,
					      sizeof(smart->page), 0, smart_told, smart);
	if (rc != 0) {
		free(smart);
	}
	return rc;
}

int32_t tl_nvme_reset(struct tl_nvme_ctrlr *ctrlr)
{
	spdk_unaffinitize_thread();
	return spdk_nvme_ctrlr_reset(in(ctrlr)) == 0 ? 0 : -EIO;
}

void tl_nvme_fail(struct tl_nvme_ctrlr *ctrlr)
{
	enum { COMMAND = 4, BUS_MASTER = 1 << 2 }; /* PCI 3.0, 6.2.2 */
	struct spdk_pci_device *pci = over_fabric(in(ctrlr)) ? NULL : spdk_nvme_ctrlr_get_pci_device(in(ctrlr));
	uint16_t command;

	if (pci != NULL && spdk_pci_device_cfg_read16(pci, &command, COMMAND) == 0) {
		spdk_pci_device_cfg_write16(pci, command & (uint16_t)~BUS_MASTER, COMMAND);
	}
	spdk_nvme_ctrlr_fail(in(ctrlr));
}

bool tl_nvme_failed(struct tl_nvme_ctrlr *ctrlr)
{
	return spdk_nvme_ctrlr_is_failed(in(ctrlr));
}

uint32_t tl_nvme_ns_next(struct tl_nvme_ctrlr *ctrlr, uint32_t prev)
{
	return prev == 0 ? spdk_nvme_ctrlr_get_first_active_ns(in(ctrlr))
			 : spdk_nvme_ctrlr_get_next_active_ns(in(ctrlr), prev);
}

struct tl_nvme_ns *tl_nvme_ns_get(struct tl_nvme_ctrlr *ctrlr, uint32_t id)
{
	struct spdk_nvme_ns *ns = spdk_nvme_ctrlr_get_ns(in(ctrlr), id);

	return ns != NULL && spdk_nvme_ns_is_active(ns) ? (struct tl_nvme_ns *)ns : NULL;
}

int32_t tl_nvme_ns_info(struct tl_nvme_ns *opaque, struct tl_nvme_ns_info *out)
{
	struct spdk_nvme_ns *ns = in_ns(opaque);
	const struct spdk_nvme_ns_data *data = spdk_nvme_ns_get_data(ns);
	uint32_t flags = spdk_nvme_ns_get_flags(ns);

	memset(out, 0, sizeof(*out));
	out->sectors = spdk_nvme_ns_get_num_sectors(ns);
	out->sector_size = spdk_nvme_ns_get_sector_size(ns);
	out->md_size = spdk_nvme_ns_get_md_size(ns);
	out->max_io = spdk_nvme_ns_get_max_io_xfer_size(ns);
	out->optimal_io = spdk_nvme_ns_get_optimal_io_boundary(ns);
	out->id = spdk_nvme_ns_get_id(ns);
	out->write_zeroes = (flags & SPDK_NVME_NS_WRITE_ZEROES_SUPPORTED) != 0;
	out->deallocate = (flags & SPDK_NVME_NS_DEALLOCATE_SUPPORTED) != 0;
	out->flush = (flags & SPDK_NVME_NS_FLUSH_SUPPORTED) != 0;
	out->deallocated_zeros = spdk_nvme_ns_get_dealloc_logical_block_read_value(ns) == SPDK_NVME_DEALLOC_READ_00;
	memcpy(out->nguid, data->nguid, sizeof(out->nguid));
	out->eui64 = data->eui64;
	return 0;
}

/* ---- Queue pairs -------------------------------------------------------------------------------------------------- */

int32_t tl_nvme_qpair_alloc(struct tl_nvme_ctrlr *opaque, const struct tl_nvme_opts *opts, struct tl_nvme_qpair **out)
{
	struct spdk_nvme_ctrlr *ctrlr = in(opaque);
	struct tl_nvme_qpair *q = calloc(1, sizeof(*q));
	struct spdk_nvme_io_qpair_opts o;

	if (q == NULL) {
		return -ENOMEM;
	}
	spdk_nvme_ctrlr_get_default_io_qpair_opts(ctrlr, &o, sizeof(o));
	if (opts != NULL) {
		o.io_queue_size = opts->queue_size != 0 ? opts->queue_size : o.io_queue_size;
		o.io_queue_requests = opts->queue_requests != 0 ? opts->queue_requests : o.io_queue_requests;
	}
	q->max_segments = max_segments(ctrlr);
	q->page_mask = takes_lists(ctrlr) ? 0 : min_page(ctrlr) - 1;
	q->unit_mask = wants_dwords(ctrlr) || !takes_lists(ctrlr) ? 3 : 0;
	q->qpair = spdk_nvme_ctrlr_alloc_io_qpair(ctrlr, &o, sizeof(o));
	if (q->qpair == NULL) {
		free(q);
		return -ENXIO;
	}
	*out = q;
	return 0;
}

int32_t tl_nvme_qpair_free(struct tl_nvme_qpair *q)
{
	int rc = q == NULL ? 0 : spdk_nvme_ctrlr_free_io_qpair(q->qpair);

	free(q);
	return rc;
}

int32_t tl_nvme_qpair_poll(struct tl_nvme_qpair *q, uint32_t max)
{
	return spdk_nvme_qpair_process_completions(q->qpair, max);
}

int32_t tl_nvme_qpair_reconnect(struct tl_nvme_qpair *q)
{
	return spdk_nvme_ctrlr_reconnect_io_qpair(q->qpair);
}

/* ---- I/O ---------------------------------------------------------------------------------------------------------- */

static void completed(void *opaque, const struct spdk_nvme_cpl *cpl)
{
	struct tl_io *io = opaque;
	int32_t sct = cpl->status.sct, sc = cpl->status.sc;

	io->done(io->arg, sct, sc, tl_status_errno(sct, sc));
}

/* SPDK asks for the list piece by piece, from any offset, and more than once when it splits a request. */
static void rewind_to(void *opaque, uint32_t offset)
{
	struct tl_io *io = opaque;

	io->index = 0;
	while (io->index < io->iovcnt && offset >= io->iov[io->index].len) {
		offset -= (uint32_t)io->iov[io->index++].len;
	}
	io->offset = offset;
}

static int next_piece(void *opaque, void **address, uint32_t *length)
{
	struct tl_io *io = opaque;

	if (io->index >= io->iovcnt) {
		*address = NULL;
		*length = 0;
		return -EINVAL;
	}
	*address = (uint8_t *)io->iov[io->index].base + io->offset;
	*length = (uint32_t)(io->iov[io->index].len - io->offset);
	io->index++;
	io->offset = 0;
	return 0;
}

/* SPDK 20.07 loses the request when a list turns out not to fit later: everything is checked before it is submitted. */
static int32_t check(struct tl_nvme_qpair *q, struct spdk_nvme_ns *ns, const struct tl_iovec *iov, uint32_t iovcnt,
		     uint64_t lba, uint32_t n)
{
	uint64_t sectors = spdk_nvme_ns_get_num_sectors(ns);
	uint64_t bytes = (uint64_t)n * spdk_nvme_ns_get_extended_sector_size(ns);
	uintptr_t inner = 0, units = 0;
	uint32_t i;

	if (spdk_unlikely(n == 0 || lba >= sectors || n > sectors - lba)) {
		return -ERANGE;
	}
	if (spdk_unlikely(bytes > UINT32_MAX || !tl_adds_up(iov, iovcnt, bytes))) {
		return -EINVAL;
	}
	if (spdk_unlikely(iovcnt > q->max_segments)) {
		return -E2BIG;
	}
	if (q->page_mask != 0 || q->unit_mask != 0) {
		for (i = 0; i < iovcnt; i++) {
			uintptr_t start = (uintptr_t)iov[i].base;

			inner |= (i > 0 ? start : 0) | (i + 1 < iovcnt ? start + iov[i].len : 0);
			units |= start | (q->page_mask == 0 ? iov[i].len : 0);
		}
		if ((inner & q->page_mask) != 0 || (units & q->unit_mask) != 0) {
			return -EFAULT;
		}
	}
	return 0;
}

static void prepare(struct tl_io *io, const struct tl_iovec *iov, uint32_t iovcnt)
{
	io->iov = iov;
	io->iovcnt = iovcnt;
	io->index = 0;
	io->offset = 0;
}

int32_t tl_nvme_readv(struct tl_nvme_ns *ns, struct tl_nvme_qpair *q, struct tl_io *io, const struct tl_iovec *iov,
		      uint32_t iovcnt, uint64_t lba, uint32_t lba_count)
{
	int32_t rc = check(q, in_ns(ns), iov, iovcnt, lba, lba_count);

	if (rc != 0) {
		return rc;
	}
	prepare(io, iov, iovcnt);
	return spdk_nvme_ns_cmd_readv(in_ns(ns), q->qpair, lba, lba_count, completed, io, 0, rewind_to, next_piece);
}

int32_t tl_nvme_writev(struct tl_nvme_ns *ns, struct tl_nvme_qpair *q, struct tl_io *io, const struct tl_iovec *iov,
		       uint32_t iovcnt, uint64_t lba, uint32_t lba_count)
{
	int32_t rc = check(q, in_ns(ns), iov, iovcnt, lba, lba_count);

	if (rc != 0) {
		return rc;
	}
	prepare(io, iov, iovcnt);
	return spdk_nvme_ns_cmd_writev(in_ns(ns), q->qpair, lba, lba_count, completed, io, 0, rewind_to, next_piece);
}

int32_t tl_nvme_flush(struct tl_nvme_ns *ns, struct tl_nvme_qpair *q, struct tl_io *io)
{
	return spdk_nvme_ns_cmd_flush(in_ns(ns), q->qpair, completed, io);
}

int32_t tl_nvme_write_zeroes(struct tl_nvme_ns *ns, struct tl_nvme_qpair *q, struct tl_io *io, uint64_t lba,
			     uint32_t lba_count)
{
	uint64_t sectors = spdk_nvme_ns_get_num_sectors(in_ns(ns));

	if (lba_count == 0 || lba_count > 65536 || lba >= sectors || lba_count > sectors - lba) {
		return -ERANGE;
	}
	return spdk_nvme_ns_cmd_write_zeroes(in_ns(ns), q->qpair, lba, lba_count, completed, io, 0);
}

int32_t tl_nvme_deallocate(struct tl_nvme_ns *ns, struct tl_nvme_qpair *q, struct tl_io *io, uint64_t lba,
			   uint32_t lba_count)
{
	struct spdk_nvme_dsm_range range = { .starting_lba = lba, .length = lba_count };
	uint64_t sectors = spdk_nvme_ns_get_num_sectors(in_ns(ns));

	if (lba_count == 0 || lba >= sectors || lba_count > sectors - lba) {
		return -ERANGE;
	}
	/* The range is copied into the request. */
	return spdk_nvme_ns_cmd_dataset_management(in_ns(ns), q->qpair, SPDK_NVME_DSM_ATTR_DEALLOCATE, &range, 1,
						   completed, io);
}
