/* SPDX-License-Identifier: MIT */
#include "trace_layout.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "checked.h"
#include "trace_hash.h"

static const uint8_t file_magic[8] = {0x89, 'V', 'G', 'D', 'T', '\r', '\n', 0x1a};
static const uint8_t trailer_magic[8] = {'V', 'G', 'D', 'T', 'e', 'n', 'd', '\n'};

#define CHECK_BYTES sizeof(uint64_t) /* each of these parts ends with its check */

/* The check at the end of @part. */
static void seal(uint8_t *part, size_t n_bytes, uint64_t seed)
{
    struct vgd_writer w = vgd_writer_of(part + n_bytes - CHECK_BYTES, CHECK_BYTES);
    vgd_write_le64(&w, vgd_trace_check(part, n_bytes - CHECK_BYTES, seed));
}

static bool is_sealed(const uint8_t *part, size_t n_bytes, uint64_t seed)
{
    struct vgd_reader r = vgd_reader_of(part + n_bytes - CHECK_BYTES, CHECK_BYTES);
    return vgd_read_le64(&r) == vgd_trace_check(part, n_bytes - CHECK_BYTES, seed);
}

void vgd_trace_seal_header(struct vgd_trace_file_header *header, uint8_t *out)
{
    memcpy(header->magic, file_magic, sizeof(file_magic));
    struct vgd_writer w = vgd_writer_of(out, VGD_TRACE_FILE_HEADER_SIZE);
    vgd_trace_file_header_encode(&w, header);
    assert(w.status == VGD_OK);
    seal(out, VGD_TRACE_FILE_HEADER_SIZE, 0);
}

void vgd_trace_seal_frame(struct vgd_trace_file_frame *frame, uint64_t check_seed, uint8_t *out)
{
    struct vgd_writer w = vgd_writer_of(out, VGD_TRACE_FILE_FRAME_SIZE);
    vgd_trace_file_frame_encode(&w, frame);
    assert(w.status == VGD_OK);
    seal(out, VGD_TRACE_FILE_FRAME_SIZE, check_seed);
}

void vgd_trace_seal_trailer(struct vgd_trace_file_trailer *trailer, uint64_t check_seed,
                            uint8_t *out)
{
    memcpy(trailer->magic, trailer_magic, sizeof(trailer_magic));
    struct vgd_writer w = vgd_writer_of(out, VGD_TRACE_FILE_TRAILER_SIZE);
    vgd_trace_file_trailer_encode(&w, trailer);
    assert(w.status == VGD_OK);
    seal(out, VGD_TRACE_FILE_TRAILER_SIZE, check_seed);
}

/* VGD_TRUNCATED: the file was made shorter since we looked. */
static enum vgd_status read_at(int fd, uint64_t offset_bytes, uint8_t *out, size_t n_bytes)
{
    while (n_bytes > 0) {
        ssize_t n = pread(fd, out, n_bytes, (off_t)offset_bytes);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0 ? VGD_TRUNCATED : VGD_HOST_FAILED;
        }
        out += n;
        offset_bytes += (uint64_t)n;
        n_bytes -= (size_t)n;
    }
    return VGD_OK;
}

enum vgd_status vgd_trace_read_header(int fd, uint64_t size_bytes,
                                      struct vgd_trace_file_header *out)
{
    uint8_t bytes[VGD_TRACE_FILE_HEADER_SIZE] = {0};
    size_t n_bytes = size_bytes < sizeof(bytes) ? (size_t)size_bytes : sizeof(bytes);
    enum vgd_status st = read_at(fd, 0, bytes, n_bytes);
    if (st != VGD_OK) {
        return st;
    }
    /* A short file that begins otherwise is not a short trace. */
    size_t magic_bytes = n_bytes < sizeof(file_magic) ? n_bytes : sizeof(file_magic);
    if (magic_bytes == 0 || memcmp(bytes, file_magic, magic_bytes) != 0) {
        return VGD_RANGE;
    }
    if (n_bytes < sizeof(bytes)) {
        return VGD_TRUNCATED;
    }
    struct vgd_reader r = vgd_reader_of(bytes, sizeof(bytes));
    struct vgd_trace_file_header header;
    st = vgd_trace_file_header_decode(&r, &header);
    if (st != VGD_OK) {
        return st;
    }
    if (header.version_major != VGD_TRACE_VERSION_MAJOR) {
        return VGD_UNSUPPORTED;
    }
    if (!is_sealed(bytes, sizeof(bytes), 0) || header.header_bytes < sizeof(bytes)) {
        return VGD_RANGE;
    }
    *out = header;
    return VGD_OK;
}

