/* SPDX-License-Identifier: MIT */
/* Small trace files in memory, for the tests of the trace library and of vgd-trace. */
#ifndef TRACE_FIXTURE_H
#define TRACE_FIXTURE_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fd.h"
#include "leaks.h"
#include "trace_out.h"
#include "trace_reader.h"
#include "virtio_gpu.h"

#define START_REALTIME_NS UINT64_C(1700000000000000000)
#define START_MONOTONIC_NS UINT64_C(5000000000)
#define MS UINT64_C(1000000)

/* A file without a name, which can grow and shrink. */
static inline int file_create(void)
{
    int fd = memfd_create("trace", MFD_CLOEXEC);
    cr_assert(fd >= 0);
    return fd;
}

static inline size_t file_size(int fd)
{
    struct stat info;
    cr_assert_eq(fstat(fd, &info), 0);
    return (size_t)info.st_size;
}

/* The file's bytes, malloc'd. */
static inline uint8_t *file_bytes(int fd, size_t *out_bytes)
{
    *out_bytes = file_size(fd);
    uint8_t *bytes = malloc(*out_bytes + 1);
    cr_assert_not_null(bytes);
    cr_assert_eq(pread(fd, bytes, *out_bytes, 0), (ssize_t)*out_bytes);
    return bytes;
}

static inline int file_of(const uint8_t *bytes, size_t n_bytes)
{
    int fd = file_create();
    cr_assert_eq(pwrite(fd, bytes, n_bytes, 0), (ssize_t)n_bytes);
    return fd;
}

/* Bytes that do not compress and differ by @seed. */
static inline void noise(uint8_t *out, size_t n_bytes, uint64_t seed)
{
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; i < n_bytes; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out[i] = (uint8_t)(x >> 24);
    }
}

static inline bool from_memory(void *user, uint64_t offset_bytes, void *out, size_t n_bytes)
{
    memcpy(out, (const uint8_t *)user + offset_bytes, n_bytes);
    return true;
}

static inline void put(struct vgd_trace_out *out, const struct vgd_trace_record *record,
                       const void *data, size_t n_bytes)
{
    enum vgd_status st =
        vgd_trace_out_put(out, record, from_memory, (void *)(uintptr_t)data, n_bytes);
    cr_assert_eq(st, VGD_OK, "put: %d", st);
}

/* A command with its header, and @tail_bytes of noise behind its body. */
static inline void put_command(struct vgd_trace_out *out, uint64_t time_ns, uint64_t command_id,
                               const struct vgd_ctrl_hdr *hdr, const void *body, size_t body_bytes)
{
    static uint8_t bytes[1 << 20];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_ctrl_hdr_encode(&w, hdr);
    vgd_write_bytes(&w, body, body_bytes);
    cr_assert_eq(w.status, VGD_OK);
    struct vgd_trace_record record = {
        .kind = VGD_TRACE_KIND_COMMAND,
        .time_ns = time_ns,
        .as.command = {.command_id = command_id,
                       .queue_idx = hdr->type >= VGD_CMD_UPDATE_CURSOR ? 1 : 0,
                       .response_room_bytes = 24},
    };
    put(out, &record, bytes, vgd_writer_used(&w));
}

static inline struct vgd_trace_out *out_begin(int fd, uint32_t frame_raw_bytes)
{
    struct vgd_trace_out_config config = {.frame_raw_bytes = frame_raw_bytes, .dedup_count = 64};
    struct vgd_trace_out *out = vgd_trace_out_create(&config);
    cr_assert_not_null(out);
    cr_assert_eq(vgd_trace_out_begin(out, fd, START_REALTIME_NS, START_MONOTONIC_NS), VGD_OK);
    return out;
}

static inline void out_end(struct vgd_trace_out *out)
{
    cr_assert_eq(vgd_trace_out_finish(out), VGD_OK);
    vgd_trace_out_destroy(out);
}

