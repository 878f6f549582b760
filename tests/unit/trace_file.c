/* SPDX-License-Identifier: MIT */
/* Rule: what was put comes back, byte for byte and in order; what is cut off or damaged is told
 * with its place, and everything before it still comes back. */
#include "trace_fixture.h"

#include <stdlib.h>

#include "trace_dedup.h"
#include "trace_hash.h"
#include "trace_layout.h"

#define N_SMALL 40u

/* @n records of different kinds, with times and data that their number decides. */
static void put_numbered(struct vgd_trace_out *out, uint64_t number)
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

static void expect_numbered(struct vgd_trace_reader *reader, const struct vgd_trace_item *item,
                            uint64_t number)
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

static int numbered_file(uint64_t n_records, uint32_t frame_raw_bytes)
{
    int fd = file_create();
    struct vgd_trace_out *out = out_begin(fd, frame_raw_bytes);
    for (uint64_t i = 0; i < n_records; i++) {
        put_numbered(out, i);
    }
    out_end(out);
    return fd;
}

static void expect_range(int fd, uint64_t first, uint64_t end)
{
    struct vgd_trace_reader *reader = reader_open(fd);
    cr_assert_eq(vgd_trace_reader_seek_number(reader, first), VGD_OK);
    struct vgd_trace_item item;
    for (uint64_t i = first; i < end; i++) {
        cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK, "record %llu",
                     (unsigned long long)i);
        expect_numbered(reader, &item, i);
    }
    vgd_trace_reader_close(reader);
}

Test(trace_file, round_trip)
{
    unsigned fds_before = open_fds_count();
    int fd = numbered_file(500, 0);
    struct vgd_trace_reader *reader = reader_open(fd);
    struct vgd_trace_info info = vgd_trace_reader_info(reader);
    cr_assert(info.has_index && info.n_records == 500);
    cr_assert_eq(info.header.start_realtime_ns, START_REALTIME_NS);
    cr_assert_eq(info.header.start_monotonic_ns, START_MONOTONIC_NS);
    struct vgd_trace_item item;
    for (uint64_t i = 0; i < 500; i++) {
        cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
        expect_numbered(reader, &item, i);
    }
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_CLOSED);
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_CLOSED, "and stays so");
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&fd);
    cr_assert_eq(open_fds_count(), fds_before);
}

Test(trace_file, empty)
{
    int fd = numbered_file(0, 0);
    struct vgd_trace_reader *reader = reader_open(fd);
    struct vgd_trace_item item;
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_CLOSED);
    cr_assert_eq(vgd_trace_reader_seek_time(reader, 1), VGD_OK);
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_CLOSED);
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&fd);
}

Test(trace_file, part_of_data)
{
    int fd = file_create();
    struct vgd_trace_out *out = out_begin(fd, 0);
    static uint8_t data[300000], got[300000];
    noise(data, sizeof(data), 1);
    struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_COMMAND};
    put(out, &record, data, sizeof(data));
    out_end(out);
    struct vgd_trace_reader *reader = reader_open(fd);
    struct vgd_trace_item item;
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
    cr_assert(item.data.head_bytes >= 96 && memcmp(item.data.head, data, 96) == 0,
              "a command's header stands in the record");
    const struct {
        uint64_t at;
        size_t n;
    } parts[] = {{0, 1},           {95, 2},     {96, 65536}, {65631, 2},
                 {100000, 150000}, {299999, 1}, {300000, 0}, {0, 300000}};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        cr_assert_eq(vgd_trace_reader_data(reader, &item.data, parts[i].at, got, parts[i].n),
                     VGD_OK);
        cr_assert_arr_eq(got, data + parts[i].at, parts[i].n, "part %zu", i);
    }
    cr_assert_eq(vgd_trace_reader_data(reader, &item.data, 299999, got, 2), VGD_RANGE);
    cr_assert_eq(vgd_trace_reader_data(reader, &item.data, UINT64_MAX, got, 2), VGD_RANGE);
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&fd);
}

