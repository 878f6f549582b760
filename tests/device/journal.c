/* SPDX-License-Identifier: MIT */
/* The memory that holds the journal: whole at every instruction, and not believed. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fixture.h"

#define HEADER_BYTES 4096u

static size_t area_bytes;

static uint8_t *area_create(void)
{
    area_bytes = vgd_journal_area_bytes(64 << 10);
    uint8_t *area =
        mmap(NULL, area_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(area, MAP_FAILED);
    return area;
}

/* Records of a journal, checked against "tag, index" as written by fill. */
static void expect_records(const struct vgd_journal *journal, uint8_t tag, uint32_t from,
                           uint32_t to)
{
    size_t cursor = 0;
    const uint8_t *record;
    size_t n_bytes;
    for (uint32_t i = from; i < to; i++) {
        cr_assert_eq(vgd_journal_next(journal, &cursor, &record, &n_bytes), VGD_OK);
        cr_assert_eq(n_bytes, 1 + i % 40);
        for (size_t k = 0; k < n_bytes; k++) {
            cr_assert_eq(record[k], (uint8_t)(tag + i));
        }
    }
    cr_assert_eq(vgd_journal_next(journal, &cursor, &record, &n_bytes), VGD_AGAIN);
}

static void fill(struct vgd_journal *journal, uint8_t tag, uint32_t from, uint32_t to)
{
    uint8_t record[40];
    for (uint32_t i = from; i < to; i++) {
        memset(record, tag + (int)i, sizeof(record));
        cr_assert_eq(vgd_journal_append(journal, record, 1 + i % 40), VGD_OK);
    }
}

DEVICE_TEST(journal_zeroes_are_empty)
{
    uint8_t *area = area_create();
    struct vgd_journal *journal = vgd_journal_open(area, area_bytes);
    expect_records(journal, 0, 0, 0);
    cr_assert_not(vgd_journal_wants_compaction(journal));
    fill(journal, 7, 0, 100);
    expect_records(journal, 7, 0, 100);
    vgd_journal_close(journal);
    journal = vgd_journal_open(area, area_bytes); /* somebody else finds it */
    expect_records(journal, 7, 0, 100);
    fill(journal, 7, 100, 130);
    expect_records(journal, 7, 0, 130);
    vgd_journal_clear(journal);
    expect_records(journal, 7, 0, 0);
    vgd_journal_close(journal);
    cr_assert_null(vgd_journal_open(area, HEADER_BYTES));
    (void)munmap(area, area_bytes);
}

DEVICE_TEST(journal_compaction)
{
    uint8_t *area = area_create();
    struct vgd_journal *journal = vgd_journal_open(area, area_bytes);
    fill(journal, 1, 0, 50);
    for (int round = 0; round < 3; round++) {
        vgd_journal_compact_begin(journal);
        fill(journal, 2, 0, 20);
        /* Whoever opens it now sees the old half. */
        struct vgd_journal *other = vgd_journal_open(area, area_bytes);
        expect_records(other, (uint8_t)(round == 0 ? 1 : 2), 0, round == 0 ? 50 : 25);
        vgd_journal_close(other);
        vgd_journal_compact_abort(journal);
        expect_records(journal, (uint8_t)(round == 0 ? 1 : 2), 0, round == 0 ? 50 : 25);
        vgd_journal_compact_begin(journal);
        fill(journal, 2, 0, 20);
        vgd_journal_compact_commit(journal);
        expect_records(journal, 2, 0, 20);
        fill(journal, 2, 20, 25);
        other = vgd_journal_open(area, area_bytes);
        expect_records(other, 2, 0, 25);
        vgd_journal_close(other);
    }
    vgd_journal_close(journal);
    (void)munmap(area, area_bytes);
}

