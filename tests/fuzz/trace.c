/* SPDX-License-Identifier: MIT */
/*
 * A trace file from anywhere. The first byte decides how the rest becomes one: as it is, or as the
 * contents of frames that are packed and sealed here, so that what is behind the checks is reached.
 *
 * Properties: sizes within the format's limits; data that can be read are as long as announced; a
 * seek leads to nothing earlier than was asked for; after the end it stays the end; what was read
 * can be written, and reads back the same; no descriptor stays open.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bytes.h"
#include "fd.h"
#include "open_fds.h"
#include "trace_hash.h"
#include "trace_layout.h"
#include "trace_out.h"
#include "trace_reader.h"

#define FILE_MAX ((size_t)4 << 20)
#define RECORDS_MAX 3000u
#define ZSTD_OVERHEAD 9u /* of one raw block, by hand */

enum mode {
    MODE_AS_IS = 0x89, /* a trace file's own first byte */
    MODE_COPY = 1,     /* bit: also write what is read */
    MODE_INDEX = 2,    /* bit: with an index frame, made of the last chunk, and a trailer */
};

static struct {
    uint8_t bytes[FILE_MAX];
    size_t n_bytes;
} file;

static const uint64_t seed = 42;

static void add_frame(const uint8_t *raw, size_t raw_bytes, uint32_t kind, uint64_t first_record,
                      uint32_t n_records)
{
    size_t stored_bytes = raw_bytes + ZSTD_OVERHEAD;
    uint8_t *at = file.bytes + file.n_bytes;
    uint8_t *payload = at + VGD_TRACE_FILE_FRAME_SIZE;
    if (raw_bytes > 100000 || FILE_MAX - file.n_bytes < VGD_TRACE_FILE_FRAME_SIZE + stored_bytes) {
        return;
    }
    static const uint8_t zstd_head[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58};
    uint32_t block = (uint32_t)raw_bytes << 3 | 1;
    memcpy(payload, zstd_head, sizeof(zstd_head));
    memcpy(payload + sizeof(zstd_head), &block, 3);
    memcpy(payload + ZSTD_OVERHEAD, raw, raw_bytes);
    struct vgd_trace_file_frame frame = {
        .magic = VGD_TRACE_FRAME_MAGIC,
        .kind = kind,
        .stored_bytes = (uint32_t)stored_bytes,
        .raw_bytes = (uint32_t)raw_bytes,
        .offset_bytes = file.n_bytes,
        .first_record = first_record,
        .last_time_ns = UINT64_MAX,
        .n_records = n_records,
        .payload_check = vgd_trace_check(payload, stored_bytes, seed),
    };
    vgd_trace_seal_frame(&frame, seed, at);
    file.n_bytes += VGD_TRACE_FILE_FRAME_SIZE + stored_bytes;
}

/* Records that a reader would see in @raw, so that a frame can announce them. Pieces get the right
 * check, which nobody could guess. */
static uint32_t prepare(uint8_t *raw, size_t raw_bytes)
{
    uint32_t n_records = 0;
    for (size_t at = 0; raw_bytes - at >= VGD_TRACE_RECORD_HEADER_SIZE;) {
        struct vgd_reader r = vgd_reader_of(raw + at, raw_bytes - at);
        struct vgd_trace_record_header hdr;
        enum vgd_status st = vgd_trace_record_header_decode(&r, &hdr);
        if (st != VGD_OK || hdr.size_bytes < VGD_TRACE_RECORD_HEADER_SIZE ||
            hdr.size_bytes > raw_bytes - at) {
            break;
        }
        uint32_t over = VGD_TRACE_RECORD_HEADER_SIZE + VGD_TRACE_PIECE_SIZE;
        if (hdr.kind == VGD_TRACE_KIND_PIECE && hdr.size_bytes >= over) {
            struct vgd_writer w = vgd_writer_of(raw + at + VGD_TRACE_RECORD_HEADER_SIZE, 8);
            vgd_write_le64(&w, vgd_trace_check(raw + at + over, hdr.size_bytes - over, seed));
        }
        n_records += hdr.kind != VGD_TRACE_KIND_PIECE;
        at += hdr.size_bytes;
    }
    return n_records;
}