static inline struct vgd_trace_reader *reader_open(int fd)
{
    int dup_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    struct vgd_trace_reader *reader = NULL;
    struct vgd_trace_fault fault;
    enum vgd_status st = vgd_trace_reader_open(&dup_fd, &reader, &fault);
    cr_assert_eq(st, VGD_OK, "open: %s at %llu", fault.text,
                 (unsigned long long)fault.offset_bytes);
    cr_assert_eq(dup_fd, -1, "taken");
    return reader;
}

/* All data of @item, malloc'd; fails the test if they cannot be had. */
static inline uint8_t *item_data(struct vgd_trace_reader *reader, const struct vgd_trace_item *item)
{
    uint8_t *bytes = malloc((size_t)item->data.total_bytes + 1);
    cr_assert_not_null(bytes);
    enum vgd_status st =
        vgd_trace_reader_data(reader, &item->data, 0, bytes, (size_t)item->data.total_bytes);
    cr_assert_eq(st, VGD_OK, "data: %s", vgd_trace_reader_fault(reader)->text);
    return bytes;
}

/* A record whose kind, time and data its number decides. */
static inline void put_numbered(struct vgd_trace_out *out, uint64_t number)
{
    static uint8_t data[200000];
    struct vgd_trace_record record = {.time_ns = number * MS};
    size_t n_bytes = 0;
    switch (number % 5) {
    case 0:
        record.kind = VGD_TRACE_KIND_FENCE;
        record.as.fence = (struct vgd_trace_fence){.fence_id = number, .ctx_id = 3};
        break;
    case 1:
        record.kind = VGD_TRACE_KIND_STATE_END;
        break;
    case 2:
        record.kind = VGD_TRACE_KIND_COMMAND;
        record.as.command = (struct vgd_trace_command){.command_id = number};
        n_bytes = number % 100;
        break;
    case 3:
        record.kind = VGD_TRACE_KIND_BACKING;
        record.as.backing = (struct vgd_trace_backing){.resource_id = 7, .offset_bytes = number};
        n_bytes = number % 2 == 0 ? 150000 : 5000;
        break;
    default:
        record.kind = VGD_TRACE_KIND_COMMAND;
        record.as.command = (struct vgd_trace_command){.command_id = number};
        n_bytes = VGD_TRACE_INLINE_MAX + number % 3 - 1; /* at the limit of what stands inline */
        break;
    }
    noise(data, n_bytes, number % 7); /* some are equal */
    put(out, &record, data, n_bytes);
}

static inline void expect_numbered(struct vgd_trace_reader *reader,
                                   const struct vgd_trace_item *item, uint64_t number)
{
    static uint8_t want[200000];
    cr_assert_eq(item->number, number);
    cr_assert_eq(item->record.time_ns, number * MS);
    uint8_t *data = item_data(reader, item);
    noise(want, (size_t)item->data.total_bytes, number % 7);
    cr_assert_arr_eq(data, want, (size_t)item->data.total_bytes, "data of %llu",
                     (unsigned long long)number);
    free(data);
    switch (number % 5) {
    case 0:
        cr_assert_eq(item->record.kind, VGD_TRACE_KIND_FENCE);
        cr_assert(item->record.as.fence.fence_id == number && item->data.total_bytes == 0);
        break;
    case 1:
        cr_assert_eq(item->record.kind, VGD_TRACE_KIND_STATE_END);
        break;
    case 3:
        cr_assert_eq(item->record.kind, VGD_TRACE_KIND_BACKING);
        cr_assert_eq(item->record.as.backing.offset_bytes, number);
        cr_assert_eq(item->data.total_bytes, number % 2 == 0 ? 150000 : 5000);
        break;
    default:
        cr_assert_eq(item->record.kind, VGD_TRACE_KIND_COMMAND);
        cr_assert_eq(item->record.as.command.command_id, number);
        break;
    }
}

static inline int numbered_file(uint64_t n_records, uint32_t frame_raw_bytes)
{
    int fd = file_create();
    struct vgd_trace_out *out = out_begin(fd, frame_raw_bytes);
    for (uint64_t i = 0; i < n_records; i++) {
        put_numbered(out, i);
    }
    out_end(out);
    return fd;
}

#endif
