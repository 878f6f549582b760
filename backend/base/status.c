/* SPDX-License-Identifier: MIT */
#include "status.h"

const char *vgd_status_text(enum vgd_status status)
{
    switch (status) {
    case VGD_OK:
        return "ok";
    case VGD_TRUNCATED:
        return "truncated";
    case VGD_TRAILING:
        return "trailing bytes";
    case VGD_RANGE:
        return "value out of range";
    case VGD_UNSUPPORTED:
        return "not supported or not negotiated";
    case VGD_NO_RESOURCE:
        return "no such resource";
    case VGD_NO_CONTEXT:
        return "no such context";
    case VGD_NO_SCANOUT:
        return "no such scanout";
    case VGD_LIMIT:
        return "per-guest limit reached";
    case VGD_NO_MEMORY:
        return "out of host memory";
    case VGD_HOST_FAILED:
        return "host refused";
    case VGD_LOST:
        return "lost with the renderer";
    case VGD_CLOSED:
        return "closed by the peer";
    case VGD_AGAIN:
        return "try again";
    }
    return "unknown status";
}