static void build_file(const uint8_t *data, size_t len_bytes, uint8_t mode)
{
    file.n_bytes = VGD_TRACE_FILE_HEADER_SIZE;
    struct vgd_trace_file_header header = {.version_major = VGD_TRACE_VERSION_MAJOR,
                                           .header_bytes = VGD_TRACE_FILE_HEADER_SIZE,
                                           .check_seed = seed};
    vgd_trace_seal_header(&header, file.bytes);
    struct vgd_reader r = vgd_reader_of(data, len_bytes);
    uint64_t n_records = 0;
    size_t last_frame = file.n_bytes;
    while (vgd_reader_left(&r) > 2) {
        size_t chunk_bytes = vgd_read_le16(&r);
        if (chunk_bytes > vgd_reader_left(&r)) {
            chunk_bytes = vgd_reader_left(&r);
        }
        uint8_t *raw = malloc(chunk_bytes + 1);
        assert(raw != NULL);
        vgd_read_bytes(&r, raw, chunk_bytes);
        bool is_index = (mode & MODE_INDEX) != 0 && vgd_reader_left(&r) <= 2;
        last_frame = file.n_bytes;
        uint32_t n = is_index ? 0 : prepare(raw, chunk_bytes);
        add_frame(raw, chunk_bytes, is_index ? VGD_TRACE_FRAME_INDEX : VGD_TRACE_FRAME_RECORDS,
                  n_records, n);
        n_records += n;
        free(raw);
    }
    if ((mode & MODE_INDEX) != 0 && FILE_MAX - file.n_bytes >= VGD_TRACE_FILE_TRAILER_SIZE) {
        struct vgd_trace_file_trailer trailer = {.index_offset_bytes = last_frame,
                                                 .n_records = n_records};
        vgd_trace_seal_trailer(&trailer, seed, file.bytes + file.n_bytes);
        file.n_bytes += VGD_TRACE_FILE_TRAILER_SIZE;
    }
}

/* ---- reading ---- */

struct source {
    struct vgd_trace_reader *reader;
    const struct vgd_trace_data *data;
};

static bool from_reader(void *user, uint64_t offset_bytes, void *out, size_t n_bytes)
{
    struct source *source = user;
    return vgd_trace_reader_data(source->reader, source->data, offset_bytes, out, n_bytes) ==
           VGD_OK;
}

/* What a record is, in two numbers. Of data that cannot be had there is none: a copy has zeros. */
struct digest {
    uint64_t body, data;
    bool has_data;
};

static struct digest digest_of(struct vgd_trace_reader *reader, const struct vgd_trace_item *item,
                               uint64_t time_ns)
{
    uint8_t body[VGD_TRACE_BODY_MAX] = {0};
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    vgd_trace_record_encode(&w, &item->record);
    assert(w.status == VGD_OK);
    static uint8_t bytes[VGD_TRACE_DATA_MAX];
    size_t n_bytes = (size_t)item->data.total_bytes;
    struct digest digest = {
        .body = vgd_trace_check(body, sizeof(body), item->record.kind + time_ns + n_bytes),
        .has_data = vgd_trace_reader_data(reader, &item->data, 0, bytes, n_bytes) == VGD_OK,
    };
    digest.data = digest.has_data ? vgd_trace_check(bytes, n_bytes, 0) : 0;
    return digest;
}

static void check_item(const struct vgd_trace_item *item)
{
    const struct vgd_trace_data *data = &item->data;
    assert(vgd_trace_kind_known(item->record.kind));
    assert(data->total_bytes <= VGD_TRACE_DATA_MAX && data->head_bytes <= VGD_TRACE_INLINE_MAX);
    assert(data->n_pieces <= VGD_TRACE_PIECES_MAX);
    assert(data->total_bytes >= data->head_bytes + data->n_pieces);
    assert(data->total_bytes == 0 || vgd_trace_kind_has_data(item->record.kind));
}

static struct digest digests[RECORDS_MAX];

