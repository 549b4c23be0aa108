/* Block devices. */
#include "internal.h"

#include <spdk/bdev.h>
#include <spdk/thread.h>
#include <spdk/uuid.h>

struct tl_bdev {
	struct spdk_bdev_desc *desc;
	struct spdk_bdev *bdev;
	uint32_t block_size; /* with interleaved metadata, if any: what an iovec must add up to */
	tl_bdev_event_fn event;
	void *arg;
};

_Static_assert(sizeof(struct spdk_bdev_io_wait_entry) <= sizeof(((struct tl_io *)0)->opaque), "a wait entry fits");
_Static_assert(sizeof(struct spdk_uuid) == 16, "a UUID is 16 bytes");

static struct spdk_io_channel *in(struct tl_channel *channel)
{
	return (struct spdk_io_channel *)channel;
}

/* ---- Opening ------------------------------------------------------------------------------------------------------ */

static void on_event(enum spdk_bdev_event_type type, struct spdk_bdev *bdev, void *opaque)
{
	struct tl_bdev *b = opaque;

	(void)bdev;
	if (b->event != NULL) {
		b->event(b->arg, type == SPDK_BDEV_EVENT_REMOVE   ? TL_BDEV_REMOVED
				 : type == SPDK_BDEV_EVENT_RESIZE ? TL_BDEV_RESIZED
								  : TL_BDEV_OTHER);
	}
}

int32_t tl_bdev_open(const char *name, bool write, tl_bdev_event_fn event, void *arg, struct tl_bdev **out)
{
	struct tl_bdev *b = calloc(1, sizeof(*b));
	int rc;

	if (b == NULL) {
		return -ENOMEM;
	}
	b->event = event;
	b->arg = arg;
	rc = spdk_bdev_open_ext(name, write, on_event, b, &b->desc);
	if (rc != 0) {
		free(b);
		return rc == -EINVAL ? -ENODEV : rc; /* 20.07 says -EINVAL for a name it does not know */
	}
	b->bdev = spdk_bdev_desc_get_bdev(b->desc);
	b->block_size = spdk_bdev_get_block_size(b->bdev);
	*out = b;
	return 0;
}

void tl_bdev_close(struct tl_bdev *b)
{
	if (b != NULL) {
		spdk_bdev_close(b->desc);
		free(b);
	}
}

static uint32_t io_types(struct spdk_bdev *bdev)
{
	static const struct {
		enum spdk_bdev_io_type theirs;
		uint32_t ours;
	} table[] = {
		{ SPDK_BDEV_IO_TYPE_READ, TL_BDEV_READ },
		{ SPDK_BDEV_IO_TYPE_WRITE, TL_BDEV_WRITE },
		{ SPDK_BDEV_IO_TYPE_FLUSH, TL_BDEV_FLUSH },
		{ SPDK_BDEV_IO_TYPE_UNMAP, TL_BDEV_UNMAP },
		{ SPDK_BDEV_IO_TYPE_WRITE_ZEROES, TL_BDEV_WRITE_ZEROES },
		{ SPDK_BDEV_IO_TYPE_RESET, TL_BDEV_RESET },
	};
	uint32_t types = 0;
	size_t i;

	for (i = 0; i < SPDK_COUNTOF(table); i++) {
		types |= spdk_bdev_io_type_supported(bdev, table[i].theirs) ? table[i].ours : 0;
	}
	return types;
}

int32_t tl_bdev_info(struct tl_bdev *b, struct tl_bdev_info *out)
{
	memset(out, 0, sizeof(*out));
	snprintf(out->name, sizeof(out->name), "%s", spdk_bdev_get_name(b->bdev));
	snprintf(out->product, sizeof(out->product), "%s", spdk_bdev_get_product_name(b->bdev));
	out->num_blocks = spdk_bdev_get_num_blocks(b->bdev);
	out->block_size = spdk_bdev_get_data_block_size(b->bdev);
	out->md_size = spdk_bdev_get_md_size(b->bdev);
	out->buf_align = (uint32_t)spdk_bdev_get_buf_align(b->bdev);
	out->write_unit = spdk_bdev_get_write_unit_size(b->bdev);
	out->optimal_io = spdk_bdev_get_optimal_io_boundary(b->bdev);
	out->io_types = io_types(b->bdev);
	out->write_cache = spdk_bdev_has_write_cache(b->bdev);
	out->md_interleaved = spdk_bdev_is_md_interleaved(b->bdev);
	memcpy(out->uuid, spdk_bdev_get_uuid(b->bdev), sizeof(out->uuid));
	return 0;
}

int32_t tl_bdev_next(const char *prev, char *out, uint32_t out_len)
{
	struct spdk_bdev *bdev = spdk_bdev_first();

	if (prev != NULL && prev[0] != '\0') {
		while (bdev != NULL && strcmp(spdk_bdev_get_name(bdev), prev) != 0) {
			bdev = spdk_bdev_next(bdev);
		}
		bdev = bdev != NULL ? spdk_bdev_next(bdev) : NULL;
	}
	if (bdev == NULL) {
		return -ENOENT;
	}
	return snprintf(out, out_len, "%s", spdk_bdev_get_name(bdev)) < (int)out_len ? 0 : -ENAMETOOLONG;
}

struct tl_channel *tl_bdev_channel_get(struct tl_bdev *b)
{
	return (struct tl_channel *)spdk_bdev_get_io_channel(b->desc);
}