Test(trace_file, limits_of_data)
{
    int fd = file_create();
    struct vgd_trace_out *out = out_begin(fd, 0);
    uint8_t *data = calloc(1, VGD_TRACE_DATA_MAX + 1);
    struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_CONTENT};
    put(out, &record, data, VGD_TRACE_DATA_MAX);
    cr_assert_eq(vgd_trace_out_put(out, &record, from_memory, data, VGD_TRACE_DATA_MAX + 1),
                 VGD_RANGE);
    record.kind = VGD_TRACE_KIND_FENCE;
    cr_assert_eq(vgd_trace_out_put(out, &record, from_memory, data, 1), VGD_RANGE);
    record.kind = VGD_TRACE_KIND_PIECE;
    cr_assert_eq(vgd_trace_out_put(out, &record, from_memory, data, 0), VGD_RANGE);
    record.kind = VGD_TRACE_KIND_END + 1;
    cr_assert_eq(vgd_trace_out_put(out, &record, from_memory, data, 0), VGD_RANGE);
    cr_assert_lt(vgd_trace_out_stats(out).bytes_out, 100000, "zeros are stored once");
    out_end(out);
    struct vgd_trace_reader *reader = reader_open(fd);
    struct vgd_trace_item item;
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
    cr_assert_eq(item.data.total_bytes, VGD_TRACE_DATA_MAX);
    uint8_t *got = item_data(reader, &item);
    cr_assert_arr_eq(got, data, VGD_TRACE_DATA_MAX);
    free(got);
    free(data);
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&fd);
}

/* Every kind, with every field set: what the encoder writes the decoder reads. */
Test(trace_file, every_kind)
{
    int fd = file_create();
    struct vgd_trace_out *out = out_begin(fd, 0);
    struct vgd_trace_record records[VGD_TRACE_KIND_END + 1];
    for (uint32_t kind = VGD_TRACE_KIND_FACT; kind <= VGD_TRACE_KIND_END; kind++) {
        struct vgd_trace_record *record = &records[kind];
        memset(record, 0, sizeof(*record));
        /* From a value: padding inside a struct has to be what the decoder leaves. */
        uint8_t body[VGD_TRACE_BODY_MAX];
        noise(body, sizeof(body), kind);
        struct vgd_reader r = vgd_reader_of(body, sizeof(body));
        enum vgd_status st = vgd_trace_record_decode(&r, kind, record);
        cr_assert(st == VGD_OK || st == VGD_TRAILING);
        if (st == VGD_TRAILING) { /* of exact size: find it */
            for (size_t n = 0; n < sizeof(body) && st != VGD_OK; n++) {
                r = vgd_reader_of(body, n);
                st = vgd_trace_record_decode(&r, kind, record);
            }
        }
        cr_assert_eq(st, VGD_OK, "kind %u", kind);
        put(out, record, "data", vgd_trace_kind_has_data(kind) ? 4 : 0);
    }
    out_end(out);
    struct vgd_trace_reader *reader = reader_open(fd);
    struct vgd_trace_item item;
    for (uint32_t kind = VGD_TRACE_KIND_FACT; kind <= VGD_TRACE_KIND_END; kind++) {
        memset(&item, 0, sizeof(item));
        cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
        cr_assert_eq(item.record.kind, kind);
        uint8_t want[VGD_TRACE_BODY_MAX] = {0}, got[VGD_TRACE_BODY_MAX] = {0};
        struct vgd_writer w = vgd_writer_of(want, sizeof(want));
        vgd_trace_record_encode(&w, &records[kind]);
        struct vgd_writer v = vgd_writer_of(got, sizeof(got));
        vgd_trace_record_encode(&v, &item.record);
        cr_assert_arr_eq(got, want, sizeof(want), "kind %u", kind);
        cr_assert_str_neq(vgd_trace_kind_name(kind), "unknown");
        cr_assert_eq(item.data.total_bytes, vgd_trace_kind_has_data(kind) ? 4 : 0);
    }
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_CLOSED);
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&fd);
}

Test(trace_file, times_do_not_go_back)
{
    int fd = file_create();
    struct vgd_trace_out *out = out_begin(fd, 0);
    const uint64_t times[] = {5, 3, 7}, want[] = {5, 5, 7};
    for (size_t i = 0; i < 3; i++) {
        struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_FENCE, .time_ns = times[i]};
        put(out, &record, NULL, 0);
    }
    out_end(out);
    struct vgd_trace_reader *reader = reader_open(fd);
    for (size_t i = 0; i < 3; i++) {
        struct vgd_trace_item item;
        cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
        cr_assert_eq(item.record.time_ns, want[i]);
    }
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&fd);
}

/* ---- seeking ---- */

