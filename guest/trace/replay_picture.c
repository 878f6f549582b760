/* SPDX-License-Identifier: MIT */
/*
 * Pictures, taken at exactly the recorded place: everything before is answered and nothing after is
 * sent; then the recorded rectangle is flushed, and the display's pixels are waited for. A backend
 * may send none, when nothing changed since the last ones. So the wait is for quiet: pauses longer
 * than a backend spaces its pictures, each ended by a question that passes along the same way.
 */
#include <errno.h>
#include <math.h>
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "replay.h"
#include "trace_hash.h"

#define QUIET_MS 20
#define QUIET_PAUSES 3u
#define PIXEL_BYTES 4u
#define PICTURE_BYTES_MAX (UINT64_C(256) << 20)
#define NS_PER_MS UINT64_C(1000000)

/* ---- to take one ---- */

static bool settle(struct replay *r)
{
    uint8_t question[VGD_CTRL_HDR_SIZE];
    struct vgd_writer w = vgd_writer_of(question, sizeof(question));
    vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_GET_DISPLAY_INFO});
    struct vgd_guest_display *display = vgd_guest_gpu_display(r->gpu);
    struct vgd_guest_display_counters before, after;
    uint64_t give_up_ns = vgd_now_ns() + (uint64_t)r->config->timeout_ms * NS_PER_MS;
    uint32_t quiet = 0;
    vgd_guest_display_counters(display, &before);
    while (quiet < QUIET_PAUSES) {
        uint64_t until_ns = vgd_now_ns() + QUIET_MS * NS_PER_MS;
        for (uint64_t now_ns; (now_ns = vgd_now_ns()) < until_ns;) {
            vgd_guest_gpu_turn(r->gpu, (int)((until_ns - now_ns) / NS_PER_MS) + 1);
        }
        if (replay_call(r, question, sizeof(question)) == 0) {
            return false;
        }
        vgd_guest_display_counters(display, &after);
        quiet = after.pixel_bytes == before.pixel_bytes ? quiet + 1 : 0;
        before = after;
        if (vgd_now_ns() > give_up_ns) {
            return replay_fail(r, "the display shows one picture after the other, unasked");
        }
    }
    return true;
}

/* Show @rect of @res_id. False: failed; *out_shown: the backend agreed. */
static bool flush(struct replay *r, uint32_t res_id, struct vgd_rect rect, bool *out_shown)
{
    uint8_t bytes[VGD_CTRL_HDR_SIZE + VGD_CMD_RESOURCE_FLUSH_SIZE];
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_ctrl_hdr_encode(&w, &(struct vgd_ctrl_hdr){.type = VGD_CMD_RESOURCE_FLUSH});
    vgd_cmd_resource_flush_encode(
        &w, &(struct vgd_cmd_resource_flush){.rect = rect, .resource_id = res_id});
    uint32_t type = replay_call(r, bytes, sizeof(bytes));
    *out_shown = type == VGD_RESP_OK_NODATA;
    return type != 0;
}

/* ---- to write one ---- */

static bool write_png(FILE *file, const uint32_t *pixels, uint32_t w_px, uint32_t h_px)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png != NULL ? png_create_info_struct(png) : NULL;
    if (info == NULL || setjmp(png_jmpbuf(png)) != 0) {
        png_destroy_write_struct(&png, &info);
        return false;
    }
    png_init_io(png, file);
    png_set_compression_level(png, 3);
    png_set_IHDR(png, info, w_px, h_px, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    png_set_filler(png, 0, PNG_FILLER_AFTER);
    png_set_bgr(png);
    for (uint32_t y_px = 0; y_px < h_px; y_px++) {
        png_write_row(png, (png_const_bytep)(pixels + (size_t)y_px * w_px));
    }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return true;
}

/* All of what scanout @idx shows now, as a file. */
static bool save(struct replay *r, uint64_t number, uint32_t idx)
{
    struct vgd_guest_display *display = vgd_guest_gpu_display(r->gpu);
    struct vgd_rect all = {0};
    uint32_t *pixels = NULL;
    if (!vgd_guest_display_scanout(display, idx, &all.w_px, &all.h_px) || all.w_px == 0) {
        return true;
    }
    pixels = malloc((size_t)all.w_px * all.h_px * PIXEL_BYTES);
    if (pixels == NULL || !vgd_guest_display_read(display, idx, all, pixels)) {
        free(pixels);
        return true;
    }
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%08llu-scanout%u.png", r->config->png_dir,
                   (unsigned long long)number, idx);
    FILE *file = fopen(path, "wbe");
    bool ok = file != NULL && write_png(file, pixels, all.w_px, all.h_px);
    ok = file != NULL && fclose(file) == 0 && ok;
    free(pixels);
    r->pictures.written += ok;
    return ok || replay_fail(r, "%s: cannot be written: %s", path, strerror(errno));
}