void tl_bdev_channel_put(struct tl_channel *channel)
{
	spdk_put_io_channel(in(channel));
}

int32_t tl_bdev_written(struct tl_bdev *b, struct tl_channel *channel, uint64_t *operations, uint64_t *bytes)
{
#if TL_SPDK_LEGACY
	struct spdk_bdev_io_stat stat;

	spdk_bdev_get_io_stat(b->bdev, in(channel), &stat);
	*operations = stat.num_write_ops;
	*bytes = stat.bytes_written;
	return 0;
#else
	(void)b, (void)channel, (void)operations, (void)bytes;
	return -ENOTSUP;
#endif
}

/* ---- I/O ---------------------------------------------------------------------------------------------------------- */

static void completed(struct spdk_bdev_io *bdev_io, bool success, void *opaque)
{
	struct tl_io *io = opaque;
	int sct = 0, sc = 0, err = 0;
	uint32_t cdw0;

	if (spdk_unlikely(!success)) {
		spdk_bdev_io_get_nvme_status(bdev_io, &cdw0, &sct, &sc);
		err = tl_status_errno(sct, sc);
		err = err != 0 ? err : -EIO;
	}
	spdk_bdev_free_io(bdev_io);
	io->done(io->arg, sct, sc, err);
}

static bool in_range(struct tl_bdev *b, uint64_t offset, uint64_t n)
{
	uint64_t blocks = spdk_bdev_get_num_blocks(b->bdev);

	return n != 0 && offset < blocks && n <= blocks - offset;
}

static int32_t check(struct tl_bdev *b, const struct tl_iovec *iov, uint32_t iovcnt, uint64_t offset, uint64_t n)
{
	if (spdk_unlikely(!in_range(b, offset, n))) {
		return -ERANGE;
	}
	/* In range, so the product is the size of a part of the device. */
	return spdk_likely(tl_adds_up(iov, iovcnt, n * b->block_size)) ? 0 : -EINVAL;
}

int32_t tl_bdev_readv(struct tl_bdev *b, struct tl_channel *channel, struct tl_io *io, const struct tl_iovec *iov,
		      uint32_t iovcnt, uint64_t offset_blocks, uint64_t num_blocks)
{
	int32_t rc = check(b, iov, iovcnt, offset_blocks, num_blocks);

	return rc != 0 ? rc
		       : spdk_bdev_readv_blocks(b->desc, in(channel), (struct iovec *)(uintptr_t)iov, (int)iovcnt,
						offset_blocks, num_blocks, completed, io);
}

int32_t tl_bdev_writev(struct tl_bdev *b, struct tl_channel *channel, struct tl_io *io, const struct tl_iovec *iov,
		       uint32_t iovcnt, uint64_t offset_blocks, uint64_t num_blocks)
{
	int32_t rc = check(b, iov, iovcnt, offset_blocks, num_blocks);

	return rc != 0 ? rc
		       : spdk_bdev_writev_blocks(b->desc, in(channel), (struct iovec *)(uintptr_t)iov, (int)iovcnt,
						 offset_blocks, num_blocks, completed, io);
}

int32_t tl_bdev_flush(struct tl_bdev *b, struct tl_channel *channel, struct tl_io *io, uint64_t offset_blocks,
		      uint64_t num_blocks)
{
	if (!in_range(b, offset_blocks, num_blocks)) {
		return -ERANGE;
	}
	if (!spdk_bdev_io_type_supported(b->bdev, SPDK_BDEV_IO_TYPE_FLUSH)) {
		io->done(io->arg, 0, 0, 0);
		return 0;
	}
	return spdk_bdev_flush_blocks(b->desc, in(channel), offset_blocks, num_blocks, completed, io);
}

int32_t tl_bdev_write_zeroes(struct tl_bdev *b, struct tl_channel *channel, struct tl_io *io, uint64_t offset_blocks,
			     uint64_t num_blocks)
{
	if (!in_range(b, offset_blocks, num_blocks)) {
		return -ERANGE;
	}
	return spdk_bdev_write_zeroes_blocks(b->desc, in(channel), offset_blocks, num_blocks, completed, io);
}

int32_t tl_bdev_unmap(struct tl_bdev *b, struct tl_channel *channel, struct tl_io *io, uint64_t offset_blocks,
		      uint64_t num_blocks)
{
	if (!in_range(b, offset_blocks, num_blocks)) {
		return -ERANGE;
	}
	if (!spdk_bdev_io_type_supported(b->bdev, SPDK_BDEV_IO_TYPE_UNMAP)) {
		return -ENOTSUP;
	}
	return spdk_bdev_unmap_blocks(b->desc, in(channel), offset_blocks, num_blocks, completed, io);
}

int32_t tl_bdev_reset(struct tl_bdev *b, struct tl_channel *channel, struct tl_io *io)
{
	return spdk_bdev_reset(b->desc, in(channel), completed, io);
}

int32_t tl_bdev_wait(struct tl_bdev *b, struct tl_channel *channel, struct tl_io *io, tl_spdk_msg_fn ready, void *arg)
{
	struct spdk_bdev_io_wait_entry *entry = (struct spdk_bdev_io_wait_entry *)io->opaque;

	memset(entry, 0, sizeof(*entry));
	entry->bdev = b->bdev;
	entry->cb_fn = ready;
	entry->cb_arg = arg;
	return spdk_bdev_queue_io_wait(b->bdev, in(channel), entry);
}
