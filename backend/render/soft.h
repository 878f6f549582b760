/* SPDX-License-Identifier: MIT */
/* The software 2D renderer: a console for the guest on any host, when 3D is off or fails. */
#ifndef VGD_SOFT_H
#define VGD_SOFT_H

#include "render.h"

/** NULL when out of memory. @callbacks is copied; none is ever called: every fence is done at once.
 *  Thread: loop. */
struct vgd_render *vgd_soft_create(const struct vgd_render_callbacks *callbacks);

#endif