bool replay_picture_of_flush(struct replay *r, uint64_t number, uint32_t res_id)
{
    bool shown = false;
    for (uint32_t i = 0; i < VGD_MAX_SCANOUTS; i++) {
        const struct model_scanout *scanout = &r->model.scanouts[i];
        if (res_id == 0 || scanout->resource_id != res_id) {
            continue;
        }
        if (!shown &&
            (!replay_wait_all(r) || !flush(r, res_id, scanout->rect, &shown) || !settle(r))) {
            return false;
        }
        r->pictures.taken++;
        if (!save(r, number, i)) {
            return false;
        }
    }
    return true;
}

/* ---- to compare one ---- */

uint64_t replay_squares(const uint8_t *have, const uint8_t *want, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t x = 0; x < n * PIXEL_BYTES; x++) {
        int d = x % PIXEL_BYTES == 3 ? 0 : (int)have[x] - (int)want[x];
        sum += (uint64_t)(d * d);
    }
    return sum;
}

double replay_db(uint64_t sum, uint64_t n_pixels)
{
    return sum == 0 ? INFINITY : 10 * log10(255.0 * 255.0 * 3 * (double)n_pixels / (double)sum);
}

static double psnr_db(const uint32_t *have, const uint8_t *want, uint32_t stride_bytes,
                      uint32_t w_px, uint32_t h_px)
{
    uint64_t sum = 0;
    for (uint32_t y = 0; y < h_px; y++) {
        sum += replay_squares((const uint8_t *)(have + (size_t)y * w_px),
                              want + (size_t)y * stride_bytes, w_px);
    }
    return replay_db(sum, (uint64_t)w_px * h_px);
}

static void judge(struct replay *r, const struct vgd_trace_item *item, double db)
{
    const struct vgd_trace_picture *picture = &item->record.as.picture;
    struct replay_pictures *p = &r->pictures;
    p->compared++;
    if (isinf(db)) {
        p->exact++;
        return;
    }
    p->psnr_min_db = p->psnr_min_db == 0 || db < p->psnr_min_db ? db : p->psnr_min_db;
    if (db < r->config->psnr_db) {
        p->below++;
        replay_differs(r, "record %llu: picture %ux%u+%u+%u of scanout %u: %.1f dB",
                       (unsigned long long)item->number, picture->w_px, picture->h_px,
                       picture->x_px, picture->y_px, picture->scanout_id, db);
    }
}

/* @pixels are what is shown here. */
static bool compare(struct replay *r, const struct vgd_trace_item *item, const uint32_t *pixels)
{
    const struct vgd_trace_picture *picture = &item->record.as.picture;
    uint64_t row_bytes = (uint64_t)picture->w_px * PIXEL_BYTES;
    bool has_pixels = item->data.total_bytes > 0;
    if ((picture->flags & VGD_TRACE_PICTURE_HASHED) != 0) {
        XXH128_canonical_t hash;
        XXH128_canonicalFromHash(&hash, XXH3_128bits(pixels, row_bytes * picture->h_px));
        if (memcmp(&hash, picture->hash, sizeof(picture->hash)) == 0) {
            judge(r, item, INFINITY);
            return true;
        }
        if (!has_pixels) {
            r->pictures.by_hash_only++;
            return true;
        }
    } else if (!has_pixels) {
        return true; /* recorded without anything to compare with */
    }
    bool known = picture->format == VGD_FORMAT_B8G8R8X8_UNORM ||
                 picture->format == VGD_FORMAT_B8G8R8A8_UNORM;
    if (!known || picture->stride_bytes < row_bytes ||
        item->data.total_bytes <
            (uint64_t)picture->stride_bytes * (picture->h_px - 1) + row_bytes) {
        r->pictures.missing++;
        replay_differs(r, "record %llu: a picture that makes no sense",
                       (unsigned long long)item->number);
        return true;
    }
    if (!replay_data(r, item)) {
        return false;
    }
    judge(r, item, psnr_db(pixels, r->bytes, picture->stride_bytes, picture->w_px, picture->h_px));
    return true;
}

