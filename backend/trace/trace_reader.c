/* SPDX-License-Identifier: MIT */
#include "trace_reader.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>

#include "checked.h"
#include "fd.h"
#include "trace_hash.h"
#include "trace_layout.h"

/* A frame, decompressed. */
struct frame {
    struct vgd_trace_file_frame hdr;
    uint8_t *raw;     /* owned, VGD_TRACE_FRAME_RAW_MAX; NULL before its first use */
    uint64_t used_at; /* when it was last asked for; 0: holds nothing */
};

struct vgd_trace_reader {
    int fd;
    struct vgd_trace_info info;
    struct vgd_trace_fault fault;
    ZSTD_DCtx *zstd;
    uint8_t *stored; /* a frame as it lies in the file */

    struct frame now;                 /* that next is in; used_at 0: none */
    size_t pos_bytes;                 /* in it */
    uint32_t n_seen;                  /* records of it that were returned or skipped */
    uint64_t next_offset_bytes;       /* of the frame behind it */
    enum vgd_status end;              /* what next says until a seek; VGD_OK: it goes on */
    uint64_t min_number, min_time_ns; /* of a seek: earlier ones are passed over */

    struct frame others[VGD_TRACE_READER_FRAMES];
    uint64_t clock;

    struct vgd_trace_index_entry *index; /* NULL: none, or it lies */
    uint32_t index_count;
};

/* ---- faults ---- */