static void seeks_find(int fd, uint64_t n_records, bool has_index)
{
    struct vgd_trace_reader *reader = reader_open(fd);
    cr_assert_eq(vgd_trace_reader_info(reader).has_index, has_index);
    struct vgd_trace_item item;
    for (uint64_t k = 0; k < 60; k++) {
        uint64_t number = k * 37 % n_records;
        cr_assert_eq(vgd_trace_reader_seek_number(reader, number), VGD_OK);
        cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
        expect_numbered(reader, &item, number);
        /* Between two: the later one. */
        cr_assert_eq(vgd_trace_reader_seek_time(reader, number * MS - (number > 0 ? 1 : 0)),
                     VGD_OK);
        cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
        expect_numbered(reader, &item, number);
    }
    enum vgd_status end = has_index ? VGD_CLOSED : VGD_TRUNCATED;
    cr_assert_eq(vgd_trace_reader_seek_number(reader, n_records), VGD_OK);
    cr_assert_eq(vgd_trace_reader_next(reader, &item), end);
    cr_assert_eq(vgd_trace_reader_seek_time(reader, UINT64_MAX), VGD_OK);
    cr_assert_eq(vgd_trace_reader_next(reader, &item), end);
    cr_assert_eq(vgd_trace_reader_seek_number(reader, 0), VGD_OK);
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
    expect_numbered(reader, &item, 0);
    vgd_trace_reader_close(reader);
}

Test(trace_file, seek_with_and_without_index)
{
    int fd = numbered_file(300, 100000);
    seeks_find(fd, 300, true);
    /* The index frame and the trailer gone: by looking at each frame. */
    struct vgd_trace_file_trailer trailer;
    struct vgd_trace_file_header header;
    cr_assert_eq(vgd_trace_read_header(fd, file_size(fd), &header), VGD_OK);
    cr_assert_eq(vgd_trace_read_trailer(fd, file_size(fd), header.check_seed, &trailer), VGD_OK);
    cr_assert_eq(ftruncate(fd, (off_t)trailer.index_offset_bytes), 0);
    seeks_find(fd, 300, false);
    vgd_fd_closep(&fd);
}

/* More frames than the index has room for: it names every second, then every fourth one. */
Test(trace_file, index_is_bounded, .timeout = 60)
{
    int fd = file_create();
    struct vgd_trace_out *out = out_begin(fd, 0);
    const uint64_t n_frames = VGD_TRACE_INDEX_ENTRIES_MAX * 2 + 100;
    for (uint64_t i = 0; i < n_frames; i++) {
        struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_FENCE, .time_ns = i};
        put(out, &record, NULL, 0);
        cr_assert_eq(vgd_trace_out_flush(out), VGD_OK);
    }
    cr_assert_eq(vgd_trace_out_stats(out).frames, n_frames);
    out_end(out);
    struct vgd_trace_reader *reader = reader_open(fd);
    for (uint64_t number = 0; number < n_frames; number += 997) {
        struct vgd_trace_item item;
        cr_assert_eq(vgd_trace_reader_seek_number(reader, number), VGD_OK);
        cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
        cr_assert_eq(item.number, number);
    }
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&fd);
}

/* ---- cut off and damaged ---- */

/* Records that can be read of @fd, in order, and how it ends. Data have to be right. */
static uint64_t readable_count(int fd, enum vgd_status *out_end, struct vgd_trace_fault *out_fault)
{
    int dup_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    struct vgd_trace_reader *reader = NULL;
    *out_end = vgd_trace_reader_open(&dup_fd, &reader, out_fault);
    if (*out_end != VGD_OK) {
        vgd_fd_closep(&dup_fd);
        return 0;
    }
    uint64_t n = 0;
    struct vgd_trace_item item;
    while ((*out_end = vgd_trace_reader_next(reader, &item)) == VGD_OK) {
        expect_numbered(reader, &item, n);
        n++;
    }
    *out_fault = *vgd_trace_reader_fault(reader);
    vgd_trace_reader_close(reader);
    return n;
}

