/*
 * What Throughline asks of SPDK, and nothing else.
 *
 * Fixed-width integers and opaque pointers only; every difference between SPDK versions is absorbed in the shim's C
 * files. Unless a comment says otherwise a function returns 0 or a count on success and a negative errno on failure.
 *
 * Threads. "The SPDK thread" is the one set by tl_spdk_thread_set or being polled by tl_spdk_thread_poll. Everything on a
 * block device descriptor, a channel or a queue pair happens on the SPDK thread that opened it, and its callbacks run
 * there, inside tl_spdk_thread_poll (bdev) or tl_nvme_qpair_poll (nvme), or inside the submitting call itself where that
 * is said. "The app thread" is the first SPDK thread created.
 */
#ifndef TL_SPDK_SHIM_H
#define TL_SPDK_SHIM_H

#include <stdbool.h>
#include <stdint.h>

/* ---- Environment, memory, log ------------------------------------------------------------------------------------- */

/* Starts SPDK on the EAL that tl_eal_init has initialised. Once per process. */
int32_t tl_spdk_env_init(void);
/* Before tl_eal_cleanup, after everything else of this header. */
void tl_spdk_env_fini(void);

/* SPDK's version string, for reports. Static storage. */
const char *tl_spdk_version(void);

/* Makes [va, va + len) usable for I/O: both multiples of 2 MiB, populated hugepages. Call after tl_spdk_env_init; memory
 * that tl_extmem_register told DPDK about before that is registered already (0 then). */
int32_t tl_spdk_mem_register(void *va, uint64_t len);
int32_t tl_spdk_mem_unregister(void *va, uint64_t len);
/* The address a device uses for va; UINT64_MAX when not registered. */
uint64_t tl_spdk_vtophys(const void *va);

/* Log levels: 0 error, 1 warning, 2 notice, 3 info, 4 debug; -1 none. */
void tl_spdk_log_level(int32_t level);
/* One line, without its newline, valid during the call. Runs on whatever thread logs; must not call into SPDK. */
typedef void (*tl_spdk_log_fn)(int32_t level, const char *file, int32_t line, const char *text);
/* Sends SPDK's log to fn instead of stderr and syslog; NULL for stderr. One for the process; call before threads start. */
void tl_spdk_log_hook(tl_spdk_log_fn fn);

/* ---- Threads ------------------------------------------------------------------------------------------------------ */

struct tl_spdk_thread;
typedef void (*tl_spdk_msg_fn)(void *arg);

/* Once per process, after tl_spdk_env_init. */
int32_t tl_spdk_threads_init(void);
/* After every thread was destroyed. */
void tl_spdk_threads_fini(void);

/* Creates a thread that the caller will poll on `lcore` (UINT32_MAX: any); call it from the OS thread that will poll it,
 * or before that one starts. NULL when memory is short. The first one is the app thread. */
struct tl_spdk_thread *tl_spdk_thread_create(const char *name, uint32_t lcore);
/* Makes it the calling OS thread's current SPDK thread; NULL for none. */
void tl_spdk_thread_set(struct tl_spdk_thread *thread);
struct tl_spdk_thread *tl_spdk_thread_get(void);
/* Fast path. Runs messages (at most max_msgs; 0: SPDK's default of 8) and pollers once. 1 when there was work, 0 when not. */
int32_t tl_spdk_thread_poll(struct tl_spdk_thread *thread, uint32_t max_msgs);
/* Runs fn(arg) on that thread at its next poll. From any OS thread. */
int32_t tl_spdk_thread_send(struct tl_spdk_thread *thread, tl_spdk_msg_fn fn, void *arg);
/* Asks the thread to end: make it current first, then poll until tl_spdk_thread_exited. */
int32_t tl_spdk_thread_exit(struct tl_spdk_thread *thread);
bool tl_spdk_thread_exited(struct tl_spdk_thread *thread);
/* Only once exited. Not current anywhere. */
void tl_spdk_thread_destroy(struct tl_spdk_thread *thread);

/* ---- Subsystems, configuration, SPDK's own JSON-RPC --------------------------------------------------------------- */

/* Runs on the app thread, inside its poll (or inside the call itself). rc: 0 or a negative errno. */
typedef void (*tl_spdk_done_fn)(void *arg, int32_t rc);

/* On the app thread: initialises SPDK's subsystems and applies a configuration in SPDK's JSON format
 * ({"subsystems":[{"subsystem":"bdev","config":[{"method":...,"params":{...}}]}]}). json may be NULL with len 0: no
 * configuration. The text is copied. Poll the app thread until done was called. Stops at the first method that fails. */