static enum vgd_status fault_at(struct vgd_trace_fault *fault, enum vgd_status status,
                                uint64_t offset_bytes, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static enum vgd_status fault_at(struct vgd_trace_fault *fault, enum vgd_status status,
                                uint64_t offset_bytes, const char *format, ...)
{
    fault->status = status;
    fault->offset_bytes = offset_bytes;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(fault->text, sizeof(fault->text), format, args);
    va_end(args);
    return status;
}

/* What @st of reading a frame's header or bytes means to a person. */
static enum vgd_status frame_fault(struct vgd_trace_reader *reader, enum vgd_status st,
                                   uint64_t offset_bytes)
{
    const char *text = "damaged: no frame begins here, or its check is wrong";
    if (st == VGD_CLOSED) {
        st = VGD_TRUNCATED;
        text = "cut off: there is no index, so the recording was not ended in good order";
    } else if (st == VGD_TRUNCATED) {
        text = "cut off in the middle of a frame";
    } else if (st == VGD_HOST_FAILED) {
        return fault_at(&reader->fault, st, offset_bytes, "cannot be read: %s", strerror(errno));
    }
    return fault_at(&reader->fault, st, offset_bytes, "%s", text);
}

/* ---- frames ---- */

/* The frame at @offset_bytes into @frame, which is left empty on failure. */
static enum vgd_status load(struct vgd_trace_reader *reader, uint64_t offset_bytes,
                            struct frame *frame)
{
    frame->used_at = 0;
    if (frame->raw == NULL) {
        frame->raw = malloc(VGD_TRACE_FRAME_RAW_MAX);
        if (frame->raw == NULL) {
            return fault_at(&reader->fault, VGD_NO_MEMORY, offset_bytes, "no memory for a frame");
        }
    }
    uint64_t seed = reader->info.header.check_seed;
    enum vgd_status st =
        vgd_trace_read_frame(reader->fd, reader->info.size_bytes, seed, offset_bytes, &frame->hdr);
    if (st == VGD_OK) {
        st = vgd_trace_read_payload(reader->fd, seed, &frame->hdr, reader->stored);
    }
    if (st != VGD_OK) {
        return frame_fault(reader, st, offset_bytes);
    }
    size_t raw_bytes = ZSTD_decompressDCtx(reader->zstd, frame->raw, VGD_TRACE_FRAME_RAW_MAX,
                                           reader->stored, frame->hdr.stored_bytes);
    if (ZSTD_isError(raw_bytes)) {
        return fault_at(&reader->fault, VGD_RANGE, offset_bytes, "zstd: %s",
                        ZSTD_getErrorName(raw_bytes));
    }
    if (raw_bytes != frame->hdr.raw_bytes) {
        return fault_at(&reader->fault, VGD_RANGE, offset_bytes,
                        "a frame of %zu bytes that should have %u", raw_bytes,
                        frame->hdr.raw_bytes);
    }
    frame->used_at = ++reader->clock;
    return VGD_OK;
}

/* The frame of a piece: the present one, one that we have, or loaded in place of the one that was
 * not asked for the longest. */
static enum vgd_status frame_of_piece(struct vgd_trace_reader *reader, uint64_t offset_bytes,
                                      struct frame **out)
{
    if (reader->now.used_at != 0 && reader->now.hdr.offset_bytes == offset_bytes) {
        *out = &reader->now;
        return VGD_OK;
    }
    struct frame *oldest = &reader->others[0];
    for (size_t i = 0; i < VGD_TRACE_READER_FRAMES; i++) {
        struct frame *frame = &reader->others[i];
        if (frame->used_at != 0 && frame->hdr.offset_bytes == offset_bytes) {
            frame->used_at = ++reader->clock;
            *out = frame;
            return VGD_OK;
        }
        if (frame->used_at < oldest->used_at) {
            oldest = frame;
        }
    }
    *out = oldest;
    return load(reader, offset_bytes, oldest);
}

/* ---- open and close ---- */

static enum vgd_status header_fault(struct vgd_trace_fault *fault, enum vgd_status st)
{
    switch (st) {
    case VGD_TRUNCATED:
        return fault_at(fault, st, 0, "cut off within its header");
    case VGD_UNSUPPORTED:
        return fault_at(fault, st, 8, "a trace file of another version than %u",
                        VGD_TRACE_VERSION_MAJOR);
    case VGD_HOST_FAILED:
        return fault_at(fault, st, 0, "cannot be read: %s", strerror(errno));
    default:
        return fault_at(fault, st, 0, "not a trace file, or its header is damaged");
    }
}

enum vgd_status vgd_trace_reader_open(int *fd, struct vgd_trace_reader **out,
                                      struct vgd_trace_fault *fault)
{
    *fault = (struct vgd_trace_fault){.status = VGD_OK};
    struct stat info;
    if (fstat(*fd, &info) != 0) {
        return header_fault(fault, VGD_HOST_FAILED);
    }
    if (!S_ISREG(info.st_mode)) {
        return fault_at(fault, VGD_RANGE, 0, "not a regular file");
    }
    struct vgd_trace_file_header header;
    enum vgd_status st = vgd_trace_read_header(*fd, (uint64_t)info.st_size, &header);
    if (st != VGD_OK) {
        return header_fault(fault, st);
    }
    struct vgd_trace_reader *reader = calloc(1, sizeof(*reader));
    if (reader != NULL) {
        reader->fd = -1;
        reader->zstd = ZSTD_createDCtx();
        reader->stored = malloc(VGD_TRACE_FRAME_STORED_MAX);
    }
    if (reader == NULL || reader->zstd == NULL || reader->stored == NULL) {
        vgd_trace_reader_close(reader);
        return fault_at(fault, VGD_NO_MEMORY, 0, "no memory");
    }
    reader->fd = vgd_fd_take(fd);
    reader->info.header = header;
    reader->info.size_bytes = (uint64_t)info.st_size;
    reader->next_offset_bytes = header.header_bytes;
    struct vgd_trace_file_trailer trailer;
    if (vgd_trace_read_trailer(reader->fd, reader->info.size_bytes, header.check_seed, &trailer) ==
        VGD_OK) {
        reader->info.has_index = true;
        reader->info.n_records = trailer.n_records;
    }
    *out = reader;
    return VGD_OK;
}

void vgd_trace_reader_close(struct vgd_trace_reader *reader)
{
    if (reader == NULL) {
        return;
    }
    vgd_fd_closep(&reader->fd);
    (void)ZSTD_freeDCtx(reader->zstd);
    free(reader->stored);
    free(reader->now.raw);
    for (size_t i = 0; i < VGD_TRACE_READER_FRAMES; i++) {
        free(reader->others[i].raw);
    }
    free(reader->index);
    free(reader);
}

struct vgd_trace_info vgd_trace_reader_info(const struct vgd_trace_reader *reader)
{
    return reader->info;
}

const struct vgd_trace_fault *vgd_trace_reader_fault(const struct vgd_trace_reader *reader)
{
    return &reader->fault;
}

uint64_t vgd_trace_reader_at_bytes(const struct vgd_trace_reader *reader)
{
    return reader->next_offset_bytes;
}

/* ---- records ---- */

static enum vgd_status record_fault(struct vgd_trace_reader *reader, const char *text)
{
    return fault_at(&reader->fault, VGD_RANGE, reader->now.hdr.offset_bytes,
                    "%s, %zu bytes into the frame, decompressed", text, reader->pos_bytes);
}

/* The data at the end of a record, whose bytes @r has. Nothing of it is used before it is known to
 * be whole and within the limits. */
static enum vgd_status decode_data(struct vgd_trace_reader *reader, struct vgd_reader *r,
                                   struct vgd_trace_data *out)
{
    struct vgd_trace_data_header hdr;
    if (vgd_trace_data_header_decode(r, &hdr) != VGD_OK || hdr.head_bytes > VGD_TRACE_INLINE_MAX ||
        hdr.n_pieces > VGD_TRACE_PIECES_MAX || hdr.total_bytes > VGD_TRACE_DATA_MAX ||
        vgd_reader_left(r) != hdr.head_bytes + (size_t)hdr.n_pieces * VGD_TRACE_PIECE_REF_SIZE) {
        return record_fault(reader, "a record whose data do not fit into it");
    }
    *out = (struct vgd_trace_data){
        .total_bytes = hdr.total_bytes,
        .head = r->pos,
        .head_bytes = hdr.head_bytes,
        .n_pieces = hdr.n_pieces,
        .refs = r->pos + hdr.head_bytes,
    };
    vgd_read_skip(r, hdr.head_bytes);
    uint64_t total_bytes = hdr.head_bytes;
    for (uint32_t i = 0; i < hdr.n_pieces; i++) {
        struct vgd_trace_piece_ref ref;
        if (vgd_trace_piece_ref_decode(r, &ref) != VGD_OK || ref.size_bytes == 0 ||
            ref.size_bytes > VGD_TRACE_PIECE_MAX ||
            ref.frame_offset_bytes > reader->now.hdr.offset_bytes) {
            return record_fault(reader, "a reference to a piece that cannot be");
        }
        total_bytes += ref.size_bytes; /* at most PIECES_MAX * PIECE_MAX */
    }
    if (total_bytes != hdr.total_bytes) {
        return record_fault(reader, "a record whose data do not add up");
    }
    return VGD_OK;
}

static enum vgd_status next_frame(struct vgd_trace_reader *reader)
{
    uint64_t offset_bytes = reader->next_offset_bytes;
    enum vgd_status st = load(reader, offset_bytes, &reader->now);
    if (st != VGD_OK) {
        return st;
    }
    reader->pos_bytes = 0;
    reader->n_seen = 0;
    if (reader->now.hdr.kind == VGD_TRACE_FRAME_INDEX) {
        reader->now.used_at = 0;
        if (!reader->info.has_index) {
            return fault_at(&reader->fault, VGD_TRUNCATED, offset_bytes,
                            "cut off: there is an index, and nothing behind it says so");
        }
        return VGD_CLOSED;
    }
    reader->next_offset_bytes = vgd_trace_frame_end(&reader->now.hdr);
    return VGD_OK;
}

/* One record of the present frame. VGD_AGAIN: it was one that is not returned. */
static enum vgd_status one_record(struct vgd_trace_reader *reader, struct vgd_trace_item *out)
{
    const struct vgd_trace_file_frame *frame = &reader->now.hdr;
    size_t left_bytes = frame->raw_bytes - reader->pos_bytes;
    struct vgd_reader r = vgd_reader_of(reader->now.raw + reader->pos_bytes, left_bytes);
    struct vgd_trace_record_header hdr;
    if (vgd_trace_record_header_decode(&r, &hdr) != VGD_OK ||
        hdr.size_bytes < VGD_TRACE_RECORD_HEADER_SIZE || hdr.size_bytes > left_bytes) {
        return record_fault(reader, "a record that is longer than its frame");
    }
    r.end = reader->now.raw + reader->pos_bytes + hdr.size_bytes;
    if (hdr.kind == VGD_TRACE_KIND_PIECE) {
        reader->pos_bytes += hdr.size_bytes;
        return VGD_AGAIN;
    }
    if (reader->n_seen == frame->n_records || hdr.time_ns < frame->first_time_ns ||
        hdr.time_ns > frame->last_time_ns) {
        return record_fault(reader, "a record that its frame does not announce");
    }
    struct vgd_trace_item item = {
        .number = frame->first_record + reader->n_seen,
        .frame_offset_bytes = frame->offset_bytes,
        .record = {.time_ns = hdr.time_ns},
    };
    enum vgd_status st = vgd_trace_record_decode(&r, hdr.kind, &item.record);
    if (st != VGD_OK && st != VGD_UNSUPPORTED) {
        return record_fault(reader, "a record that is not what its kind has");
    }
    if (st == VGD_OK && vgd_trace_kind_has_data(hdr.kind)) {
        enum vgd_status data_st = decode_data(reader, &r, &item.data);
        if (data_st != VGD_OK) {
            return data_st;
        }
    }
    reader->pos_bytes += hdr.size_bytes;
    reader->n_seen++;
    if (item.number < reader->min_number || hdr.time_ns < reader->min_time_ns) {
        return VGD_AGAIN;
    }
    if (st == VGD_UNSUPPORTED) {
        reader->info.unknown_count++;
        return VGD_AGAIN;
    }
    *out = item;
    return VGD_OK;
}

enum vgd_status vgd_trace_reader_next(struct vgd_trace_reader *reader, struct vgd_trace_item *out)
{
    while (reader->end == VGD_OK) {
        enum vgd_status st;
        if (reader->now.used_at == 0) {
            st = next_frame(reader);
        } else if (reader->pos_bytes == reader->now.hdr.raw_bytes) {
            st = reader->n_seen == reader->now.hdr.n_records
                     ? VGD_OK
                     : record_fault(reader, "fewer records than the frame announces");
            reader->now.used_at = 0;
        } else {
            st = one_record(reader, out);
            if (st == VGD_OK) {
                return VGD_OK;
            }
        }
        if (st != VGD_OK && st != VGD_AGAIN) {
            reader->end = st;
        }
    }
    return reader->end;
}

/* ---- data ---- */

static void piece_fault(struct vgd_trace_reader *reader, const struct vgd_trace_piece_ref *ref)
{
    (void)fault_at(&reader->fault, VGD_RANGE, ref->frame_offset_bytes,
                   "%u bytes of data that should be %u bytes into the frame, decompressed, are "
                   "not there",
                   ref->size_bytes, ref->at_bytes);
}

/* The bytes of a piece, borrowed from a frame; NULL: the reader's fault says why not. */
static const uint8_t *find_piece(struct vgd_trace_reader *reader,
                                 const struct vgd_trace_piece_ref *ref)
{
    struct frame *frame;
    if (frame_of_piece(reader, ref->frame_offset_bytes, &frame) != VGD_OK) {
        return NULL;
    }
    uint32_t record_bytes = VGD_TRACE_RECORD_HEADER_SIZE + VGD_TRACE_PIECE_SIZE + ref->size_bytes;
    if (frame->hdr.kind != VGD_TRACE_FRAME_RECORDS ||
        !vgd_span_fits(ref->at_bytes, record_bytes, frame->hdr.raw_bytes)) {
        piece_fault(reader, ref);
        return NULL;
    }
    struct vgd_reader r = vgd_reader_of(frame->raw + ref->at_bytes, record_bytes);
    struct vgd_trace_record_header hdr;
    struct vgd_trace_piece piece;
    if (vgd_trace_record_header_decode(&r, &hdr) != VGD_OK ||
        vgd_trace_piece_decode(&r, &piece) != VGD_OK || hdr.kind != VGD_TRACE_KIND_PIECE ||
        hdr.size_bytes != record_bytes || piece.check != ref->check ||
        vgd_trace_check(r.pos, ref->size_bytes, reader->info.header.check_seed) != ref->check) {
        piece_fault(reader, ref);
        return NULL;
    }
    return r.pos;
}

enum vgd_status vgd_trace_reader_data(struct vgd_trace_reader *reader,
                                      const struct vgd_trace_data *data, uint64_t offset_bytes,
                                      void *out, size_t n_bytes)
{
    uint8_t *to = out;
    if (!vgd_span_fits(offset_bytes, n_bytes, data->total_bytes)) {
        return fault_at(&reader->fault, VGD_RANGE, reader->now.hdr.offset_bytes,
                        "a record has %llu bytes of data, not %llu + %zu",
                        (unsigned long long)data->total_bytes, (unsigned long long)offset_bytes,
                        n_bytes);
    }
    if (n_bytes > 0 && offset_bytes < data->head_bytes) {
        size_t span = data->head_bytes - (size_t)offset_bytes;
        span = span < n_bytes ? span : n_bytes;
        memcpy(to, data->head + offset_bytes, span);
        to += span;
        n_bytes -= span;
        offset_bytes += span;
    }
    struct vgd_reader refs =
        vgd_reader_of(data->refs, (size_t)data->n_pieces * VGD_TRACE_PIECE_REF_SIZE);
    uint64_t at_bytes = data->head_bytes; /* where the piece begins */
    while (n_bytes > 0) {
        struct vgd_trace_piece_ref ref;
        if (vgd_trace_piece_ref_decode(&refs, &ref) != VGD_OK) {
            return VGD_RANGE; /* cannot be: the sizes add up to the total */
        }
        if (offset_bytes < at_bytes + ref.size_bytes) {
            const uint8_t *piece = find_piece(reader, &ref);
            if (piece == NULL) {
                return reader->fault.status;
            }
            size_t skip = (size_t)(offset_bytes - at_bytes);
            size_t span = ref.size_bytes - skip < n_bytes ? ref.size_bytes - skip : n_bytes;
            memcpy(to, piece + skip, span);
            to += span;
            n_bytes -= span;
            offset_bytes += span;
        }
        at_bytes += ref.size_bytes;
    }
    return VGD_OK;
}

/* ---- seeking ---- */

/* An index that lies is none. Its entries are only hints: the frame found there says itself what it
 * holds. */
static void load_index(struct vgd_trace_reader *reader)
{
    struct vgd_trace_file_trailer trailer;
    if (reader->index != NULL || !reader->info.has_index ||
        vgd_trace_read_trailer(reader->fd, reader->info.size_bytes, reader->info.header.check_seed,
                               &trailer) != VGD_OK) {
        return;
    }
    struct vgd_trace_fault kept = reader->fault;
    struct frame *frame = &reader->others[0];
    enum vgd_status st = load(reader, trailer.index_offset_bytes, frame);
    reader->fault = kept;
    uint32_t count = frame->hdr.raw_bytes / VGD_TRACE_INDEX_ENTRY_SIZE;
    if (st != VGD_OK || frame->hdr.kind != VGD_TRACE_FRAME_INDEX || count == 0) {
        return;
    }
    reader->index = malloc(count * sizeof(*reader->index));
    if (reader->index == NULL) {
        return;
    }
    struct vgd_reader r = vgd_reader_of(frame->raw, (size_t)count * VGD_TRACE_INDEX_ENTRY_SIZE);
    for (uint32_t i = 0; i < count; i++) {
        st = vgd_trace_index_entry_decode(&r, &reader->index[i]);
        const struct vgd_trace_index_entry *e = &reader->index[i];
        if (st != VGD_OK || e->offset_bytes < reader->info.header.header_bytes ||
            (i > 0 &&
             (e->offset_bytes <= e[-1].offset_bytes || e->first_record < e[-1].first_record ||
              e->first_time_ns < e[-1].first_time_ns))) {
            free(reader->index);
            reader->index = NULL;
            return;
        }
    }
    reader->index_count = count;
}

/* Is the record that is looked for surely behind the beginning of this frame? */
static bool begins_before(uint64_t first_record, uint64_t first_time_ns, uint64_t number,
                          uint64_t time_ns)
{
    return first_record < number || first_time_ns < time_ns;
}

static uint64_t index_hint(struct vgd_trace_reader *reader, uint64_t number, uint64_t time_ns)
{
    load_index(reader);
    uint32_t low = 0; /* the first entry that does not begin before */
    uint32_t high = reader->index != NULL ? reader->index_count : 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct vgd_trace_index_entry *e = &reader->index[middle];
        if (begins_before(e->first_record, e->first_time_ns, number, time_ns)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) {
        return reader->info.header.header_bytes;
    }
    const struct vgd_trace_index_entry *e = &reader->index[low - 1];
    struct vgd_trace_file_frame frame;
    bool right =
        vgd_trace_read_frame(reader->fd, reader->info.size_bytes, reader->info.header.check_seed,
                             e->offset_bytes, &frame) == VGD_OK &&
        frame.kind == VGD_TRACE_FRAME_RECORDS && frame.first_record == e->first_record &&
        frame.first_time_ns == e->first_time_ns;
    return right ? e->offset_bytes : reader->info.header.header_bytes;
}

static enum vgd_status seek(struct vgd_trace_reader *reader, uint64_t number, uint64_t time_ns)
{
    reader->now.used_at = 0;
    reader->end = VGD_OK;
    reader->min_number = number;
    reader->min_time_ns = time_ns;
    uint64_t offset_bytes = index_hint(reader, number, time_ns);
    /* The last frame that begins before it may hold it. */
    reader->next_offset_bytes = offset_bytes;
    struct vgd_trace_file_frame frame;
    enum vgd_status st;
    while ((st = vgd_trace_read_frame(reader->fd, reader->info.size_bytes,
                                      reader->info.header.check_seed, offset_bytes, &frame)) ==
               VGD_OK &&
           frame.kind == VGD_TRACE_FRAME_RECORDS &&
           begins_before(frame.first_record, frame.first_time_ns, number, time_ns)) {
        reader->next_offset_bytes = offset_bytes;
        offset_bytes = vgd_trace_frame_end(&frame);
    }
    if (st == VGD_HOST_FAILED) {
        reader->end = frame_fault(reader, st, offset_bytes);
    }
    return reader->end;
}

enum vgd_status vgd_trace_reader_seek_number(struct vgd_trace_reader *reader, uint64_t number)
{
    return seek(reader, number, 0);
}

enum vgd_status vgd_trace_reader_seek_time(struct vgd_trace_reader *reader, uint64_t time_ns)
{
    return seek(reader, 0, time_ns);
}
