// SPDX-FileCopyrightText: LKL Explorer contributors
// SPDX-License-Identifier: GPL-2.0-or-later
#include "journal.h"
#include "digests.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define JOURNAL_MAGIC "LKLcopy1"
#define CHECKPOINT_BYTES ((uint64_t)64 << 20)
/* Making things safe takes up to one part of so many of the time. */
#define CHECKPOINT_SHARE 10

struct journal_header {
	char magic[8];
	unsigned char job[16];
	unsigned char options[32];
	uint32_t record_size;
	uint32_t check;
};

/* What is torn or was never written does not fit its check by chance. */
static uint32_t check_of(const void *bytes, size_t length)
{
	unsigned char digest[SHA256_SIZE];
	uint32_t check;

	sha256(bytes, length, digest);
	memcpy(&check, digest, sizeof(check));
	return check;
}

static uint32_t record_check(const struct journal_record *record)
{
	const unsigned char *bytes = (const unsigned char *)record;
	uint32_t check = 2166136261u;

	for (size_t i = 0; i < offsetof(struct journal_record, check); i++)
		check = (check ^ bytes[i]) * 16777619u;
	return check;
}

uint64_t journal_seal(const struct stat *stat)
{
	const uint64_t parts[] = {
	    (uint64_t)stat->st_size,
	    (uint64_t)stat->st_mtim.tv_sec,
	    (uint64_t)stat->st_mtim.tv_nsec,
	    stat->st_mode & S_IFMT,
	};
	uint64_t seal = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		seal ^= parts[i];
		seal *= UINT64_C(0x9e3779b97f4a7c15);
		seal ^= seal >> 29;
	}
	return seal;
}

static int append(struct journal *journal, const void *bytes, size_t length)
{
	ssize_t written;

	do
		written = write(journal->fd, bytes, length);
	while (written < 0 && errno == EINTR);
	if (written < 0)
		return -errno;
	return written == (ssize_t)length ? 0 : -ENOSPC;
}

static int read_all(int fd, void *bytes, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t got =
		    pread(fd, (char *)bytes + at, length - at, (off_t)at);

		if (got < 0 && errno != EINTR)
			return -errno;
		if (got == 0)
			return -EUCLEAN;
		if (got > 0)
			at += (size_t)got;
	}
	return 0;
}

/* A record of an entry with the place it was in. */
struct placed {
	struct journal_record record;
	size_t place;
};

static int compare_placed(const void *a, const void *b)
{
	const struct placed *left = a, *right = b;
	int order = memcmp(left->record.path, right->record.path,
			   sizeof(left->record.path));

	if (order)
		return order;
	return left->place < right->place ? -1 : left->place > right->place;
}

/* Marks in `reserved` which records a checkpoint made safe. */
static void mark_safe(struct journal_record *records, size_t count)
{
	size_t begin = 0;

	for (size_t i = 0; i < count; i++) {
		records[i].reserved = 0;
		if (records[i].kind == JOURNAL_CHECKPOINT)
			for (; begin < i; begin++)
				records[begin].reserved = 1;
		else if (records[i].kind == JOURNAL_RESUMED)
			begin = i;
	}
}

/* Sorts the records, of which the last of each path counts. */
static int sort_records(struct journal *journal,
			const struct journal_record *records, size_t count)
{
	struct placed *placed = malloc((count + 1) * sizeof(*placed));
	size_t kept = 0;

	journal->records = malloc((count + 1) * sizeof(*journal->records));
	if (!placed || !journal->records) {
		free(placed);
		return -ENOMEM;
	}
	for (size_t i = 0; i < count; i++)
		if (records[i].kind != JOURNAL_CHECKPOINT &&
		    records[i].kind != JOURNAL_RESUMED)
			placed[kept++] = (struct placed){records[i], i};
	qsort(placed, kept, sizeof(*placed), compare_placed);
	for (size_t i = 0; i < kept; i++) {
		if (i + 1 < kept &&
		    memcmp(placed[i].record.path, placed[i + 1].record.path,
			   sizeof(placed[i].record.path)) == 0)
			continue;
		journal->records[journal->count++] = placed[i].record;
	}
	free(placed);
	return 0;
}