DEVICE_TEST(journal_full)
{
    uint8_t *area = area_create();
    struct vgd_journal *journal = vgd_journal_open(area, area_bytes);
    uint8_t record[4096] = {0};
    uint32_t n = 0;
    while (vgd_journal_append(journal, record, sizeof(record)) == VGD_OK) {
        n++;
    }
    cr_assert_gt(n, 256); /* the slack alone is 1 MiB */
    cr_assert_not(vgd_journal_has_room(journal, sizeof(record)));
    cr_assert(vgd_journal_wants_compaction(journal));
    cr_assert_eq(vgd_journal_append(journal, record, sizeof(record)), VGD_LIMIT);
    cr_assert_not(vgd_journal_has_room(journal, SIZE_MAX));
    cr_assert_not(vgd_journal_has_room(journal, 0));
    vgd_journal_clear(journal);
    cr_assert(vgd_journal_has_room(journal, sizeof(record)));
    vgd_journal_close(journal);
    (void)munmap(area, area_bytes);
}

DEVICE_TEST(journal_headers_that_lie)
{
    static const struct {
        const char *name;
        uint32_t active;
        uint64_t used_bytes[2];
        enum vgd_status status;
    } cases[] = {
        {"zeroes", 0, {0, 0}, VGD_AGAIN},
        {"active 2", 2, {0, 0}, VGD_RANGE},
        {"active 2^32 - 1", UINT32_MAX, {0, 0}, VGD_RANGE},
        {"used unaligned", 0, {12, 0}, VGD_RANGE},
        {"used above the half", 0, {UINT64_C(1) << 40, 0}, VGD_RANGE},
        {"used 2^64 - 8", 1, {0, UINT64_MAX - 7}, VGD_RANGE},
        {"the other half lies", 0, {0, UINT64_MAX}, VGD_AGAIN},
        {"record of 0 bytes", 0, {8, 0}, VGD_RANGE},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t *area = area_create();
        memcpy(area, &cases[i].active, 4);
        memcpy(area + 8, cases[i].used_bytes, 16);
        struct vgd_journal *journal = vgd_journal_open(area, area_bytes);
        size_t cursor = 0;
        const uint8_t *record;
        size_t n_bytes;
        cr_assert_eq(vgd_journal_next(journal, &cursor, &record, &n_bytes), cases[i].status, "%s",
                     cases[i].name);
        vgd_journal_clear(journal);
        fill(journal, 3, 0, 10);
        expect_records(journal, 3, 0, 10);
        vgd_journal_close(journal);
        (void)munmap(area, area_bytes);
    }
}

DEVICE_TEST(journal_records_that_lie)
{
    static const uint32_t lengths[] = {0, 37, 1000, 0x7fffffff, 0xfffffff8, 0xffffffff};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        uint8_t *area = area_create();
        struct vgd_journal *journal = vgd_journal_open(area, area_bytes);
        uint8_t record[32] = {0};
        cr_assert_eq(vgd_journal_append(journal, record, sizeof(record)), VGD_OK);
        memcpy(area + HEADER_BYTES, &lengths[i], 4);
        size_t cursor = 0;
        const uint8_t *out;
        size_t n_bytes;
        enum vgd_status st = vgd_journal_next(journal, &cursor, &out, &n_bytes);
        cr_assert(st == VGD_RANGE || st == VGD_TRUNCATED, "%u", lengths[i]);
        vgd_journal_close(journal);
        (void)munmap(area, area_bytes);
    }
}

static size_t resident_bytes(uint8_t *area)
{
    size_t n_pages = area_bytes / 4096;
    unsigned char *map = malloc(n_pages);
    cr_assert_eq(mincore(area, area_bytes, map), 0);
    size_t n = 0;
    for (size_t i = 0; i < n_pages; i++) {
        n += map[i] & 1;
    }
    free(map);
    return n * 4096;
}

DEVICE_TEST(journal_gives_pages_back)
{
    uint8_t *area = area_create();
    struct vgd_journal *journal = vgd_journal_open(area, area_bytes);
    uint8_t record[4092] = {0};
    for (int round = 0; round < 6; round++) {
        while (vgd_journal_append(journal, record, sizeof(record)) == VGD_OK) {
        }
        vgd_journal_compact_begin(journal);
        cr_assert_eq(vgd_journal_append(journal, record, sizeof(record)), VGD_OK);
        vgd_journal_compact_commit(journal);
        cr_assert_leq(resident_bytes(area), 4 * 4096);
    }
    vgd_journal_close(journal);
    (void)munmap(area, area_bytes);
}
