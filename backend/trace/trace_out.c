/* SPDX-License-Identifier: MIT */
#include "trace_out.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "trace_dedup.h"
#include "trace_hash.h"
#include "trace_layout.h"

#define WINDOW_LOG 20 /* a frame is no longer than that: a larger window would only cost memory */

_Static_assert(ZSTD_COMPRESSBOUND(VGD_TRACE_FRAME_RAW_MAX) <= VGD_TRACE_FRAME_STORED_MAX,
               "a frame that does not compress has to fit");
_Static_assert(VGD_TRACE_RECORD_MAX < VGD_TRACE_FRAME_RAW_MAX / 8, "a record fits into a frame");

struct vgd_trace_out {
    int fd; /* borrowed; -1 before begin */
    int error;
    uint64_t name_seed, check_seed;
    uint32_t frame_raw_bytes;
    ZSTD_CCtx *zstd;
    struct vgd_trace_dedup *dedup;
    size_t dedup_bytes;

    uint64_t offset_bytes; /* where the frame that is being filled will begin */
    uint8_t *raw;          /* that frame */
    size_t raw_bytes;
    uint32_t n_records; /* in it */
    uint64_t first_record, first_time_ns, last_time_ns;
    uint8_t *stored; /* its file_frame and its compressed form */

    uint8_t piece[VGD_TRACE_PIECE_MAX];
    struct vgd_trace_piece_ref refs[VGD_TRACE_PIECES_MAX];

    struct vgd_trace_index_entry *index; /* INDEX_ENTRIES_MAX */
    uint32_t index_count;
    uint32_t index_stride; /* one frame in so many has an entry */
    uint32_t index_skip;   /* frames until the next entry */
    struct vgd_trace_out_stats stats;
};

struct vgd_trace_out *vgd_trace_out_create(const struct vgd_trace_out_config *config)
{
    int level = config->level != 0 ? config->level : VGD_TRACE_LEVEL_DEFAULT;
    uint32_t dedup_count =
        config->dedup_count != 0 ? config->dedup_count : VGD_TRACE_DEDUP_COUNT_DEFAULT;
    if (level < 1 || level > VGD_TRACE_LEVEL_MAX || dedup_count < 2 ||
        dedup_count > VGD_TRACE_DEDUP_COUNT_MAX || (dedup_count & (dedup_count - 1)) != 0) {
        return NULL;
    }
    struct vgd_trace_out *out = calloc(1, sizeof(*out));
    if (out == NULL) {
        return NULL;
    }
    out->fd = -1;
    out->frame_raw_bytes =
        config->frame_raw_bytes != 0 && config->frame_raw_bytes < VGD_TRACE_FRAME_RAW_MAX
            ? config->frame_raw_bytes
            : VGD_TRACE_FRAME_RAW_MAX;
    out->index_stride = 1;
    out->dedup_bytes = vgd_trace_dedup_bytes(dedup_count);
    out->dedup = vgd_trace_dedup_create(dedup_count);
    out->raw = calloc(1, VGD_TRACE_FRAME_RAW_MAX);
    out->stored = malloc(VGD_TRACE_FILE_FRAME_SIZE + VGD_TRACE_FRAME_STORED_MAX);
    out->index = malloc(VGD_TRACE_INDEX_ENTRIES_MAX * sizeof(*out->index));
    out->zstd = ZSTD_createCCtx();
    if (out->dedup == NULL || out->raw == NULL || out->stored == NULL || out->index == NULL ||
        out->zstd == NULL ||
        ZSTD_isError(ZSTD_CCtx_setParameter(out->zstd, ZSTD_c_compressionLevel, level)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(out->zstd, ZSTD_c_windowLog, WINDOW_LOG)) ||
        /* Once for nothing: zstd allocates now what a whole frame takes, and not later. */
        ZSTD_isError(ZSTD_compress2(out->zstd, out->stored, VGD_TRACE_FRAME_STORED_MAX, out->raw,
                                    VGD_TRACE_FRAME_RAW_MAX))) {
        vgd_trace_out_destroy(out);
        return NULL;
    }
    return out;
}

