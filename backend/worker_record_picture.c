/* SPDX-License-Identifier: MIT */
/*
 * What was shown: the hash of all that the display was given, and the pixels now and then. Where
 * the display reads nothing (it takes dma-bufs, or there is none) the whole scanout is read here at
 * the pace of the pixels.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "log.h"
#include "worker_record_priv.h"

#define PIXEL_BYTES 4u
#define MS_NS 1000000ull

/* May pixels of this scanout be put now? */
static bool pixels_are_due(const struct vgd_recorder *r, uint32_t scanout_idx, uint64_t now_ns)
{
    if (r->start.picture_ms == VGD_LINK_TRACE_NO_PIXELS) {
        return false;
    }
    uint64_t last_ns = r->pixels_ns[scanout_idx];
    return last_ns == 0 || now_ns - last_ns >= r->start.picture_ms * MS_NS;
}

/* @rect of the scanout as one record; @pixels are without gaps. */
static void put_picture(struct vgd_recorder *r, const struct vgd_presenter_look *look,
                        struct vgd_rect rect, const uint8_t *pixels, bool with_pixels)
{
    size_t n_bytes = (size_t)rect.w_px * rect.h_px * PIXEL_BYTES;
    struct vgd_trace_record record = {
        .kind = VGD_TRACE_KIND_PICTURE,
        .as.picture = {.command_id = r->executing,
                       .scanout_id = look->scanout_idx,
                       .resource_id = look->res_id,
                       .flags = VGD_TRACE_PICTURE_HASHED,
                       .format = VGD_FORMAT_B8G8R8X8_UNORM,
                       .x_px = rect.x_px,
                       .y_px = rect.y_px,
                       .w_px = rect.w_px,
                       .h_px = rect.h_px,
                       .stride_bytes = rect.w_px * PIXEL_BYTES},
    };
    XXH128_canonical_t hash;
    XXH128_canonicalFromHash(&hash, XXH3_128bits(pixels, n_bytes));
    static_assert(sizeof(hash.digest) == sizeof(record.as.picture.hash), "one hash");
    memcpy(record.as.picture.hash, hash.digest, sizeof(hash.digest));
    vgd_recorder_put(r, &record, pixels, with_pixels ? n_bytes : 0);
}

/* As many rows as one record takes. */
static uint32_t rows_at_once(struct vgd_rect rect)
{
    uint32_t rows = (uint32_t)(VGD_RECORDER_PICTURE_BYTES / PIXEL_BYTES / rect.w_px);
    return rows < rect.h_px ? rows : rect.h_px;
}

static void put_what_was_read(struct vgd_recorder *r, const struct vgd_presenter_look *look,
                              uint64_t now_ns)
{
    if (!pixels_are_due(r, look->scanout_idx, now_ns)) {
        put_picture(r, look, look->rect, look->pixels, false);
        return;
    }
    r->pixels_ns[look->scanout_idx] = now_ns;
    struct vgd_rect band = look->rect;
    uint32_t end_px = look->rect.y_px + look->rect.h_px;
    const uint8_t *pixels = look->pixels;
    for (; band.y_px < end_px; band.y_px += band.h_px) {
        band.h_px = end_px - band.y_px;
        band.h_px = rows_at_once(band);
        put_picture(r, look, band, pixels, true);
        pixels += (size_t)band.w_px * band.h_px * PIXEL_BYTES;
    }
}

/* All of the scanout, read now. */
static void put_what_nobody_reads(struct vgd_recorder *r, const struct vgd_presenter_look *look,
                                  uint64_t now_ns)
{
    if (r->picture == NULL) {
        r->picture = malloc(VGD_RECORDER_PICTURE_BYTES);
        if (r->picture == NULL) {
            return;
        }
        r->picture_bytes = VGD_RECORDER_PICTURE_BYTES;
    }
    r->pixels_ns[look->scanout_idx] = now_ns;
    struct vgd_render *render = r->config.render;
    struct vgd_rect band = {.w_px = look->src.w_px};
    for (; band.y_px < look->src.h_px; band.y_px += band.h_px) {
        band.h_px = look->src.h_px - band.y_px;
        band.h_px = rows_at_once(band);
        struct vgd_rect from = band;
        from.x_px += look->src.x_px;
        from.y_px += look->src.y_px;
        if (render->ops->read_pixels(render, look->res_id, look->image, from, r->picture,
                                     (size_t)band.w_px * PIXEL_BYTES) != VGD_OK) {
            return; /* a blob that cannot be read here */
        }
        put_picture(r, look, band, r->picture, true);
    }
}

static void count_span(void *user, uint32_t res_id, const struct iovec *iov, uint32_t n_iov,
                       uint64_t offset_bytes, uint64_t n_bytes, bool is_write)
{
    (void)res_id, (void)iov, (void)n_iov, (void)offset_bytes, (void)is_write;
    *(uint64_t *)user += n_bytes;
}

/* The bytes of guest memory that a picture is made of, if it is. What lies there now is what was
 * read, but for what the guest draws at this very moment. A flush that shows no more than it names
 * has told them already. */
static void put_memory(struct vgd_recorder *r, const struct vgd_presenter_look *look)
{
    if (look->image == NULL) {
        return;
    }
    struct vgd_rect from = look->src;
    if (look->pixels != NULL) {
        from.x_px += look->rect.x_px;
        from.y_px += look->rect.y_px;
        from.w_px = look->rect.w_px;
        from.h_px = look->rect.h_px;
    }
    const struct vgd_gpu *gpu = r->config.gpu;
    uint64_t n_bytes = 0;
    vgd_gpu_picture_spans(gpu, look->res_id, look->image, from, count_span, &n_bytes);
    if (r->executing == 0 || n_bytes > r->read_bytes) {
        struct vgd_recorder_spans spans = {.recorder = r, .reason = VGD_TRACE_BACKING_READ};
        vgd_gpu_picture_spans(gpu, look->res_id, look->image, from, vgd_recorder_put_span, &spans);
    }
}

void vgd_recorder_shown(struct vgd_recorder *r, const struct vgd_presenter_look *look)
{
    uint64_t now_ns = vgd_now_ns();
    if (look->pixels != NULL) {
        put_memory(r, look);
        put_what_was_read(r, look, now_ns);
    } else if (pixels_are_due(r, look->scanout_idx, now_ns)) {
        put_memory(r, look);
        put_what_nobody_reads(r, look, now_ns);
    }
}
