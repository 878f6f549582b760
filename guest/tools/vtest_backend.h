/* SPDX-License-Identifier: MIT */
/* A virtual GPU (vtest_device.h) on a connected vhost-user-gpu backend. Thread: loop. */
#ifndef VGD_VTEST_BACKEND_H
#define VGD_VTEST_BACKEND_H

#include <stdint.h>

#include "loop.h"
#include "vtest_device.h"

struct vgd_vtest_backend_config {
    uint64_t memory_bytes; /* that the device can reach; takes no room until it is used */
    uint32_t timeout_ms;   /* for a reply while connecting; 0: 10 s */
    uint32_t spin_us;      /* how long to look for what a client waits for before sleeping */
};

struct vgd_vtest_backend_events {
    void *user;
    void (*on_gone)(void *user); /* once; everything outstanding is answered at the next turn */
    void (*on_room)(void *user); /* vgd_vtest_device_has_room said no, and would now say yes */
};

/** Takes *@fd, a vhost-user socket, and brings the device up; blocks while it does. NULL:
 * *out_status says why. */
struct vgd_vtest_device *vgd_vtest_device_open(struct vgd_loop *loop, int *fd,
                                               const struct vgd_vtest_backend_config *config,
                                               const struct vgd_vtest_backend_events *events,
                                               enum vgd_status *out_status);
/** What is outstanding is answered as by a device that is gone, and is the last that clients hear
 * of it. NULL is fine. */
void vgd_vtest_device_close(struct vgd_vtest_device *dev);
/** After each turn of the loop: kick, and hand out the answers that are there. */
void vgd_vtest_device_turn(struct vgd_vtest_device *dev);

#endif