void vgd_trace_out_destroy(struct vgd_trace_out *out)
{
    if (out == NULL) {
        return;
    }
    vgd_trace_dedup_destroy(out->dedup);
    (void)ZSTD_freeCCtx(out->zstd);
    free(out->raw);
    free(out->stored);
    free(out->index);
    free(out);
}

/* ---- bytes to the file ---- */

static enum vgd_status fail(struct vgd_trace_out *out, int error)
{
    if (out->error == 0) {
        out->error = error;
    }
    return VGD_HOST_FAILED;
}

static enum vgd_status write_all(struct vgd_trace_out *out, const uint8_t *data, size_t n_bytes)
{
    if (out->fd < 0) {
        return fail(out, EBADF);
    }
    if (out->error != 0) {
        return VGD_HOST_FAILED;
    }
    while (n_bytes > 0) {
        ssize_t n = write(out->fd, data, n_bytes);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return fail(out, n == 0 ? EIO : errno);
        }
        data += n;
        n_bytes -= (size_t)n;
        out->offset_bytes += (uint64_t)n;
        out->stats.bytes_out += (uint64_t)n;
    }
    return VGD_OK;
}

enum vgd_status vgd_trace_out_begin(struct vgd_trace_out *out, int fd, uint64_t start_realtime_ns,
                                    uint64_t start_monotonic_ns)
{
    struct stat info;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size != 0) {
        return fail(out, EEXIST); /* places in the file are told from its beginning */
    }
    uint64_t seeds[2];
    if (getrandom(seeds, sizeof(seeds), 0) != (ssize_t)sizeof(seeds)) {
        return fail(out, EAGAIN);
    }
    out->fd = fd;
    out->name_seed = seeds[0];
    out->check_seed = seeds[1];
    struct vgd_trace_file_header header = {
        .version_major = VGD_TRACE_VERSION_MAJOR,
        .version_minor = VGD_TRACE_VERSION_MINOR,
        .header_bytes = VGD_TRACE_FILE_HEADER_SIZE,
        .start_realtime_ns = start_realtime_ns,
        .start_monotonic_ns = start_monotonic_ns,
        .name_seed = out->name_seed,
        .check_seed = out->check_seed,
    };
    uint8_t bytes[VGD_TRACE_FILE_HEADER_SIZE];
    vgd_trace_seal_header(&header, bytes);
    return write_all(out, bytes, sizeof(bytes));
}

/* ---- frames ---- */

/* When the index is full, every second entry goes, and from then on half as many come. */
static void index_add(struct vgd_trace_out *out, uint64_t offset_bytes)
{
    if (out->index_skip > 0) {
        out->index_skip--;
        return;
    }
    if (out->index_count == VGD_TRACE_INDEX_ENTRIES_MAX) {
        out->index_count /= 2;
        for (uint32_t i = 0; i < out->index_count; i++) {
            out->index[i] = out->index[(size_t)2 * i];
        }
        out->index_stride *= 2;
    }
    out->index[out->index_count++] = (struct vgd_trace_index_entry){
        .offset_bytes = offset_bytes,
        .first_record = out->first_record,
        .first_time_ns = out->first_time_ns,
    };
    out->index_skip = out->index_stride - 1;
}