enum vgd_status vgd_trace_read_frame(int fd, uint64_t size_bytes, uint64_t check_seed,
                                     uint64_t offset_bytes, struct vgd_trace_file_frame *out)
{
    if (offset_bytes == size_bytes) {
        return VGD_CLOSED;
    }
    if (!vgd_span_fits(offset_bytes, VGD_TRACE_FILE_FRAME_SIZE, size_bytes)) {
        return VGD_TRUNCATED;
    }
    uint8_t bytes[VGD_TRACE_FILE_FRAME_SIZE];
    enum vgd_status st = read_at(fd, offset_bytes, bytes, sizeof(bytes));
    if (st != VGD_OK) {
        return st;
    }
    struct vgd_reader r = vgd_reader_of(bytes, sizeof(bytes));
    struct vgd_trace_file_frame frame;
    st = vgd_trace_file_frame_decode(&r, &frame);
    if (st != VGD_OK) {
        return st;
    }
    if (frame.magic != VGD_TRACE_FRAME_MAGIC || !is_sealed(bytes, sizeof(bytes), check_seed) ||
        frame.offset_bytes != offset_bytes || frame.stored_bytes > VGD_TRACE_FRAME_STORED_MAX ||
        frame.raw_bytes > VGD_TRACE_FRAME_RAW_MAX ||
        (frame.kind != VGD_TRACE_FRAME_RECORDS && frame.kind != VGD_TRACE_FRAME_INDEX) ||
        frame.first_time_ns > frame.last_time_ns ||
        frame.n_records > frame.raw_bytes / VGD_TRACE_RECORD_HEADER_SIZE) {
        return VGD_RANGE;
    }
    if (!vgd_span_fits(offset_bytes + VGD_TRACE_FILE_FRAME_SIZE, frame.stored_bytes, size_bytes)) {
        return VGD_TRUNCATED;
    }
    *out = frame;
    return VGD_OK;
}

enum vgd_status vgd_trace_read_payload(int fd, uint64_t check_seed,
                                       const struct vgd_trace_file_frame *frame, uint8_t *out)
{
    enum vgd_status st =
        read_at(fd, frame->offset_bytes + VGD_TRACE_FILE_FRAME_SIZE, out, frame->stored_bytes);
    if (st != VGD_OK) {
        return st;
    }
    return vgd_trace_check(out, frame->stored_bytes, check_seed) == frame->payload_check
               ? VGD_OK
               : VGD_RANGE;
}

enum vgd_status vgd_trace_read_trailer(int fd, uint64_t size_bytes, uint64_t check_seed,
                                       struct vgd_trace_file_trailer *out)
{
    if (size_bytes < VGD_TRACE_FILE_HEADER_SIZE + VGD_TRACE_FILE_TRAILER_SIZE) {
        return VGD_TRUNCATED;
    }
    uint8_t bytes[VGD_TRACE_FILE_TRAILER_SIZE];
    enum vgd_status st = read_at(fd, size_bytes - sizeof(bytes), bytes, sizeof(bytes));
    if (st != VGD_OK) {
        return st;
    }
    struct vgd_reader r = vgd_reader_of(bytes, sizeof(bytes));
    struct vgd_trace_file_trailer trailer;
    st = vgd_trace_file_trailer_decode(&r, &trailer);
    if (st != VGD_OK) {
        return st;
    }
    if (memcmp(trailer.magic, trailer_magic, sizeof(trailer_magic)) != 0 ||
        !is_sealed(bytes, sizeof(bytes), check_seed)) {
        return VGD_RANGE;
    }
    *out = trailer;
    return VGD_OK;
}