Test(trace_file, cut_off_at_each_byte, .timeout = 120)
{
    int whole = file_create();
    struct vgd_trace_out *out = out_begin(whole, 6000);
    uint64_t records_by_offset[16], offsets[16];
    size_t n_frames = 0;
    for (uint64_t i = 0; i < N_SMALL; i++) {
        uint64_t frames = vgd_trace_out_stats(out).frames;
        uint64_t number = i % 5 == 3 ? 3 : i % 5 == 4 ? 4 : i; /* without the longest */
        struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_COMMAND, .time_ns = i * MS};
        uint8_t data[1500];
        noise(data, sizeof(data), number);
        record.as.command.command_id = i;
        put(out, &record, data, sizeof(data));
        if (vgd_trace_out_stats(out).frames != frames && n_frames < 16) {
            records_by_offset[n_frames] = i;
            offsets[n_frames++] = file_size(whole);
        }
    }
    cr_assert_eq(vgd_trace_out_flush(out), VGD_OK);
    size_t records_end = file_size(whole);
    out_end(out);
    size_t n_bytes;
    uint8_t *bytes = file_bytes(whole, &n_bytes);
    cr_assert_gt(n_frames, 3);
    for (size_t len = 0; len < n_bytes; len += len < 200 || len + 400 > n_bytes ? 1 : 13) {
        int fd = file_of(bytes, len);
        int dup_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        struct vgd_trace_reader *reader = NULL;
        struct vgd_trace_fault fault;
        enum vgd_status st = vgd_trace_reader_open(&dup_fd, &reader, &fault);
        if (len < VGD_TRACE_FILE_HEADER_SIZE) {
            cr_assert_eq(st, len == 0 ? VGD_RANGE : VGD_TRUNCATED, "length %zu", len);
            vgd_fd_closep(&dup_fd);
            vgd_fd_closep(&fd);
            continue;
        }
        cr_assert_eq(st, VGD_OK);
        uint64_t want = 0, fault_offset = VGD_TRACE_FILE_HEADER_SIZE;
        for (size_t f = 0; f < n_frames; f++) {
            if (offsets[f] <= len) {
                want = records_by_offset[f];
                fault_offset = offsets[f];
            }
        }
        if (len >= records_end) {
            want = N_SMALL;
            fault_offset = records_end;
        }
        uint64_t n = 0;
        struct vgd_trace_item item;
        while ((st = vgd_trace_reader_next(reader, &item)) == VGD_OK) {
            cr_assert_eq(item.record.as.command.command_id, n);
            free(item_data(reader, &item));
            n++;
        }
        cr_assert_eq(st, VGD_TRUNCATED, "length %zu", len);
        cr_assert_eq(n, want, "length %zu: %llu records", len, (unsigned long long)n);
        cr_assert_eq(vgd_trace_reader_fault(reader)->offset_bytes, fault_offset, "length %zu", len);
        vgd_trace_reader_close(reader);
        vgd_fd_closep(&fd);
    }
    free(bytes);
    vgd_fd_closep(&whole);
}

/* One bit anywhere: what comes back is right and in order, and the damage is told. */
Test(trace_file, one_bit_flipped, .timeout = 120)
{
    int whole = numbered_file(12, 9000);
    size_t n_bytes;
    uint8_t *bytes = file_bytes(whole, &n_bytes);
    size_t n_told = 0;
    for (size_t at = 0; at < n_bytes; at += at < 400 || at + 400 > n_bytes ? 1 : 61) {
        bytes[at] ^= (uint8_t)(1u << at % 8);
        int fd = file_of(bytes, n_bytes);
        enum vgd_status end;
        struct vgd_trace_fault fault = {0};
        uint64_t n = 0;
        int dup_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        struct vgd_trace_reader *reader = NULL;
        end = vgd_trace_reader_open(&dup_fd, &reader, &fault);
        if (end == VGD_OK) {
            struct vgd_trace_item item;
            while ((end = vgd_trace_reader_next(reader, &item)) == VGD_OK) {
                expect_numbered(reader, &item, n);
                n++;
            }
            fault = *vgd_trace_reader_fault(reader);
            vgd_trace_reader_close(reader);
        } else {
            vgd_fd_closep(&dup_fd);
        }
        cr_assert(end == VGD_RANGE || end == VGD_TRUNCATED || end == VGD_UNSUPPORTED,
                  "byte %zu: %d", at, end);
        cr_assert(fault.offset_bytes <= at || end == VGD_TRUNCATED, "byte %zu: told at %llu", at,
                  (unsigned long long)fault.offset_bytes);
        n_told++;
        bytes[at] ^= (uint8_t)(1u << at % 8);
        vgd_fd_closep(&fd);
    }
    cr_assert_gt(n_told, 500);
    free(bytes);
    vgd_fd_closep(&whole);
}