/* Compress @raw_bytes at out->raw and write them. */
static enum vgd_status write_frame(struct vgd_trace_out *out, uint32_t kind)
{
    uint8_t *payload = out->stored + VGD_TRACE_FILE_FRAME_SIZE;
    size_t stored_bytes =
        ZSTD_compress2(out->zstd, payload, VGD_TRACE_FRAME_STORED_MAX, out->raw, out->raw_bytes);
    if (ZSTD_isError(stored_bytes)) {
        return fail(out, ENOMEM); /* the only way: the room is what the library says it needs */
    }
    struct vgd_trace_file_frame frame = {
        .magic = VGD_TRACE_FRAME_MAGIC,
        .kind = kind,
        .stored_bytes = (uint32_t)stored_bytes,
        .raw_bytes = (uint32_t)out->raw_bytes,
        .offset_bytes = out->offset_bytes,
        .first_record = out->first_record,
        .first_time_ns = out->first_time_ns,
        .last_time_ns = out->last_time_ns,
        .n_records = out->n_records,
        .payload_check = vgd_trace_check(payload, stored_bytes, out->check_seed),
    };
    vgd_trace_seal_frame(&frame, out->check_seed, out->stored);
    return write_all(out, out->stored, VGD_TRACE_FILE_FRAME_SIZE + stored_bytes);
}

enum vgd_status vgd_trace_out_flush(struct vgd_trace_out *out)
{
    if (out->error != 0) {
        return VGD_HOST_FAILED;
    }
    if (out->raw_bytes == 0) {
        return VGD_OK;
    }
    uint64_t offset_bytes = out->offset_bytes;
    enum vgd_status st = write_frame(out, VGD_TRACE_FRAME_RECORDS);
    if (st != VGD_OK) {
        return st;
    }
    index_add(out, offset_bytes);
    out->stats.frames++;
    out->first_record += out->n_records;
    out->n_records = 0;
    out->raw_bytes = 0;
    out->first_time_ns = out->last_time_ns;
    return VGD_OK;
}

enum vgd_status vgd_trace_out_finish(struct vgd_trace_out *out)
{
    enum vgd_status st = vgd_trace_out_flush(out);
    if (st != VGD_OK) {
        return st;
    }
    struct vgd_trace_file_trailer trailer = {
        .index_offset_bytes = out->offset_bytes,
        .n_records = out->first_record,
    };
    struct vgd_writer w = vgd_writer_of(out->raw, VGD_TRACE_FRAME_RAW_MAX);
    for (uint32_t i = 0; i < out->index_count; i++) {
        vgd_trace_index_entry_encode(&w, &out->index[i]);
    }
    assert(w.status == VGD_OK);
    out->raw_bytes = vgd_writer_used(&w);
    st = write_frame(out, VGD_TRACE_FRAME_INDEX);
    out->raw_bytes = 0;
    if (st != VGD_OK) {
        return st;
    }
    uint8_t bytes[VGD_TRACE_FILE_TRAILER_SIZE];
    vgd_trace_seal_trailer(&trailer, out->check_seed, bytes);
    return write_all(out, bytes, sizeof(bytes));
}

/* ---- records ---- */

/* Room for @n_bytes in the frame, which may be a new one. */
static enum vgd_status make_room(struct vgd_trace_out *out, size_t n_bytes)
{
    if (out->raw_bytes + n_bytes <= out->frame_raw_bytes || out->raw_bytes == 0) {
        return VGD_OK; /* one record may be longer than a small frame of the config's */
    }
    return vgd_trace_out_flush(out);
}

static void put_header(struct vgd_writer *w, uint32_t kind, size_t n_bytes, uint64_t time_ns)
{
    struct vgd_trace_record_header header = {
        .size_bytes = (uint32_t)n_bytes,
        .kind = kind,
        .time_ns = time_ns,
    };
    vgd_trace_record_header_encode(w, &header);
}

