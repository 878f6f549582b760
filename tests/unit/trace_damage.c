/* SPDX-License-Identifier: MIT */
/* Rule: a file that is cut off, damaged, foreign or made to hurt is told with the place of its
 * fault, and everything before the fault comes back as it was. */
#include "trace_fixture.h"

#include "trace_hash.h"
#include "trace_layout.h"

#define N_SMALL 40u

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

Test(trace_damage, cut_off_at_each_byte, .timeout = 120)
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
Test(trace_damage, one_bit_flipped, .timeout = 120)
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

Test(trace_damage, behind_damage_by_seek)
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

Test(trace_damage, foreign_files)
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

Test(trace_damage, unknown_kinds_are_passed_over_and_counted)
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

Test(trace_damage, records_that_cannot_be)
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
Test(trace_damage, a_piece_of_other_bytes_is_told)
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