void tl_spdk_start(const char *json, uint64_t len, tl_spdk_done_fn done, void *arg);
/* Whether this SPDK has a method; known as soon as the program is loaded. */
bool tl_spdk_has_method(const char *name);
/* Whether this is SPDK 20.07. */
bool tl_spdk_is_legacy(void);
/* What the last `throughline_step` or `throughline_startup_step` of the configuration said comes next (its `call`): where
 * tl_spdk_start stopped, when it failed. Empty before the first. */
const char *tl_spdk_step(void);
/* On the app thread, after every descriptor, channel and controller is closed: takes the subsystems down. rc is 0. */
void tl_spdk_stop(tl_spdk_done_fn done, void *arg);

/* Opens SPDK's JSON-RPC server (what rpc.py talks to) on a UNIX socket, after tl_spdk_start is done. Polled by
 * tl_spdk_rpc_poll, on the app thread. One per process. */
int32_t tl_spdk_rpc_listen(const char *path);
void tl_spdk_rpc_poll(void);
void tl_spdk_rpc_close(void);

/* ---- One I/O ------------------------------------------------------------------------------------------------------ */

/* A scatter-gather element; the same layout as struct iovec. */
struct tl_iovec {
	void *base;
	uint64_t len;
};

/* The end of an I/O. err: 0 on success, else a negative errno (-EIO, -ENOMEM, -ECANCELED for aborted, -ENXIO when the device
 * went away). sct/sc: the NVMe status code type
 * (0 generic, 1 command specific, 2 media, 3 path) and code; 0/0 on success. The tl_io, its iovec and its memory are the caller's again, and
 * SPDK's own request has been released: submitting the next I/O from here is fine. */
typedef void (*tl_io_fn)(void *arg, int32_t sct, int32_t sc, int32_t err);

/* Memory of one I/O in flight. Set done and arg; the rest is the shim's. It must stay where it is until done was called,
 * as must the iovec array and what it points to. */
struct tl_io {
	tl_io_fn done;
	void *arg;
	const struct tl_iovec *iov;
	uint32_t iovcnt;
	uint32_t index;
	uint64_t offset;
	uint64_t opaque[8];
};

/* ---- Block devices ------------------------------------------------------------------------------------------------ */

struct tl_bdev;    /* an open descriptor */
struct tl_channel; /* a thread's channel to an open descriptor */

#define TL_BDEV_REMOVED 0u
#define TL_BDEV_RESIZED 1u
#define TL_BDEV_OTHER 2u
/* Runs on the thread that opened the device. After TL_BDEV_REMOVED: finish, put channels, close. */
typedef void (*tl_bdev_event_fn)(void *arg, int32_t event);

#define TL_BDEV_NAME_MAX 128u

/* tl_bdev_info.io_types */
#define TL_BDEV_READ 0x01u
#define TL_BDEV_WRITE 0x02u
#define TL_BDEV_FLUSH 0x04u
#define TL_BDEV_UNMAP 0x08u
#define TL_BDEV_WRITE_ZEROES 0x10u
#define TL_BDEV_RESET 0x20u

struct tl_bdev_info {
	char name[TL_BDEV_NAME_MAX];
	char product[TL_BDEV_NAME_MAX];
	uint64_t num_blocks;
	uint32_t block_size;         /* data bytes of a block */
	uint32_t md_size;            /* metadata bytes of a block */
	uint32_t buf_align;          /* bytes each iovec address must be aligned to, or SPDK copies; 1: any */
	uint32_t write_unit;         /* blocks; a write must be a multiple */
	uint32_t optimal_io;         /* blocks; 0: none */
	uint32_t io_types;           /* TL_BDEV_* */
	uint8_t write_cache;         /* has a volatile write cache: flush matters */
	uint8_t md_interleaved;
	uint8_t reserved[6];
	uint8_t uuid[16];
};

/* Opens by name on the current SPDK thread. -ENODEV, -EPERM (claimed for writing by another). */
int32_t tl_bdev_open(const char *name, bool write, tl_bdev_event_fn event, void *arg, struct tl_bdev **out);
/* On the thread that opened it, after all channels were put. */
void tl_bdev_close(struct tl_bdev *bdev);
int32_t tl_bdev_info(struct tl_bdev *bdev, struct tl_bdev_info *out);
/* Names of all block devices, on the app thread: the name after `prev` ("" for the first) into out. -ENOENT at the end. */
int32_t tl_bdev_next(const char *prev, char *out, uint32_t out_len);

/* The current thread's channel. NULL when memory is short. Put it on the same thread. */
struct tl_channel *tl_bdev_channel_get(struct tl_bdev *bdev);
void tl_bdev_channel_put(struct tl_channel *channel);
/* Writes that ended on this thread's channel, and their bytes. -ENOTSUP with a current SPDK, whose call for it has other arguments
 * in each generation. For benchmarks. */
