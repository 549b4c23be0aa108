/*
 * Writes blocks of a disk, knows which of them were acknowledged, and says whether they are there.
 *
 *     witness write DISK RECORD STOP     until there is a file STOP; threads write blocks of their own, at random, over and over
 *     witness verify DISK RECORD         each block is the last version that was acknowledged, or one that was sent after it
 *
 * RECORD has of each block the version that was acknowledged last, and the one that was sent last; what was read stays, and is
 * recorded as acknowledged. Exit status 1, with a line for the first block, when one is neither; 2 when something failed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 4096u
#define WRITERS 8u
#define BLOCKS 512u /* of each writer */
#define LONGEST 16u /* blocks of one write */

struct record {
	uint32_t acknowledged[WRITERS][BLOCKS], sent[WRITERS][BLOCKS];
	uint64_t writes;
};

static struct record record;
static const char *stop;
static int disk;

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(2);
}

/* A block is words that follow from its place, its version and their own place. */
static uint64_t word(uint64_t block, uint32_t version, unsigned place)
{
	uint64_t z = (block << 32 | version) + 0x9e3779b97f4a7c15u * (place + 1);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static void fill(uint64_t *words, uint64_t block, uint32_t version)
{
	unsigned i;

	words[0] = block << 32 | version;
	for (i = 1; i < BLOCK / 8; i++)
		words[i] = word(block, version, i);
}

static void *aligned(size_t size)
{
	void *memory;

	if (posix_memalign(&memory, BLOCK, size) != 0)
		die("memory");
	return memory;
}

/* Ends when it is told to, or when a write fails: what that wrote was sent, and not acknowledged. */
static void *writer(void *arg)
{
	unsigned number = (unsigned)(uintptr_t)arg, at, count, i, seed = number * 7919u + (unsigned)record.writes;
	unsigned char *data = aligned(LONGEST * BLOCK);

	while (access(stop, F_OK) != 0) {
		count = rand_r(&seed) % 4 != 0 ? 1 : 1 + rand_r(&seed) % LONGEST;
		at = rand_r(&seed) % (BLOCKS - count + 1);
		for (i = 0; i < count; i++)
			fill((uint64_t *)(data + i * BLOCK), number * BLOCKS + at + i, ++record.sent[number][at + i]);
		if (pwrite(disk, data, count * BLOCK, (off_t)(number * BLOCKS + at) * BLOCK) != (ssize_t)(count * BLOCK)) {
			fprintf(stderr, "writer %u: %s\n", number, strerror(errno));
			break;
		}
		for (i = 0; i < count; i++)
			record.acknowledged[number][at + i] = record.sent[number][at + i];
		__atomic_add_fetch(&record.writes, 1, __ATOMIC_RELAXED);
	}
	free(data);
	return NULL;
}

static int look_at(const uint64_t *words, unsigned number, unsigned at)
{
	uint64_t block = number * BLOCKS + at;
	uint32_t version = (uint32_t)words[0], oldest = record.acknowledged[number][at];
	unsigned i;

	for (i = 0; i < BLOCK / 8; i++) {
		uint64_t expected = version == 0 ? 0 : i == 0 ? block << 32 | version : word(block, version, i);

		if (words[i] != expected) {
			fprintf(stderr, "block %llu: byte %u is not of version %u (%016llx, not %016llx); version %u was acknowledged\n",
				(unsigned long long)block, i * 8, version, (unsigned long long)words[i], (unsigned long long)expected, oldest);
			return 1;
		}
	}
	if (version < oldest || version > record.sent[number][at]) {
		fprintf(stderr, "block %llu has version %u; version %u was acknowledged, %u was sent last\n", (unsigned long long)block,
			version, oldest, record.sent[number][at]);
		return 1;
	}
	record.acknowledged[number][at] = version;
	return 0;
}

static int verify(void)
{
	unsigned char *data = aligned(BLOCKS * BLOCK);
	unsigned number, at;
	int wrong = 0;

	for (number = 0; number < WRITERS; number++) {
		if (pread(disk, data, BLOCKS * BLOCK, (off_t)number * BLOCKS * BLOCK) != (ssize_t)(BLOCKS * BLOCK))
			die("read");
		for (at = 0; at < BLOCKS && !wrong; at++)
			wrong = look_at((const uint64_t *)(data + at * BLOCK), number, at);
	}
	return wrong;
}

static void write_all(void)
{
	pthread_t threads[WRITERS];
	unsigned i;

	for (i = 0; i < WRITERS; i++)
		if (pthread_create(&threads[i], NULL, writer, (void *)(uintptr_t)i) != 0)
			die("thread");
	for (i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
}

int main(int argc, char **argv)
{
	int is_write = argc == 5 && strcmp(argv[1], "write") == 0, wrong = 0;
	FILE *file;

	if (!is_write && (argc != 4 || strcmp(argv[1], "verify") != 0)) {
		fprintf(stderr, "usage: witness write DISK RECORD STOP | witness verify DISK RECORD\n");
		return 2;
	}
	file = fopen(argv[3], "r");
	if (file && (fread(&record, sizeof(record), 1, file) != 1 || fclose(file) != 0))
		die("the record");
	disk = open(argv[2], O_RDWR | O_DIRECT);
	if (disk < 0)
		die(argv[2]);
	if (is_write) {
		stop = argv[4];
		write_all();
	} else {
		wrong = verify();
	}
	file = fopen(argv[3], "w");
	if (!file || fwrite(&record, sizeof(record), 1, file) != 1 || fclose(file) != 0)
		die("the record");
	printf("%llu writes\n", (unsigned long long)record.writes);
	return wrong;
}
