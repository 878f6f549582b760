/* SPDX-License-Identifier: MIT */
/* The recorder of a build without zstd and xxHash: it fails as soon as it is asked for. */
#include "worker_record.h"

#include <errno.h>
#include <stdlib.h>

#include "trace_writer.h"

struct vgd_recorder {
    struct vgd_recorder_config config;
};

struct vgd_recorder *vgd_recorder_create(const struct vgd_recorder_config *config)
{
    struct vgd_recorder *r = calloc(1, sizeof(*r));
    if (r != NULL) {
        r->config = *config;
    }
    return r;
}

void vgd_recorder_destroy(struct vgd_recorder *r)
{
    free(r);
}

enum vgd_status vgd_recorder_start(struct vgd_recorder *r, const struct vgd_link_trace_start *start,
                                   uint64_t features, int *fd)
{
    (void)start, (void)features, (void)fd;
    struct vgd_link_trace_state state = {.state = VGD_LINK_WRITER_FAILED, .error = ENOTSUP};
    r->config.tell(r->config.user, &state);
    return VGD_OK;
}

void vgd_recorder_stop(struct vgd_recorder *r)
{
    (void)r;
}

void vgd_recorder_finish(struct vgd_recorder *r, uint32_t timeout_ms)
{
    (void)r, (void)timeout_ms;
}

bool vgd_recorder_active(const struct vgd_recorder *r)
{
    (void)r;
    return false;
}

uint64_t vgd_recorder_command(struct vgd_recorder *r, const struct vgd_recorder_command *c)
{
    (void)r, (void)c;
    return 0;
}

void vgd_recorder_executed(struct vgd_recorder *r, uint64_t id)
{
    (void)r, (void)id;
}

void vgd_recorder_response(struct vgd_recorder *r, uint64_t id, const uint8_t *resp, size_t n_bytes)
{
    (void)r, (void)id, (void)resp, (void)n_bytes;
}

void vgd_recorder_shown(struct vgd_recorder *r, const struct vgd_presenter_look *look)
{
    (void)r, (void)look;
}

void vgd_recorder_changed(struct vgd_recorder *r)
{
    (void)r;
}

void vgd_recorder_settle(struct vgd_recorder *r)
{
    (void)r;
}

void vgd_recorder_features(struct vgd_recorder *r, uint64_t features)
{
    (void)r, (void)features;
}

void vgd_recorder_reset(struct vgd_recorder *r)
{
    (void)r;
}