static int read_records(struct journal *journal, size_t size)
{
	const size_t head = sizeof(struct journal_header);
	struct journal_record resumed = {.kind = JOURNAL_RESUMED};
	struct journal_record *records;
	unsigned char *bytes = malloc(size);
	size_t count = 0;
	int error;

	if (!bytes)
		return -ENOMEM;
	error = read_all(journal->fd, bytes, size);
	if (error) {
		free(bytes);
		return error;
	}
	records = (void *)(bytes + head);
	while (head + (count + 1) * sizeof(*records) <= size &&
	       records[count].check == record_check(&records[count]) &&
	       records[count].kind)
		count++;
	mark_safe(records, count);
	error = sort_records(journal, records, count);
	free(bytes);
	/* A record that was torn is written over. */
	if (!error && ftruncate(journal->fd,
				(off_t)(head + count * sizeof(*records))) < 0)
		error = -errno;
	resumed.check = record_check(&resumed);
	return error ? error : append(journal, &resumed, sizeof(resumed));
}

static uint64_t monotonic(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int journal_open(struct journal *journal, int fd, int destination,
		 uint32_t interval, const unsigned char job[16],
		 const unsigned char options[32])
{
	struct journal_header header = {
	    .magic = JOURNAL_MAGIC,
	    .record_size = sizeof(struct journal_record),
	};
	struct journal_header found;
	struct stat stat;
	int error;

	*journal = (struct journal){.fd = fd, .destination = destination};
	if (fd < 0)
		return 0;
	memcpy(header.job, job, sizeof(header.job));
	memcpy(header.options, options, sizeof(header.options));
	header.check =
	    check_of(&header, offsetof(struct journal_header, check));
	journal->interval = (uint64_t)interval * 1000000;
	journal->due = monotonic() + journal->interval;
	if (fstat(fd, &stat) < 0)
		return -errno;
	/* A header that was torn has no records behind it. */
	if (stat.st_size < (off_t)sizeof(header)) {
		if (ftruncate(fd, 0) < 0)
			return -errno;
		return append(journal, &header, sizeof(header));
	}
	error = read_all(fd, &found, sizeof(found));
	if (error)
		return error;
	if (memcmp(found.magic, header.magic, sizeof(found.magic)) != 0 ||
	    found.record_size != header.record_size ||
	    found.check !=
		check_of(&found, offsetof(struct journal_header, check)))
		return -EUCLEAN;
	if (memcmp(&found, &header, sizeof(found)) != 0)
		return -EKEYREJECTED;
	journal->resumed = true;
	return read_records(journal, (size_t)stat.st_size);
}

void journal_close(struct journal *journal)
{
	free(journal->records);
}

static void hash_path(const char *path, size_t length, unsigned char hash[16])
{
	unsigned char digest[SHA256_SIZE];

	sha256(path, length, digest);
	memcpy(hash, digest, 16);
}

static int compare_record(const void *key, const void *record)
{
	return memcmp(key, ((const struct journal_record *)record)->path, 16);
}

const struct journal_record *journal_find(const struct journal *journal,
					  const char *path, size_t length,
					  bool *safe)
{
	const struct journal_record *found;
	unsigned char hash[16];

	*safe = false;
	if (!journal->count)
		return NULL;
	hash_path(path, length, hash);
	found = bsearch(hash, journal->records, journal->count,
			sizeof(*journal->records), compare_record);
	*safe = found && found->reserved;
	return found;
}

int journal_append(struct journal *journal, enum journal_kind kind,
		   const char *path, size_t length, uint32_t renamed,
		   uint64_t seal)
{
	struct journal_record record = {
	    .kind = kind,
	    .renamed = renamed,
	    .seal = seal,
	};

	if (journal->fd < 0)
		return 0;
	hash_path(path, length, record.path);
	record.check = record_check(&record);
	journal->unsafe_records++;
	return append(journal, &record, sizeof(record));
}

int journal_sync(struct journal *journal)
{
	return fdatasync(journal->fd) < 0 ? -errno : 0;
}

bool journal_wants_checkpoint(const struct journal *journal, uint64_t now)
{
	return journal->fd >= 0 && journal->unsafe_records &&
	       (now >= journal->due ||
		journal->unsafe_bytes >= CHECKPOINT_BYTES);
}

int journal_checkpoint(struct journal *journal, uint64_t now)
{
	struct journal_record record = {.kind = JOURNAL_CHECKPOINT};
	uint64_t taken;
	int error;

	/* What it tells of first, then the journal, then that this is so. */
	if (syncfs(journal->destination) < 0 || fdatasync(journal->fd) < 0)
		return -errno;
	record.check = record_check(&record);
	error = append(journal, &record, sizeof(record));
	if (!error && fdatasync(journal->fd) < 0)
		error = -errno;
	taken = monotonic() - now;
	journal->due = now + taken + journal->interval;
	if (taken * CHECKPOINT_SHARE > journal->interval)
		journal->due = now + taken * (CHECKPOINT_SHARE + 1);
	journal->unsafe_bytes = 0;
	journal->unsafe_records = 0;
	return error;
}