static bool take(struct replay *r, const struct vgd_trace_item *item, uint32_t *pixels)
{
    const struct vgd_trace_picture *picture = &item->record.as.picture;
    const struct model_scanout *scanout = &r->model.scanouts[picture->scanout_id];
    struct vgd_rect here = {picture->x_px, picture->y_px, picture->w_px, picture->h_px};
    struct vgd_rect rect = here;
    rect.x_px += scanout->rect.x_px;
    rect.y_px += scanout->rect.y_px;
    bool shown = false;
    if (!replay_wait_all(r) || !flush(r, scanout->resource_id, rect, &shown) || !settle(r)) {
        return false;
    }
    struct vgd_guest_display *display = vgd_guest_gpu_display(r->gpu);
    if (!shown || !vgd_guest_display_read(display, picture->scanout_id, here, pixels)) {
        r->pictures.missing++;
        replay_differs(r, "record %llu: the picture %ux%u+%u+%u of scanout %u cannot be had here%s",
                       (unsigned long long)item->number, here.w_px, here.h_px, here.x_px, here.y_px,
                       picture->scanout_id,
                       vgd_guest_display_is_opaque(display, picture->scanout_id)
                           ? ": it is a dma-buf that cannot be read"
                           : "");
        return true;
    }
    r->pictures.taken++;
    return !r->config->compare || compare(r, item, pixels);
}

bool replay_picture(struct replay *r, const struct vgd_trace_item *item)
{
    const struct vgd_trace_picture *picture = &item->record.as.picture;
    r->pictures.seen++;
    bool wanted = r->config->compare || (r->config->png_dir != NULL && !r->config->png_every_flush);
    if (!wanted || r->after_gap) {
        return true;
    }
    uint64_t n_bytes = (uint64_t)picture->w_px * picture->h_px * PIXEL_BYTES;
    const struct model_scanout *scanout =
        picture->scanout_id < VGD_MAX_SCANOUTS ? &r->model.scanouts[picture->scanout_id] : NULL;
    const struct model_resource *res =
        scanout != NULL ? model_resource(&r->model, scanout->resource_id) : NULL;
    if (res != NULL && res->left_out) {
        r->pictures.left_out++;
        return true;
    }
    if (r->gpu == NULL || res == NULL || n_bytes == 0 || n_bytes > PICTURE_BYTES_MAX ||
        picture->w_px > REPLAY_PICTURE_SIDE_MAX || picture->h_px > REPLAY_PICTURE_SIDE_MAX) {
        r->pictures.missing++;
        replay_differs(r, "record %llu: a picture of scanout %u, which shows nothing here",
                       (unsigned long long)item->number, picture->scanout_id);
        return true;
    }
    uint32_t *pixels = malloc((size_t)n_bytes);
    bool ok = pixels != NULL ? take(r, item, pixels) : replay_fail(r, "no memory");
    free(pixels);
    return ok && (r->config->png_dir == NULL || save(r, item->number, picture->scanout_id));
}

/* ---- the result ---- */

bool replay_pictures_ok(const struct replay *r)
{
    const struct replay_pictures *p = &r->pictures;
    if (!r->config->compare) {
        return true;
    }
    /* A hash that differs says nothing about how much. It counts where nothing else was compared,
     * or where equal is what is asked for. */
    bool hashes_count = p->compared == 0;
    return p->below == 0 && p->readbacks_below == 0 && p->missing == 0 &&
           p->compared + p->by_hash_only + p->readbacks > 0 &&
           (p->by_hash_only == 0 || (!hashes_count && !isinf(r->config->psnr_db)));
}

void replay_print_pictures(const struct replay *r)
{
    const struct replay_pictures *p = &r->pictures;
    (void)printf("pictures: %llu\n", (unsigned long long)p->seen);
    if (r->config->png_dir != NULL) {
        (void)printf("pictures-written: %llu\n", (unsigned long long)p->written);
    }
    if (!r->config->compare) {
        return;
    }
    (void)printf("pictures-compared: %llu\npictures-exact: %llu\npictures-below: %llu\n",
                 (unsigned long long)p->compared, (unsigned long long)p->exact,
                 (unsigned long long)p->below);
    (void)printf("pictures-missing: %llu\npictures-left-out: %llu\npictures-hash-differs: %llu\n",
                 (unsigned long long)p->missing, (unsigned long long)p->left_out,
                 (unsigned long long)p->by_hash_only);
    (void)printf("readbacks-compared: %llu\nreadbacks-exact: %llu\nreadbacks-below: %llu\n",
                 (unsigned long long)p->readbacks, (unsigned long long)p->readbacks_exact,
                 (unsigned long long)p->readbacks_below);
    if (p->compared > 0 && p->exact == p->compared) {
        (void)printf("psnr-min: inf dB\n");
    } else if (p->compared > 0) {
        (void)printf("psnr-min: %.1f dB\n", p->psnr_min_db);
    }
}
