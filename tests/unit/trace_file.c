/* SPDX-License-Identifier: MIT */
/* Rule: what was put comes back, byte for byte and in order; what is cut off or damaged is told
 * with its place, and everything before it still comes back. */
#include "trace_fixture.h"

#include <stdlib.h>

#include "trace_dedup.h"
#include "trace_layout.h"

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
