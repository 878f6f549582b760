/* SPDX-License-Identifier: MIT */
/* Why something failed. Every fallible function in vgd returns one of these. */
#ifndef VGD_BASE_STATUS_H
#define VGD_BASE_STATUS_H

enum vgd_status {
    VGD_OK = 0,
    VGD_TRUNCATED,   /* the input ended before the value did */
    VGD_TRAILING,    /* bytes remain where the message should have ended */
    VGD_RANGE,       /* a value the spec, or one of our limits, does not allow */
    VGD_UNSUPPORTED, /* well formed, but not offered or not negotiated */
    VGD_NO_RESOURCE, /* an id that names nothing this guest owns */
    VGD_NO_CONTEXT,  /* a context id that names nothing this guest owns */
    VGD_NO_SCANOUT,  /* a scanout index outside the device */
    VGD_LIMIT,       /* one of our named per-guest limits is reached */
    VGD_NO_MEMORY,   /* the host refused an allocation */
    VGD_HOST_FAILED, /* EGL, Vulkan, a library or the kernel refused */
    VGD_LOST,        /* the object was lost with a dead worker */
    VGD_CLOSED,      /* the peer closed the connection */
    VGD_AGAIN,       /* nothing to read, or no room to write, right now */
};

#define VGD_MUST_CHECK __attribute__((warn_unused_result))

/** A short English phrase for @status, for log lines. Never NULL. Any thread. */
const char *vgd_status_text(enum vgd_status status);

#endif