Test(trace_file, behind_damage_by_seek)
{
    int fd = numbered_file(300, 100000);
    struct vgd_trace_reader *reader = reader_open(fd);
    struct vgd_trace_item item;
    cr_assert_eq(vgd_trace_reader_seek_number(reader, 150), VGD_OK);
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
    vgd_trace_reader_close(reader);
    uint8_t byte = 0x77;
    cr_assert_eq(pwrite(fd, &byte, 1, (off_t)item.frame_offset_bytes + 100), 1);
    struct vgd_trace_fault fault;
    enum vgd_status end;
    uint64_t n = readable_count(fd, &end, &fault);
    cr_assert(end == VGD_RANGE && n < 150 && fault.offset_bytes == item.frame_offset_bytes);
    reader = reader_open(fd);
    cr_assert_eq(vgd_trace_reader_seek_number(reader, 250), VGD_OK);
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
    cr_assert_eq(item.number, 250);
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&fd);
}

static void refuses(const void *bytes, size_t n_bytes, enum vgd_status want)
{
    int fd = file_of(bytes, n_bytes);
    int before = fd;
    struct vgd_trace_reader *reader = NULL;
    struct vgd_trace_fault fault;
    cr_assert_eq(vgd_trace_reader_open(&fd, &reader, &fault), want);
    cr_assert(fd == before && reader == NULL && fault.status == want && fault.text[0] != '\0');
    vgd_fd_closep(&fd);
}

Test(trace_file, foreign_files)
{
    refuses("", 0, VGD_RANGE);
    refuses("x", 1, VGD_RANGE);
    refuses("\x89PNG\r\n\x1a\n and so on, longer than any header of ours, and some more of it....",
            76, VGD_RANGE);
    int whole = numbered_file(1, 0);
    size_t n_bytes;
    uint8_t *bytes = file_bytes(whole, &n_bytes);
    bytes[8] = 2; /* another major version is told as such */
    refuses(bytes, n_bytes, VGD_UNSUPPORTED);
    free(bytes);
    vgd_fd_closep(&whole);
    int pipe_fds[2];
    cr_assert_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
    struct vgd_trace_reader *reader = NULL;
    struct vgd_trace_fault fault;
    cr_assert_eq(vgd_trace_reader_open(&pipe_fds[0], &reader, &fault), VGD_RANGE);
    vgd_fds_close(pipe_fds, 2);
}

/* ---- what only somebody else writes ---- */

/* A file with one frame of @raw as it is. */
static int file_with_frame(const uint8_t *raw, size_t raw_bytes, uint32_t n_records)
{
    int fd = numbered_file(0, 0);
    struct vgd_trace_file_header header;
    cr_assert_eq(vgd_trace_read_header(fd, file_size(fd), &header), VGD_OK);
    cr_assert_eq(ftruncate(fd, VGD_TRACE_FILE_HEADER_SIZE), 0);
    /* A zstd frame by hand: magic, a window and size byte, one raw block. */
    uint8_t stored[4096] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58};
    uint32_t block = (uint32_t)raw_bytes << 3 | 1;
    memcpy(stored + 6, &block, 3);
    memcpy(stored + 9, raw, raw_bytes);
    size_t stored_bytes = raw_bytes + 9;
    struct vgd_trace_file_frame frame = {
        .magic = VGD_TRACE_FRAME_MAGIC,
        .kind = VGD_TRACE_FRAME_RECORDS,
        .stored_bytes = (uint32_t)stored_bytes,
        .raw_bytes = (uint32_t)raw_bytes,
        .offset_bytes = VGD_TRACE_FILE_HEADER_SIZE,
        .last_time_ns = 1000,
        .n_records = n_records,
        .payload_check = vgd_trace_check(stored, stored_bytes, header.check_seed),
    };
    uint8_t hdr[VGD_TRACE_FILE_FRAME_SIZE];
    vgd_trace_seal_frame(&frame, header.check_seed, hdr);
    cr_assert_eq(pwrite(fd, hdr, sizeof(hdr), VGD_TRACE_FILE_HEADER_SIZE), (ssize_t)sizeof(hdr));
    cr_assert_eq(
        pwrite(fd, stored, stored_bytes, VGD_TRACE_FILE_HEADER_SIZE + VGD_TRACE_FILE_FRAME_SIZE),
        (ssize_t)stored_bytes);
    return fd;
}

static size_t raw_record(uint8_t *out, uint32_t size_bytes, uint32_t kind, uint64_t time_ns)
{
    struct vgd_writer w = vgd_writer_of(out, VGD_TRACE_RECORD_HEADER_SIZE);
    struct vgd_trace_record_header hdr = {
        .size_bytes = size_bytes, .kind = kind, .time_ns = time_ns};
    vgd_trace_record_header_encode(&w, &hdr);
    return VGD_TRACE_RECORD_HEADER_SIZE;
}