int32_t tl_bdev_written(struct tl_bdev *bdev, struct tl_channel *channel, uint64_t *operations, uint64_t *bytes);

/* Fast path. Reads or writes num_blocks from offset_blocks, straight from or into the iovec. The lengths must add up to
 * exactly num_blocks * block_size: checked here (-EINVAL), since SPDK does not. -ERANGE beyond the end. -ENOMEM when SPDK's
 * pool is dry: wait with tl_bdev_wait, then submit again. On failure done is not called; it may be called inside this call. */
int32_t tl_bdev_readv(struct tl_bdev *bdev, struct tl_channel *channel, struct tl_io *io, const struct tl_iovec *iov,
		      uint32_t iovcnt, uint64_t offset_blocks, uint64_t num_blocks);
int32_t tl_bdev_writev(struct tl_bdev *bdev, struct tl_channel *channel, struct tl_io *io, const struct tl_iovec *iov,
		       uint32_t iovcnt, uint64_t offset_blocks, uint64_t num_blocks);
/* Same rules. A device without the I/O type gives -ENOTSUP, except flush, which then is done at once. */
int32_t tl_bdev_flush(struct tl_bdev *bdev, struct tl_channel *channel, struct tl_io *io, uint64_t offset_blocks,
		      uint64_t num_blocks);
int32_t tl_bdev_write_zeroes(struct tl_bdev *bdev, struct tl_channel *channel, struct tl_io *io, uint64_t offset_blocks,
			     uint64_t num_blocks);
int32_t tl_bdev_unmap(struct tl_bdev *bdev, struct tl_channel *channel, struct tl_io *io, uint64_t offset_blocks,
		      uint64_t num_blocks);
int32_t tl_bdev_reset(struct tl_bdev *bdev, struct tl_channel *channel, struct tl_io *io);
/* After -ENOMEM: calls ready(arg) once when a request is free again. io is the one not submitted; its done is not called.
 * -EINVAL when requests are free right now: submit again at once. */
int32_t tl_bdev_wait(struct tl_bdev *bdev, struct tl_channel *channel, struct tl_io *io, tl_spdk_msg_fn ready, void *arg);

/* ---- NVMe controllers, directly ----------------------------------------------------------------------------------- */

struct tl_nvme_ctrlr;
struct tl_nvme_ns;
struct tl_nvme_qpair;

/* All zero or NULL: SPDK's defaults. */
struct tl_nvme_opts {
	const char *hostnqn;
	uint32_t keep_alive_ms;
	uint32_t io_queues;      /* asked for at connect */
	uint32_t queue_size;     /* entries of each I/O queue */
	uint32_t queue_requests; /* SPDK requests of each I/O queue */
	uint8_t header_digest;
	uint8_t data_digest;
	uint8_t reserved[6];
};

struct tl_nvme_info {
	char model[41];
	char serial[21];
	char firmware[9];
	char subnqn[224];
	char transport[17];       /* "PCIE", "TCP", "RDMA" */
	uint8_t sgl;              /* takes scatter-gather lists at any byte alignment */
	uint8_t sgl_dword;        /* takes them with dword-aligned addresses and lengths */
	uint8_t write_cache;
	uint8_t dsm;              /* supports deallocate */
	uint8_t write_zeroes;
	uint8_t reserved[3];
	uint32_t max_segments;    /* elements of one list */
	uint32_t max_xfer;        /* bytes of one command */
	uint32_t min_page;        /* bytes; the PRP unit */
	uint32_t namespaces;      /* highest namespace id */
};

struct tl_nvme_ns_info {
	uint64_t sectors;
	uint32_t sector_size;     /* data bytes */
	uint32_t md_size;
	uint32_t max_io;          /* bytes of one command; above it SPDK splits */
	uint32_t optimal_io;      /* sectors; 0: none */
	uint32_t id;
	uint8_t write_zeroes;
	uint8_t deallocate;
	uint8_t flush;
	uint8_t deallocated_zeros; /* deallocated blocks read as zeros (DLFEAT) */
	uint8_t nguid[16];
	uint64_t eui64;
};

/* Connects by transport id: "trtype:PCIe traddr:0000:01:00.0" or "trtype:TCP adrfam:IPv4 traddr:... trsvcid:4420
 * subnqn:...". Blocks while the controller starts; control path only. -EINVAL for a bad string, -ENODEV. */
