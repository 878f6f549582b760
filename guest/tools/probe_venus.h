/* SPDX-License-Identifier: MIT */
/* What tests of Vulkan contexts share. */
#ifndef VGD_PROBE_VENUS_H
#define VGD_PROBE_VENUS_H

#include "guest_venus.h"
#include "probe.h"

/* What a Vulkan call needs to go on, with its reason in the diagnosis. */
#define VENUS_REQUIRE(p, v, call)                                                                  \
    do {                                                                                           \
        if (!(call)) {                                                                             \
            probe_fail((p), "%s: %s", #call, (v)->why);                                            \
            return;                                                                                \
        }                                                                                          \
    } while (0)
#define VENUS_CHECK(p, v, call)                                                                    \
    ((call) ? true : (probe_fail((p), "%s: %s", #call, (v)->why), false))

/** A Vulkan context with its reply blob. False: the test has failed. */
bool probe_context(struct probe *p, struct vgd_venus *v, uint32_t ctx_id);

#endif
