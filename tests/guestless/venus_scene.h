/* SPDX-License-Identifier: MIT */
/* A guest with Vulkan contexts on a fresh vgd, and vgd's processes. */
#ifndef VGD_TESTS_VENUS_SCENE_H
#define VGD_TESTS_VENUS_SCENE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "guest_venus.h"
#include "scene.h"

#define VENUS_WORDS "--virgl --venus --hostmem=1G"
#define VENUS_BLOBS 4u
#define VENUS_BLOB_BYTES 65536u
#define VENUS_PROCESSES_MAX 64u

/* One Vulkan context with mapped memory of both kinds. */
struct venus_user {
    struct vgd_venus v;
    struct vgd_venus_blob blobs[VENUS_BLOBS]; /* the last one is device memory */
    uint64_t memory;
    uint32_t first_res_id;
    uint32_t seed; /* of the last venus_user_works */
    pid_t process; /* that executes it; 0: not found */
};

/** Start vgd and a guest of QEMU 11.2's kind. False: said in TAP. *out_offered: Vulkan is there. */
bool venus_scene_open(struct scene *s, const char *vgd, const char *test_name, bool *out_offered);

/** Context @ctx_id with ids from @first_res_id on; @v.why says what failed. */
bool venus_user_open(struct venus_user *u, struct scene *s, uint32_t ctx_id, uint32_t first_res_id);
/** Everything of it goes, in the order in which Linux does it. False if a part is refused. */
bool venus_user_close(struct venus_user *u);
/** The GPU writes, and every mapping holds what was put there. */
bool venus_user_works(struct venus_user *u, uint32_t seed);
/** Do its mappings still hold what the last venus_user_works left? */
bool venus_user_keeps(const struct venus_user *u);

/* A process of vgd, as it is now. */
struct venus_process {
    pid_t pid;
    char name[64];
    int fds, mappings;
    int64_t dirty_kib;
};
/** The supervisor first, then all its descendants: how many. */
uint32_t venus_processes(const struct scene *s, struct venus_process out[VENUS_PROCESSES_MAX]);
/** The render server, a child of the supervisor, waiting up to @timeout_ms; 0: none. */
pid_t venus_server(const struct scene *s, pid_t not_pid, int timeout_ms);

#endif
