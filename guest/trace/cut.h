/* SPDX-License-Identifier: MIT */
/* Between tool_cut.c (the file, the range) and cut_state.c (what was made before the range). */
#ifndef VGD_TRACE_CUT_H
#define VGD_TRACE_CUT_H

#include "replay.h"
#include "trace_out.h"

struct cut_missing {
    uint64_t contents; /* resources that the GPU drew or that were uploaded, without their texels */
    uint64_t contexts; /* of which too much was forgotten */
    uint64_t unread;   /* levels that the backend did not give */
};

/** Put a state that makes what @r has made so far, at @time_ns. False: the file takes no more, or
 *  the backend failed (r->failed). */
bool cut_put_state(struct replay *r, struct vgd_trace_out *out, uint64_t time_ns,
                   struct cut_missing *missing);

#endif
