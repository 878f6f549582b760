/* SPDX-License-Identifier: MIT */
#include "venus_scene.h"

#include <stdio.h>
#include <string.h>

#include "log.h"

#define SERVER_NAME "virgl_render_se" /* comm has 15 characters */

bool venus_scene_open(struct scene *s, const char *vgd, const char *test_name, bool *out_offered)
{
    struct vgd_guest_gpu_config config = {.frontend = {.profile = VGD_GUEST_QEMU_11_2},
                                          .n_scanouts = 1};
    *out_offered = false;
    if (!scene_open_as(s, vgd, VENUS_WORDS, test_name, &config)) {
        return false;
    }
    *out_offered = vgd_venus_is_offered(s->gpu);
    return true;
}

static pid_t new_process(const struct scene *s, const pid_t *before, uint32_t n_before)
{
    pid_t now[VENUS_PROCESSES_MAX];
    uint32_t n = vgd_guest_descendants(s->vgd.pid, now, VENUS_PROCESSES_MAX);
    for (uint32_t i = 0; i < n; i++) {
        bool known = false;
        for (uint32_t j = 0; j < n_before; j++) {
            known = known || before[j] == now[i];
        }
        if (!known) {
            return now[i];
        }
    }
    return 0;
}

bool venus_user_open(struct venus_user *u, struct scene *s, uint32_t ctx_id, uint32_t first_res_id)
{
    pid_t before[VENUS_PROCESSES_MAX];
    uint32_t n_before = vgd_guest_descendants(s->vgd.pid, before, VENUS_PROCESSES_MAX);
    *u = (struct venus_user){.first_res_id = first_res_id};
    if (!vgd_venus_open(&u->v, s->gpu, ctx_id, first_res_id)) {
        return false;
    }
    u->process = new_process(s, before, n_before);
    bool right = vgd_venus_device(&u->v);
    if (right) {
        u->memory = vgd_venus_allocate(&u->v, VENUS_BLOB_BYTES);
        right = u->memory != 0;
    }
    for (uint32_t i = 0; i < VENUS_BLOBS && right; i++) {
        right =
            vgd_venus_blob_create(&u->v, first_res_id + 1 + i, i + 1 == VENUS_BLOBS ? u->memory : 0,
                                  VENUS_BLOB_BYTES, &u->blobs[i]);
    }
    if (!right) {
        char why[sizeof(u->v.why)];
        memcpy(why, u->v.why, sizeof(why));
        (void)venus_user_close(u);
        memcpy(u->v.why, why, sizeof(why));
    }
    return right;
}

bool venus_user_close(struct venus_user *u)
{
    bool right = true;
    for (uint32_t i = 0; i < VENUS_BLOBS; i++) {
        right = vgd_venus_blob_destroy(&u->v, &u->blobs[i]) && right;
    }
    return vgd_venus_close(&u->v) && right;
}

static uint8_t mark_of(uint32_t seed, uint32_t blob)
{
    return (uint8_t)(seed * 31 + blob * 7 + 1);
}

bool venus_user_works(struct venus_user *u, uint32_t seed)
{
    u->seed = seed;
    for (uint32_t i = 0; i + 1 < VENUS_BLOBS; i++) {
        memset(u->blobs[i].bytes, mark_of(seed, i), VENUS_BLOB_BYTES);
    }
    uint8_t mark = mark_of(seed, VENUS_BLOBS - 1);
    if (!vgd_venus_fill(&u->v, u->memory, VENUS_BLOB_BYTES, 0x01010101u * mark)) {
        return false;
    }
    bool kept = venus_user_keeps(u);
    if (!kept) {
        (void)snprintf(u->v.why, sizeof(u->v.why), "the memory holds something else");
    }
    return kept;
}

bool venus_user_keeps(const struct venus_user *u)
{
    for (uint32_t i = 0; i < VENUS_BLOBS; i++) {
        const uint8_t *bytes = u->blobs[i].bytes;
        for (uint32_t at = 0; at < VENUS_BLOB_BYTES; at++) {
            if (bytes[at] != mark_of(u->seed, i)) {
                return false;
            }
        }
    }
    return true;
}

uint32_t venus_processes(const struct scene *s, struct venus_process out[VENUS_PROCESSES_MAX])
{
    pid_t pids[VENUS_PROCESSES_MAX];
    pids[0] = s->vgd.pid;
    uint32_t n = 1 + vgd_guest_descendants(s->vgd.pid, pids + 1, VENUS_PROCESSES_MAX - 1);
    for (uint32_t i = 0; i < n; i++) {
        out[i] = (struct venus_process){
            .pid = pids[i],
            .fds = vgd_guest_fd_count(pids[i]),
            .mappings = vgd_guest_mapping_count(pids[i]),
            .dirty_kib = vgd_guest_private_dirty_kib(pids[i]),
        };
        (void)vgd_guest_process_name(pids[i], out[i].name);
    }
    return n;
}

pid_t venus_server(const struct scene *s, pid_t not_pid, int timeout_ms)
{
    uint64_t deadline_ns = vgd_now_ns() + (uint64_t)timeout_ms * 1000000;
    for (;;) {
        pid_t pid = vgd_guest_child_named(s->vgd.pid, SERVER_NAME);
        if (pid != 0 && pid != not_pid) {
            return pid;
        }
        if (vgd_now_ns() >= deadline_ns) {
            return 0;
        }
        sleep_ms(2);
    }
}