Test(trace_file, unknown_kinds_are_passed_over_and_counted)
{
    uint8_t raw[256] = {0};
    size_t n = raw_record(raw, 20, 900, 1) + 4;
    n += raw_record(raw + n, 16, VGD_TRACE_KIND_STATE_END, 2);
    n += raw_record(raw + n, 16, 901, 3);
    int fd = file_with_frame(raw, n, 3);
    struct vgd_trace_reader *reader = reader_open(fd);
    struct vgd_trace_item item;
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
    cr_assert(item.record.kind == VGD_TRACE_KIND_STATE_END && item.number == 1);
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_TRUNCATED, "no index");
    cr_assert_eq(vgd_trace_reader_info(reader).unknown_count, 2);
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&fd);
}

Test(trace_file, records_that_cannot_be)
{
    const struct {
        const char *name;
        uint32_t size_bytes, kind, time_ns, n_records;
        uint32_t head_bytes, n_pieces;
        uint64_t total_bytes;
        struct vgd_trace_piece_ref ref;
    } cases[] = {
        {"shorter than its header", 15, VGD_TRACE_KIND_STATE_END, 0, 1, 0, 0, 0, {0}},
        {"of size 0", 0, VGD_TRACE_KIND_STATE_END, 0, 1, 0, 0, 0, {0}},
        {"longer than the frame", 200, VGD_TRACE_KIND_STATE_END, 0, 1, 0, 0, 0, {0}},
        {"longest", UINT32_MAX, VGD_TRACE_KIND_STATE_END, 0, 1, 0, 0, 0, {0}},
        {"with bytes too many", 100, VGD_TRACE_KIND_FENCE, 0, 1, 0, 0, 0, {0}},
        {"cut short", 20, VGD_TRACE_KIND_FENCE, 0, 1, 0, 0, 0, {0}},
        {"later than its frame", 100, VGD_TRACE_KIND_RESPONSE, 1001, 1, 60, 0, 60, {0}},
        {"one too many", 100, VGD_TRACE_KIND_RESPONSE, 0, 0, 60, 0, 60, {0}},
        {"one too few", 100, VGD_TRACE_KIND_RESPONSE, 0, 2, 60, 0, 60, {0}},
        {"with a head too long", 100, VGD_TRACE_KIND_RESPONSE, 0, 1, 61, 0, 61, {0}},
        {"with a head that wraps", 100, VGD_TRACE_KIND_RESPONSE, 0, 1, UINT32_MAX, 0, 60, {0}},
        {"with pieces too many", 100, VGD_TRACE_KIND_RESPONSE, 0, 1, 0, UINT32_MAX, 0, {0}},
        {"with a total that lies", 100, VGD_TRACE_KIND_RESPONSE, 0, 1, 60, 0, 61, {0}},
        {"with an empty piece", 64, VGD_TRACE_KIND_RESPONSE, 0, 1, 0, 1, 0, {.size_bytes = 0}},
        {"with a long piece",
         64,
         VGD_TRACE_KIND_RESPONSE,
         0,
         1,
         0,
         1,
         VGD_TRACE_PIECE_MAX + 1,
         {.size_bytes = VGD_TRACE_PIECE_MAX + 1}},
        {"with a piece of the future",
         64,
         VGD_TRACE_KIND_RESPONSE,
         0,
         1,
         0,
         1,
         5,
         {.size_bytes = 5, .frame_offset_bytes = 73}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t raw[100] = {0};
        size_t at = raw_record(raw, cases[i].size_bytes, cases[i].kind, cases[i].time_ns);
        if (cases[i].kind == VGD_TRACE_KIND_RESPONSE) {
            struct vgd_writer w = vgd_writer_of(raw + at + VGD_TRACE_RESPONSE_SIZE, 60);
            struct vgd_trace_data_header data = {.total_bytes = cases[i].total_bytes,
                                                 .head_bytes = cases[i].head_bytes,
                                                 .n_pieces = cases[i].n_pieces};
            vgd_trace_data_header_encode(&w, &data);
            if (cases[i].n_pieces == 1) {
                vgd_trace_piece_ref_encode(&w, &cases[i].ref);
            }
        }
        size_t raw_bytes = cases[i].n_pieces == 1 ? 64 : 100;
        int fd = file_with_frame(raw, raw_bytes, cases[i].n_records);
        struct vgd_trace_reader *reader = reader_open(fd);
        struct vgd_trace_item item;
        enum vgd_status st = vgd_trace_reader_next(reader, &item);
        if (st == VGD_OK) {
            st = vgd_trace_reader_next(reader, &item);
        }
        cr_assert_eq(st, VGD_RANGE, "a record %s: %d", cases[i].name, st);
        cr_assert_eq(vgd_trace_reader_fault(reader)->offset_bytes, VGD_TRACE_FILE_HEADER_SIZE);
        vgd_trace_reader_close(reader);
        vgd_fd_closep(&fd);
    }
}

/* A reference whose check is not that of the piece: what a collision of the first hash would leave.
 */
Test(trace_file, a_piece_of_other_bytes_is_told)
{
    uint8_t raw[512] = {0};
    uint8_t bytes[8] = "abcdefg";
    size_t at = raw_record(raw, 32, VGD_TRACE_KIND_PIECE, 0);
    int plain = numbered_file(0, 0);
    vgd_fd_closep(&plain);
    struct vgd_trace_piece_ref ref = {
        .frame_offset_bytes = VGD_TRACE_FILE_HEADER_SIZE, .size_bytes = 8, .check = 5};
    struct vgd_writer w = vgd_writer_of(raw + at, sizeof(raw) - at);
    vgd_write_le64(&w, 5);
    vgd_write_bytes(&w, bytes, sizeof(bytes));
    at = 32;
    at += raw_record(raw + at, 64, VGD_TRACE_KIND_RESPONSE, 0);
    w = vgd_writer_of(raw + at, sizeof(raw) - at);
    vgd_write_le64(&w, 1);
    struct vgd_trace_data_header data = {.total_bytes = 8, .n_pieces = 1};
    vgd_trace_data_header_encode(&w, &data);
    vgd_trace_piece_ref_encode(&w, &ref);
    size_t end = 32 + 64;
    end += raw_record(raw + end, 16, VGD_TRACE_KIND_STATE_END, 0);
    int fd = file_with_frame(raw, end, 2);
    struct vgd_trace_reader *reader = reader_open(fd);
    struct vgd_trace_item item;
    uint8_t got[8];
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
    cr_assert_eq(vgd_trace_reader_data(reader, &item.data, 0, got, 8), VGD_RANGE);
    cr_assert_eq(vgd_trace_reader_fault(reader)->offset_bytes, VGD_TRACE_FILE_HEADER_SIZE);
    cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK, "and it goes on");
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&fd);
}

