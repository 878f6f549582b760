// Preloaded into programs in the guest that insist on a display and take its largest mode (glmark2 would draw
// 5120x2160): leaves every display only its mode of 1024x768. Where the card has no display at all (the generic
// device), pretends one that shows nothing, so that `glmark2 --off-screen` starts.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xf86drmMode.h>

#define PRETENDED_ID 1
static bool pretending;

static void *copy_of(const void *value, size_t n_bytes)
{
    void *copy = malloc(n_bytes); // drmModeFree* frees it
    return copy != NULL ? memcpy(copy, value, n_bytes) : NULL;
}

static drmModeModeInfo pretended_mode(void)
{
    drmModeModeInfo mode = {.clock = 65000, .hdisplay = 1024, .hsync_start = 1048, .hsync_end = 1184, .htotal = 1344,
                            .vdisplay = 768, .vsync_start = 771, .vsync_end = 777, .vtotal = 806, .vrefresh = 60,
                            .type = DRM_MODE_TYPE_PREFERRED | DRM_MODE_TYPE_DRIVER};
    snprintf(mode.name, sizeof(mode.name), "1024x768");
    return mode;
}

static uint32_t *one_id(void)
{
    return copy_of(&(uint32_t){PRETENDED_ID}, sizeof(uint32_t));
}

drmModeResPtr drmModeGetResources(int fd)
{
    drmModeResPtr real = ((drmModeResPtr(*)(int))dlsym(RTLD_NEXT, "drmModeGetResources"))(fd);
    if (real != NULL) {
        return real;
    }
    pretending = true;
    return copy_of(&(drmModeRes){.count_crtcs = 1, .crtcs = one_id(), .count_connectors = 1, .connectors = one_id(),
                                 .count_encoders = 1, .encoders = one_id(), .max_width = 1024, .max_height = 768},
                   sizeof(drmModeRes));
}

static drmModeConnectorPtr connector(const char *name, int fd, uint32_t id)
{
    if (pretending) {
        drmModeModeInfo mode = pretended_mode();
        return copy_of(&(drmModeConnector){.connector_id = PRETENDED_ID, .encoder_id = PRETENDED_ID,
                                           .connector_type = DRM_MODE_CONNECTOR_VIRTUAL, .connector_type_id = 1,
                                           .connection = DRM_MODE_CONNECTED, .count_modes = 1,
                                           .modes = copy_of(&mode, sizeof(mode)), .count_encoders = 1,
                                           .encoders = one_id()},
                       sizeof(drmModeConnector));
    }
    drmModeConnectorPtr c = ((drmModeConnectorPtr(*)(int, uint32_t))dlsym(RTLD_NEXT, name))(fd, id);
    for (int i = 0; c != NULL && i < c->count_modes; i++) {
        if (c->modes[i].hdisplay == 1024 && c->modes[i].vdisplay == 768) {
            c->modes[0] = c->modes[i];
            c->count_modes = 1;
        }
    }
    return c;
}

drmModeConnectorPtr drmModeGetConnector(int fd, uint32_t id)
{
    return connector("drmModeGetConnector", fd, id);
}

drmModeConnectorPtr drmModeGetConnectorCurrent(int fd, uint32_t id)
{
    return connector("drmModeGetConnectorCurrent", fd, id);
}

drmModeEncoderPtr drmModeGetEncoder(int fd, uint32_t id)
{
    if (pretending) {
        return copy_of(&(drmModeEncoder){.encoder_id = PRETENDED_ID, .crtc_id = PRETENDED_ID, .possible_crtcs = 1},
                       sizeof(drmModeEncoder));
    }
    return ((drmModeEncoderPtr(*)(int, uint32_t))dlsym(RTLD_NEXT, "drmModeGetEncoder"))(fd, id);
}

drmModeCrtcPtr drmModeGetCrtc(int fd, uint32_t id)
{
    if (pretending) {
        return copy_of(&(drmModeCrtc){.crtc_id = PRETENDED_ID, .width = 1024, .height = 768, .mode_valid = 1,
                                      .mode = pretended_mode()},
                       sizeof(drmModeCrtc));
    }
    return ((drmModeCrtcPtr(*)(int, uint32_t))dlsym(RTLD_NEXT, "drmModeGetCrtc"))(fd, id);
}