/* The reference to @n_bytes of out->piece, which are written if the file has them not. */
static enum vgd_status put_piece(struct vgd_trace_out *out, uint32_t n_bytes,
                                 struct vgd_trace_piece_ref *ref)
{
    struct vgd_trace_dedup_key key =
        vgd_trace_dedup_key_of(out->piece, n_bytes, out->name_seed, out->check_seed);
    out->stats.pieces++;
    if (vgd_trace_dedup_find(out->dedup, &key, ref)) {
        out->stats.pieces_found++;
        out->stats.bytes_found += n_bytes;
        return VGD_OK;
    }
    size_t record_bytes = VGD_TRACE_RECORD_HEADER_SIZE + VGD_TRACE_PIECE_SIZE + n_bytes;
    enum vgd_status st = make_room(out, record_bytes);
    if (st != VGD_OK) {
        return st;
    }
    *ref = (struct vgd_trace_piece_ref){
        .frame_offset_bytes = out->offset_bytes,
        .check = key.check,
        .at_bytes = (uint32_t)out->raw_bytes,
        .size_bytes = n_bytes,
    };
    struct vgd_writer w = vgd_writer_of(out->raw + out->raw_bytes, record_bytes);
    put_header(&w, VGD_TRACE_KIND_PIECE, record_bytes, 0);
    struct vgd_trace_piece piece = {.check = key.check};
    vgd_trace_piece_encode(&w, &piece);
    vgd_write_bytes(&w, out->piece, n_bytes);
    assert(w.status == VGD_OK);
    vgd_trace_dedup_add(out->dedup, &key, out->offset_bytes, ref->at_bytes);
    out->raw_bytes += record_bytes;
    return VGD_OK;
}

static void fetch(vgd_trace_source source, void *user, uint64_t offset_bytes, uint8_t *to,
                  size_t n_bytes)
{
    if (n_bytes > 0 && !source(user, offset_bytes, to, n_bytes)) {
        memset(to, 0, n_bytes);
    }
}

enum vgd_status vgd_trace_out_put(struct vgd_trace_out *out, const struct vgd_trace_record *record,
                                  vgd_trace_source source, void *user, uint64_t n_bytes)
{
    bool has_data = vgd_trace_kind_has_data(record->kind);
    if (n_bytes > VGD_TRACE_DATA_MAX || (n_bytes > 0 && !has_data) ||
        !vgd_trace_kind_known(record->kind)) {
        return VGD_RANGE;
    }
    if (out->error != 0) {
        return VGD_HOST_FAILED;
    }
    uint32_t head_bytes = n_bytes <= VGD_TRACE_INLINE_MAX ? (uint32_t)n_bytes
                                                          : vgd_trace_kind_head_bytes(record->kind);
    uint32_t n_pieces = 0;
    for (uint64_t at = head_bytes; at < n_bytes;) {
        uint64_t left_bytes = n_bytes - at;
        uint32_t piece_bytes =
            left_bytes < VGD_TRACE_PIECE_MAX ? (uint32_t)left_bytes : VGD_TRACE_PIECE_MAX;
        fetch(source, user, at, out->piece, piece_bytes);
        enum vgd_status st = put_piece(out, piece_bytes, &out->refs[n_pieces]);
        if (st != VGD_OK) {
            return st;
        }
        n_pieces++;
        at += piece_bytes;
    }

    uint8_t body[VGD_TRACE_BODY_MAX];
    struct vgd_writer body_writer = vgd_writer_of(body, sizeof(body));
    vgd_trace_record_encode(&body_writer, record);
    assert(body_writer.status == VGD_OK);
    size_t body_bytes = vgd_writer_used(&body_writer);
    size_t record_bytes = VGD_TRACE_RECORD_HEADER_SIZE + body_bytes;
    if (has_data) {
        record_bytes +=
            VGD_TRACE_DATA_HEADER_SIZE + head_bytes + (size_t)n_pieces * VGD_TRACE_PIECE_REF_SIZE;
    }
    enum vgd_status st = make_room(out, record_bytes);
    if (st != VGD_OK) {
        return st;
    }

    uint64_t time_ns = record->time_ns > out->last_time_ns ? record->time_ns : out->last_time_ns;
    struct vgd_writer w = vgd_writer_of(out->raw + out->raw_bytes, record_bytes);
    put_header(&w, record->kind, record_bytes, time_ns);
    vgd_write_bytes(&w, body, body_bytes);
    if (has_data) {
        struct vgd_trace_data_header data = {
            .total_bytes = n_bytes, .head_bytes = head_bytes, .n_pieces = n_pieces};
        vgd_trace_data_header_encode(&w, &data);
        assert(w.status == VGD_OK);
        fetch(source, user, 0, w.pos, head_bytes);
        w.pos += head_bytes;
        for (uint32_t i = 0; i < n_pieces; i++) {
            vgd_trace_piece_ref_encode(&w, &out->refs[i]);
        }
    }
    assert(w.status == VGD_OK && w.pos == w.end);
    if (out->n_records == 0) {
        out->first_time_ns = time_ns;
    }
    out->last_time_ns = time_ns;
    out->n_records++;
    out->raw_bytes += record_bytes;
    out->stats.records++;
    out->stats.bytes_in += body_bytes + n_bytes;
    return VGD_OK;
}