/* ---- the same bytes once ---- */

Test(trace_file, equal_data_are_stored_once_across_frames)
{
    int fd = file_create();
    struct vgd_trace_out *out = out_begin(fd, 0);
    static uint8_t picture[1 << 20];
    noise(picture, sizeof(picture), 5);
    struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_BACKING};
    for (uint32_t i = 0; i < 30; i++) {
        record.as.backing.resource_id = i;
        put(out, &record, picture, sizeof(picture));
        cr_assert_eq(vgd_trace_out_flush(out), VGD_OK);
    }
    struct vgd_trace_out_stats stats = vgd_trace_out_stats(out);
    cr_assert(stats.frames >= 30 && stats.pieces == 30 * 16 && stats.pieces_found == 29 * 16);
    cr_assert_eq(stats.bytes_found, 29 << 20);
    cr_assert_lt(stats.bytes_out, sizeof(picture) + 40000);
    out_end(out);
    struct vgd_trace_reader *reader = reader_open(fd);
    struct vgd_trace_item item;
    for (uint32_t i = 0; i < 30; i++) {
        cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
        uint8_t *got = item_data(reader, &item);
        cr_assert_arr_eq(got, picture, sizeof(picture));
        free(got);
    }
    vgd_trace_reader_close(reader);
    vgd_fd_closep(&fd);
}

/* Those that were not used the longest go first; the table never grows. */
Test(trace_file, oldest_pieces_are_forgotten)
{
    struct vgd_trace_dedup *table = vgd_trace_dedup_create(4);
    struct vgd_trace_dedup_key keys[6];
    struct vgd_trace_piece_ref ref;
    for (uint32_t i = 0; i < 6; i++) {
        keys[i] = (struct vgd_trace_dedup_key){
            .name_low = i % 2, .name_high = i, .check = i, .size_bytes = i + 1};
    }
    for (uint32_t i = 0; i < 4; i++) {
        cr_assert_not(vgd_trace_dedup_find(table, &keys[i], &ref));
        vgd_trace_dedup_add(table, &keys[i], 1000 + i, i);
    }
    cr_assert(vgd_trace_dedup_find(table, &keys[0], &ref), "now the newest");
    cr_assert(ref.frame_offset_bytes == 1000 && ref.at_bytes == 0 && ref.size_bytes == 1);
    vgd_trace_dedup_add(table, &keys[4], 1004, 4);
    vgd_trace_dedup_add(table, &keys[5], 1005, 5);
    const bool there[6] = {true, false, false, true, true, true};
    for (uint32_t i = 0; i < 6; i++) {
        cr_assert_eq(vgd_trace_dedup_find(table, &keys[i], &ref), there[i], "key %u", i);
        cr_assert(!there[i] || ref.frame_offset_bytes == 1000 + i);
    }
    vgd_trace_dedup_destroy(table);
}

