/*
 * Random operations on one file, each checked against memory: reads and writes of odd sizes, by system call and by mapping,
 * truncation, holes, zeroed ranges, syncs and dropped caches. In the manner of Apple's fsx.
 *
 *     exercise FILE SEED COUNT COPY
 *
 * At the end COPY holds what FILE must hold. Exit status 1, with a line that says where, when a read differs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE_MAX_BYTES (2u << 20)
#define LENGTH_MAX (192u << 10)

static unsigned char truth[SIZE_MAX_BYTES], buffer[LENGTH_MAX];
static size_t size;
static uint64_t state;
static long step;

static uint64_t next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void die(const char *what)
{
	fprintf(stderr, "operation %ld: %s: %s\n", step, what, strerror(errno));
	exit(2);
}

static void compare(const unsigned char *got, size_t offset, size_t length, const char *how)
{
	size_t i;

	for (i = 0; i < length; i++) {
		if (got[i] != truth[offset + i]) {
			fprintf(stderr, "operation %ld: %s at %zu: %02x, not %02x (range %zu + %zu)\n", step, how, offset + i,
				got[i], truth[offset + i], offset, length);
			exit(1);
		}
	}
}

/* A range inside the file. */
static int within(size_t *offset, size_t *length)
{
	if (size == 0)
		return 0;
	*offset = next() % size;
	*length = 1 + next() % LENGTH_MAX;
	if (*length > size - *offset)
		*length = size - *offset;
	return 1;
}

static void do_write(int fd)
{
	size_t offset = next() % (SIZE_MAX_BYTES - 1), length = 1 + next() % LENGTH_MAX, i;

	if (length > SIZE_MAX_BYTES - offset)
		length = SIZE_MAX_BYTES - offset;
	for (i = 0; i < length; i += 8) {
		uint64_t word = next();
		memcpy(buffer + i, &word, length - i < 8 ? length - i : 8);
	}
	if (pwrite(fd, buffer, length, offset) != (ssize_t)length)
		die("write");
	memcpy(truth + offset, buffer, length);
	if (offset + length > size)
		size = offset + length;
}

static void do_read(int fd)
{
	size_t offset, length;

	if (!within(&offset, &length))
		return;
	if (pread(fd, buffer, length, offset) != (ssize_t)length)
		die("read");
	compare(buffer, offset, length, "read");
}

static void do_map(int fd, int write)
{
	size_t offset, length, page = 4096, start, i;
	unsigned char *map;

	if (!within(&offset, &length))
		return;
	start = offset / page * page;
	map = mmap(NULL, offset + length - start, PROT_READ | PROT_WRITE, MAP_SHARED, fd, start);
	if (map == MAP_FAILED)
		die("mmap");
	compare(map + offset - start, offset, length, "mapped read");
	for (i = 0; write && i < length; i++)
		map[offset - start + i] = truth[offset + i] = next();
	munmap(map, offset + length - start);
}

static void do_zero(int fd, int mode)
{
	size_t offset, length;

	if (!within(&offset, &length))
		return;
	if (fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, offset, length) != 0) {
		if (errno == EOPNOTSUPP)
			return;
		die("fallocate");
	}
	memset(truth + offset, 0, length);
}

static void do_truncate(int fd)
{
	size_t now = next() % SIZE_MAX_BYTES;

	if (ftruncate(fd, now) != 0)
		die("truncate");
	if (now < size)
		memset(truth + now, 0, size - now);
	size = now;
}

/* What is read next comes from the device. */
static void do_forget(int fd)
{
	if (fsync(fd) != 0)
		die("fsync");
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

int main(int argc, char **argv)
{
	long count;
	FILE *copy;
	int fd;

	if (argc != 5) {
		fprintf(stderr, "usage: exercise FILE SEED COUNT COPY\n");
		return 2;
	}
	state = strtoull(argv[2], NULL, 0) * 2654435761u + 1;
	count = atol(argv[3]);
	fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (fd < 0)
		die("open");
	for (step = 0; step < count; step++) {
		switch (next() % 16) {
		case 0 ... 4: do_write(fd); break;
		case 5 ... 8: do_read(fd); break;
		case 9: do_map(fd, 0); break;
		case 10: do_map(fd, 1); break;
		case 11: do_truncate(fd); break;
		case 12: do_zero(fd, FALLOC_FL_PUNCH_HOLE); break;
		case 13: do_zero(fd, FALLOC_FL_ZERO_RANGE); break;
		default: do_forget(fd); break;
		}
	}
	if (fsync(fd) != 0 || close(fd) != 0)
		die("close");
	copy = fopen(argv[4], "w");
	if (!copy || fwrite(truth, 1, size, copy) != size || fclose(copy) != 0)
		die("copy");
	printf("%ld operations, %zu bytes\n", count, size);
	return 0;
}
