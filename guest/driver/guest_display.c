/* SPDX-License-Identifier: MIT */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fd.h"
#include "guest_display_priv.h"

struct vgd_guest_display *vgd_guest_display_create(const struct vgd_guest_display_config *config)
{
    struct vgd_guest_display *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return NULL;
    }
    (void)pthread_mutex_init(&d->lock, NULL);
    d->config = *config;
    d->fd = -1;
    d->msg_fd = -1;
    d->wake_fd = -1;
    for (uint32_t i = 0; i < VGD_MAX_SCANOUTS; i++) {
        d->scanouts[i].dmabuf.fd = -1;
        d->scanouts[i].info_w_px = config->w_px;
        d->scanouts[i].info_h_px = config->h_px;
    }
    return d;
}

static void wake(struct vgd_guest_display *d)
{
    if (d->wake_fd >= 0) {
        vgd_eventfd_signal(d->wake_fd);
    }
}

void vgd_guest_display_destroy(struct vgd_guest_display *d)
{
    if (d == NULL) {
        return;
    }
    if (d->threaded) {
        (void)pthread_mutex_lock(&d->lock);
        d->quit = true;
        wake(d);
        (void)pthread_mutex_unlock(&d->lock);
        (void)pthread_join(d->thread, NULL);
    }
    for (uint32_t i = 0; i < VGD_MAX_SCANOUTS; i++) {
        vgd_guest_display_drop_dmabuf(&d->scanouts[i]);
        free(d->scanouts[i].pixels);
    }
    vgd_fd_closep(&d->fd);
    vgd_fd_closep(&d->msg_fd);
    vgd_fd_closep(&d->wake_fd);
    (void)pthread_mutex_destroy(&d->lock);
    free(d);
}

int vgd_guest_display_connect(struct vgd_guest_display *d)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        return -1;
    }
    (void)pthread_mutex_lock(&d->lock);
    vgd_fd_closep(&d->fd);
    d->fd = pair[0];
    d->counters.connections++;
    d->held_dmabuf_count = 0;
    vgd_guest_display_start_message(d);
    wake(d);
    (void)pthread_mutex_unlock(&d->lock);
    return pair[1];
}

void vgd_guest_display_disconnect(struct vgd_guest_display *d)
{
    (void)pthread_mutex_lock(&d->lock);
    vgd_fd_closep(&d->fd);
    wake(d);
    (void)pthread_mutex_unlock(&d->lock);
}

bool vgd_guest_display_connected(struct vgd_guest_display *d)
{
    (void)pthread_mutex_lock(&d->lock);
    bool connected = d->fd >= 0;
    (void)pthread_mutex_unlock(&d->lock);
    return connected;
}

int vgd_guest_display_fd(struct vgd_guest_display *d)
{
    (void)pthread_mutex_lock(&d->lock);
    int fd = d->stalled || d->threaded ? -1 : d->fd;
    (void)pthread_mutex_unlock(&d->lock);
    return fd;
}

void vgd_guest_display_service(struct vgd_guest_display *d)
{
    (void)pthread_mutex_lock(&d->lock);
    while (d->fd >= 0 && !d->stalled && vgd_guest_display_step(d)) {
    }
    (void)pthread_mutex_unlock(&d->lock);
}

static void *run_thread(void *arg)
{
    struct vgd_guest_display *d = arg;
    for (;;) {
        (void)pthread_mutex_lock(&d->lock);
        bool quit = d->quit;
        struct pollfd fds[2] = {
            {.fd = d->wake_fd, .events = POLLIN},
            {.fd = d->stalled ? -1 : d->fd, .events = POLLIN},
        };
        (void)pthread_mutex_unlock(&d->lock);
        if (quit) {
            return NULL;
        }
        (void)poll(fds, 2, -1);
        if (fds[0].revents != 0) {
            vgd_eventfd_clear(d->wake_fd);
        }
        vgd_guest_display_service(d);
    }
}

enum vgd_status vgd_guest_display_thread_start(struct vgd_guest_display *d)
{
    d->wake_fd = vgd_eventfd_create();
    if (d->wake_fd < 0) {
        return VGD_HOST_FAILED;
    }
    if (pthread_create(&d->thread, NULL, run_thread, d) != 0) {
        vgd_fd_closep(&d->wake_fd);
        return VGD_HOST_FAILED;
    }
    d->threaded = true;
    return VGD_OK;
}

void vgd_guest_display_stall(struct vgd_guest_display *d, bool stalled)
{
    (void)pthread_mutex_lock(&d->lock);
    d->stalled = stalled;
    wake(d);
    (void)pthread_mutex_unlock(&d->lock);
}

void vgd_guest_display_hold_dmabuf(struct vgd_guest_display *d, bool hold)
{
    (void)pthread_mutex_lock(&d->lock);
    d->hold_dmabuf = hold;
    while (!hold && d->held_dmabuf_count > 0) {
        d->held_dmabuf_count--;
        vgd_guest_display_reply(d, VGD_DISP_DMABUF_UPDATE, NULL, 0);
    }
    (void)pthread_mutex_unlock(&d->lock);
}

void vgd_guest_display_resize(struct vgd_guest_display *d, uint32_t scanout, uint32_t w_px,
                              uint32_t h_px)
{
    (void)pthread_mutex_lock(&d->lock);
    d->scanouts[scanout].info_w_px = w_px;
    d->scanouts[scanout].info_h_px = h_px;
    (void)pthread_mutex_unlock(&d->lock);
}

void vgd_guest_display_counters(struct vgd_guest_display *d, struct vgd_guest_display_counters *out)
{
    (void)pthread_mutex_lock(&d->lock);
    *out = d->counters;
    (void)pthread_mutex_unlock(&d->lock);
}