/* A collision of the 128-bit hash alone is not taken for equality. */
Test(trace_file, equal_names_with_unequal_checks_are_no_hit)
{
    struct vgd_trace_dedup *table = vgd_trace_dedup_create(4);
    struct vgd_trace_dedup_key key = {.name_low = 1, .name_high = 2, .check = 3, .size_bytes = 9};
    vgd_trace_dedup_add(table, &key, 100, 0);
    struct vgd_trace_piece_ref ref;
    struct vgd_trace_dedup_key other = key;
    other.check = 4;
    cr_assert_not(vgd_trace_dedup_find(table, &other, &ref));
    other = key;
    other.size_bytes = 8;
    cr_assert_not(vgd_trace_dedup_find(table, &other, &ref));
    cr_assert(vgd_trace_dedup_find(table, &key, &ref));
    vgd_trace_dedup_destroy(table);
}

/* ---- going on with a file ---- */

/* As after the death of a worker: the file ends in the middle of a frame. */
Test(trace_file, resume_behind_half_a_frame)
{
    int fd = file_create();
    struct vgd_trace_out *out = out_begin(fd, 50000);
    for (uint64_t i = 0; i < 100; i++) {
        put_numbered(out, i);
    }
    cr_assert_eq(vgd_trace_out_flush(out), VGD_OK);
    size_t whole = file_size(fd);
    for (uint64_t i = 100; i < 130; i++) {
        put_numbered(out, i);
    }
    cr_assert_eq(vgd_trace_out_flush(out), VGD_OK);
    vgd_trace_out_destroy(out);
    cr_assert_eq(ftruncate(fd, (off_t)whole + 100), 0);

    for (int turn = 0; turn < 2; turn++) { /* the second time behind a file that was ended */
        struct vgd_trace_out_config config = {.dedup_count = 64};
        out = vgd_trace_out_create(&config);
        uint64_t start_ns = 0;
        cr_assert_eq(vgd_trace_out_resume(out, fd, &start_ns), VGD_OK);
        cr_assert_eq(start_ns, START_MONOTONIC_NS);
        for (uint64_t i = 0; i < 50; i++) {
            put_numbered(out, 100 + (uint64_t)turn * 50 + i);
        }
        out_end(out);
        expect_range(fd, 0, 100 + (uint64_t)(turn + 1) * 50);
        seeks_find(fd, 100 + (uint64_t)(turn + 1) * 50, true);
    }
    vgd_fd_closep(&fd);
}

Test(trace_file, resume_refuses_what_is_no_trace)
{
    struct vgd_trace_out_config config = {.dedup_count = 64};
    struct vgd_trace_out *out = vgd_trace_out_create(&config);
    uint64_t start_ns;
    int fd = file_of((const uint8_t *)"a letter to my aunt", 19);
    cr_assert_eq(vgd_trace_out_resume(out, fd, &start_ns), VGD_RANGE);
    cr_assert_eq(file_size(fd), 19, "untouched");
    vgd_fd_closep(&fd);
    fd = numbered_file(100, 50000);
    size_t n_bytes = file_size(fd);
    uint8_t byte = 0x77;
    cr_assert_eq(pwrite(fd, &byte, 1, 1000), 1);
    cr_assert_eq(vgd_trace_out_resume(out, fd, &start_ns), VGD_RANGE);
    cr_assert_eq(file_size(fd), n_bytes, "a damaged one is left as it is");
    vgd_fd_closep(&fd);
    vgd_trace_out_destroy(out);
}

Test(trace_file, configs_out_of_range)
{
    const struct vgd_trace_out_config bad[] = {{.level = -1},
                                               {.level = VGD_TRACE_LEVEL_MAX + 1},
                                               {.dedup_count = 3},
                                               {.dedup_count = 1},
                                               {.dedup_count = VGD_TRACE_DEDUP_COUNT_MAX * 2}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_null(vgd_trace_out_create(&bad[i]), "config %zu", i);
    }
}