/* Everything in order; a copy to @out if that is not NULL. Returns how many. */
static uint32_t read_all(struct vgd_trace_reader *reader, struct vgd_trace_out *out)
{
    struct vgd_trace_item item;
    uint32_t n = 0;
    uint64_t time_ns = 0;
    enum vgd_status st = VGD_OK;
    while (n < RECORDS_MAX && (st = vgd_trace_reader_next(reader, &item)) == VGD_OK) {
        check_item(&item);
        time_ns = item.record.time_ns > time_ns ? item.record.time_ns : time_ns;
        digests[n++] = digest_of(reader, &item, time_ns);
        if (out != NULL) {
            struct source source = {.reader = reader, .data = &item.data};
            enum vgd_status put =
                vgd_trace_out_put(out, &item.record, from_reader, &source, item.data.total_bytes);
            assert(put == VGD_OK);
        }
    }
    if (st != VGD_OK) {
        assert(vgd_trace_reader_next(reader, &item) == st);
        assert(st == VGD_CLOSED || vgd_trace_reader_fault(reader)->status != VGD_OK);
    }
    return n;
}

static void seek_about(struct vgd_trace_reader *reader, uint64_t to)
{
    struct vgd_trace_item item;
    enum vgd_status st = vgd_trace_reader_seek_number(reader, to);
    if (st == VGD_OK && vgd_trace_reader_next(reader, &item) == VGD_OK) {
        assert(item.number >= to);
        check_item(&item);
    }
    st = vgd_trace_reader_seek_time(reader, to);
    if (st == VGD_OK && vgd_trace_reader_next(reader, &item) == VGD_OK) {
        assert(item.record.time_ns >= to);
    }
}

static struct vgd_trace_reader *open_reader(int fd)
{
    int own = dup(fd);
    assert(own >= 0);
    struct vgd_trace_reader *reader = NULL;
    struct vgd_trace_fault fault;
    if (vgd_trace_reader_open(&own, &reader, &fault) != VGD_OK) {
        assert(fault.status != VGD_OK && fault.text[0] != '\0' && own >= 0);
        (void)close(own);
    }
    return reader;
}

/* The copy has the same records as the original. */
static void check_copy(struct vgd_trace_out *out, int fd, uint32_t n_records)
{
    static struct digest before[RECORDS_MAX];
    memcpy(before, digests, n_records * sizeof(*before));
    assert(vgd_trace_out_finish(out) == VGD_OK);
    struct vgd_trace_reader *reader = open_reader(fd);
    assert(reader != NULL && vgd_trace_reader_info(reader).n_records == n_records);
    uint32_t n = read_all(reader, NULL);
    assert(n == n_records);
    for (uint32_t i = 0; i < n; i++) {
        assert(before[i].body == digests[i].body && digests[i].has_data);
        assert(!before[i].has_data || before[i].data == digests[i].data);
    }
    vgd_trace_reader_close(reader);
}

static void fill_file(int fd)
{
    int cut = ftruncate(fd, 0);
    ssize_t n = pwrite(fd, file.bytes, file.n_bytes, 0);
    assert(cut == 0 && n == (ssize_t)file.n_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    if (len_bytes == 0 || len_bytes > FILE_MAX / 2) {
        return 0;
    }
    uint64_t fds_before = open_fds();
    uint8_t mode = data[0];
    if (mode == MODE_AS_IS) {
        memcpy(file.bytes, data, len_bytes);
        file.n_bytes = len_bytes;
    } else {
        build_file(data + 1, len_bytes - 1, mode);
    }
    int fd = memfd_create("trace", MFD_CLOEXEC), copy_fd = memfd_create("copy", MFD_CLOEXEC);
    assert(fd >= 0 && copy_fd >= 0);
    fill_file(fd);
    struct vgd_trace_reader *reader = open_reader(fd);
    if (reader != NULL) {
        struct vgd_trace_out *out = NULL;
        if (mode != MODE_AS_IS && (mode & MODE_COPY) != 0) {
            struct vgd_trace_out_config config = {.dedup_count = 16};
            out = vgd_trace_out_create(&config);
            assert(out != NULL && vgd_trace_out_begin(out, copy_fd, 1, 2) == VGD_OK);
        }
        uint32_t n_records = read_all(reader, out);
        seek_about(reader, 0);
        seek_about(reader, n_records / 2u);
        seek_about(reader, UINT64_MAX);
        vgd_trace_reader_close(reader);
        if (out != NULL) {
            check_copy(out, copy_fd, n_records);
            vgd_trace_out_destroy(out);
        }
    }
    (void)close(fd);
    (void)close(copy_fd);
    assert(open_fds() == fds_before);
    return 0;
}