/* ---- going on with a file ---- */

enum vgd_status vgd_trace_out_resume(struct vgd_trace_out *out, int fd,
                                     uint64_t *out_start_monotonic_ns)
{
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
        return fail(out, ESPIPE);
    }
    uint64_t size_bytes = (uint64_t)info.st_size;
    struct vgd_trace_file_header header;
    enum vgd_status st = vgd_trace_read_header(fd, size_bytes, &header);
    if (st != VGD_OK) {
        return st == VGD_HOST_FAILED ? fail(out, errno) : st;
    }
    out->offset_bytes = header.header_bytes;
    struct vgd_trace_file_frame frame;
    while ((st = vgd_trace_read_frame(fd, size_bytes, header.check_seed, out->offset_bytes,
                                      &frame)) == VGD_OK &&
           frame.kind == VGD_TRACE_FRAME_RECORDS) {
        st = vgd_trace_read_payload(fd, header.check_seed, &frame, out->stored);
        if (st != VGD_OK) {
            break;
        }
        out->first_record = frame.first_record;
        out->first_time_ns = frame.first_time_ns;
        index_add(out, frame.offset_bytes);
        out->first_record += frame.n_records;
        out->last_time_ns = frame.last_time_ns;
        out->offset_bytes = vgd_trace_frame_end(&frame);
    }
    if (st == VGD_HOST_FAILED) {
        return fail(out, errno);
    }
    if (st != VGD_OK && st != VGD_CLOSED && st != VGD_TRUNCATED) {
        return st; /* damage: what is behind it may still be worth something to somebody */
    }
    if (ftruncate(fd, (off_t)out->offset_bytes) != 0 ||
        lseek(fd, (off_t)out->offset_bytes, SEEK_SET) < 0) {
        return fail(out, errno);
    }
    out->fd = fd;
    out->first_time_ns = out->last_time_ns;
    out->name_seed = header.name_seed;
    out->check_seed = header.check_seed;
    *out_start_monotonic_ns = header.start_monotonic_ns;
    return VGD_OK;
}

/* ---- what it is like ---- */

size_t vgd_trace_out_pending_bytes(const struct vgd_trace_out *out)
{
    return out->raw_bytes;
}

int vgd_trace_out_error(const struct vgd_trace_out *out)
{
    return out->error;
}

uint64_t vgd_trace_out_last_time_ns(const struct vgd_trace_out *out)
{
    return out->last_time_ns;
}

struct vgd_trace_out_stats vgd_trace_out_stats(const struct vgd_trace_out *out)
{
    return out->stats;
}

size_t vgd_trace_out_memory_bytes(const struct vgd_trace_out *out)
{
    return sizeof(*out) + out->dedup_bytes + VGD_TRACE_FRAME_RAW_MAX + VGD_TRACE_FILE_FRAME_SIZE +
           VGD_TRACE_FRAME_STORED_MAX + VGD_TRACE_INDEX_ENTRIES_MAX * sizeof(*out->index) +
           ZSTD_sizeof_CCtx(out->zstd);
}