int32_t tl_nvme_connect(const char *trid, const struct tl_nvme_opts *opts, struct tl_nvme_ctrlr **out);
/* After all queue pairs were freed. Blocks while the controller shuts down. */
int32_t tl_nvme_detach(struct tl_nvme_ctrlr *ctrlr);
int32_t tl_nvme_info(struct tl_nvme_ctrlr *ctrlr, struct tl_nvme_info *out);
/* Keeps the controller alive, handles its events, and notices when a local one was pulled (its queue pairs are lost then);
 * every second or so, from one thread at a time. Completions or errno. */
int32_t tl_nvme_admin_poll(struct tl_nvme_ctrlr *ctrlr);
/* The controller's SMART / Health Information log (NVMe base 2.0, 5.16.1.3): 512 bytes, valid during the call; NULL when it
 * gave none. */
typedef void (*tl_nvme_smart_fn)(void *arg, const uint8_t *log);
/* Asks for it; from the thread that polls, which does not wait. fn(arg) is called once: inside tl_nvme_admin_poll, or on the
 * thread and inside of tl_nvme_reset or tl_nvme_detach. Not at all when this fails: -ENOMEM, -ENXIO. */
int32_t tl_nvme_smart(struct tl_nvme_ctrlr *ctrlr, tl_nvme_smart_fn fn, void *arg);
/* Resets the controller (NVMe base 2.0, 3.7.2), on a thread of its own, which may run on any core afterwards. Meanwhile no queue
 * pair of it is used, nor tl_nvme_admin_poll. Local: at the next poll of a queue pair what it had under way is submitted once more,
 * or comes back with an error. A fabric's queue pairs are lost. 0 or errno: it failed then. Waits for as long as the drive takes. */
int32_t tl_nvme_reset(struct tl_nvme_ctrlr *ctrlr);
/* Gives a local controller up: it reaches no memory any more, and fails. Used as tl_nvme_reset. */
void tl_nvme_fail(struct tl_nvme_ctrlr *ctrlr);
/* The controller failed for good: every request comes back with an error. */
bool tl_nvme_failed(struct tl_nvme_ctrlr *ctrlr);
/* The active namespace after id `prev` (0: the first); 0 at the end. */
uint32_t tl_nvme_ns_next(struct tl_nvme_ctrlr *ctrlr, uint32_t prev);
/* NULL when not active. */
struct tl_nvme_ns *tl_nvme_ns_get(struct tl_nvme_ctrlr *ctrlr, uint32_t id);
int32_t tl_nvme_ns_info(struct tl_nvme_ns *ns, struct tl_nvme_ns_info *out);

/* A queue pair for the calling thread. -ENXIO when the controller gives no more. */
int32_t tl_nvme_qpair_alloc(struct tl_nvme_ctrlr *ctrlr, const struct tl_nvme_opts *opts, struct tl_nvme_qpair **out);
int32_t tl_nvme_qpair_free(struct tl_nvme_qpair *qpair);
/* Fast path. Completes up to max requests (0: all) and calls their done. Completions, or -ENXIO when the queue pair is lost
 * (its requests have come back with -ECANCELED; reconnect or free it). */
int32_t tl_nvme_qpair_poll(struct tl_nvme_qpair *qpair, uint32_t max);
int32_t tl_nvme_qpair_reconnect(struct tl_nvme_qpair *qpair);

/* Fast path. As tl_bdev_readv: lengths add up (-EINVAL), range (-ERANGE). -E2BIG when the list has more than max_segments elements, and
 * -EFAULT when the controller could not take the list as it is (PRP rules, dword rules): pull up first. -ENOMEM: queue full,
 * submit again after a poll. */
int32_t tl_nvme_readv(struct tl_nvme_ns *ns, struct tl_nvme_qpair *qpair, struct tl_io *io, const struct tl_iovec *iov,
		      uint32_t iovcnt, uint64_t lba, uint32_t lba_count);
int32_t tl_nvme_writev(struct tl_nvme_ns *ns, struct tl_nvme_qpair *qpair, struct tl_io *io, const struct tl_iovec *iov,
		       uint32_t iovcnt, uint64_t lba, uint32_t lba_count);
int32_t tl_nvme_flush(struct tl_nvme_ns *ns, struct tl_nvme_qpair *qpair, struct tl_io *io);
/* lba_count: at most 65536. */
int32_t tl_nvme_write_zeroes(struct tl_nvme_ns *ns, struct tl_nvme_qpair *qpair, struct tl_io *io, uint64_t lba,
			     uint32_t lba_count);
int32_t tl_nvme_deallocate(struct tl_nvme_ns *ns, struct tl_nvme_qpair *qpair, struct tl_io *io, uint64_t lba,
			   uint32_t lba_count);

#endif