void vgd_guest_display_violation(struct vgd_guest_display *d, char *out, size_t n_bytes)
{
    (void)pthread_mutex_lock(&d->lock);
    (void)snprintf(out, n_bytes, "%s", d->violation);
    (void)pthread_mutex_unlock(&d->lock);
}

bool vgd_guest_display_scanout(struct vgd_guest_display *d, uint32_t idx, uint32_t *out_w_px,
                               uint32_t *out_h_px)
{
    (void)pthread_mutex_lock(&d->lock);
    *out_w_px = d->scanouts[idx].w_px;
    *out_h_px = d->scanouts[idx].h_px;
    bool on = d->scanouts[idx].pixels != NULL;
    (void)pthread_mutex_unlock(&d->lock);
    return on;
}

bool vgd_guest_display_is_opaque(struct vgd_guest_display *d, uint32_t idx)
{
    (void)pthread_mutex_lock(&d->lock);
    bool opaque = d->scanouts[idx].opaque;
    (void)pthread_mutex_unlock(&d->lock);
    return opaque;
}

uint32_t vgd_guest_display_pixel(struct vgd_guest_display *d, uint32_t idx, uint32_t x_px,
                                 uint32_t y_px)
{
    (void)pthread_mutex_lock(&d->lock);
    const struct scanout *s = &d->scanouts[idx];
    uint32_t pixel =
        x_px < s->w_px && y_px < s->h_px ? s->pixels[(size_t)y_px * s->w_px + x_px] : 0;
    (void)pthread_mutex_unlock(&d->lock);
    return pixel;
}

static bool pixels_near(uint32_t a, uint32_t b, uint32_t tolerance)
{
    for (uint32_t shift = 0; shift < 24; shift += 8) {
        uint32_t ca = a >> shift & 0xff;
        uint32_t cb = b >> shift & 0xff;
        if ((ca > cb ? ca - cb : cb - ca) > tolerance) {
            return false;
        }
    }
    return true;
}

static bool fits(const struct scanout *s, struct vgd_rect rect)
{
    return s->pixels != NULL && rect.x_px <= s->w_px && rect.w_px <= s->w_px - rect.x_px &&
           rect.y_px <= s->h_px && rect.h_px <= s->h_px - rect.y_px;
}

bool vgd_guest_display_read(struct vgd_guest_display *d, uint32_t idx, struct vgd_rect rect,
                            uint32_t *out)
{
    (void)pthread_mutex_lock(&d->lock);
    const struct scanout *s = &d->scanouts[idx];
    bool can = !s->opaque && fits(s, rect);
    for (uint32_t y = 0; can && y < rect.h_px; y++) {
        memcpy(out + (size_t)y * rect.w_px,
               s->pixels + (size_t)(rect.y_px + y) * s->w_px + rect.x_px,
               (size_t)rect.w_px * sizeof(*out));
    }
    (void)pthread_mutex_unlock(&d->lock);
    return can;
}

uint64_t vgd_guest_display_compare(struct vgd_guest_display *d, uint32_t idx, struct vgd_rect rect,
                                   const uint32_t *pixels, uint32_t stride_px, uint32_t tolerance)
{
    uint64_t differing = 0;
    (void)pthread_mutex_lock(&d->lock);
    const struct scanout *s = &d->scanouts[idx];
    if (!fits(s, rect)) {
        differing = (uint64_t)rect.w_px * rect.h_px;
    } else {
        for (uint32_t y = 0; y < rect.h_px; y++) {
            const uint32_t *have = s->pixels + (size_t)(rect.y_px + y) * s->w_px + rect.x_px;
            const uint32_t *want = pixels + (size_t)y * stride_px;
            for (uint32_t x = 0; x < rect.w_px; x++) {
                differing += tolerance == 0 ? ((have[x] ^ want[x]) & 0xffffff) != 0
                                            : !pixels_near(have[x], want[x], tolerance);
            }
        }
    }
    (void)pthread_mutex_unlock(&d->lock);
    return differing;
}

void vgd_guest_display_scribble(struct vgd_guest_display *d)
{
    (void)pthread_mutex_lock(&d->lock);
    for (uint32_t i = 0; i < VGD_MAX_SCANOUTS; i++) {
        struct scanout *s = &d->scanouts[i];
        if (s->pixels != NULL) {
            memset(s->pixels, 0x5a, (size_t)s->w_px * s->h_px * sizeof(uint32_t));
        }
    }
    memset(d->cursor.pixels, 0x5a, sizeof(d->cursor.pixels));
    d->cursor.visible = false;
    (void)pthread_mutex_unlock(&d->lock);
}

void vgd_guest_display_cursor(struct vgd_guest_display *d, struct vgd_guest_cursor *out)
{
    (void)pthread_mutex_lock(&d->lock);
    *out = d->cursor;
    (void)pthread_mutex_unlock(&d->lock);
}
void vgd_guest_display_edid(uint32_t scanout, uint8_t out[128])
{
    static const uint8_t start[] = {
        0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00, /* magic */
        0x58, 0xc4, 0x01, 0x00,                         /* vendor "VFD", product 1 */
    };
    memset(out, 0, 128);
    memcpy(out, start, sizeof(start));
    out[12] = (uint8_t)(scanout + 1); /* serial number: tells scanouts apart */
    out[17] = 30;                     /* made in 2020 */
    out[18] = 1;
    out[19] = 4; /* version 1.4 */
    uint8_t sum = 0;
    for (uint32_t i = 0; i < 127; i++) {
        sum = (uint8_t)(sum + out[i]);
    }
    out[127] = (uint8_t)(0 - sum);
}
