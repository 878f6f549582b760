/* SPDX-License-Identifier: MIT */
/* What vgd-bench measures of Vulkan: memory, mappings and fences of a context, without Mesa. */
#include <stdlib.h>

#include "bench.h"
#include "log.h"

#define VENUS_CTX 77u
#define RES_REPLY 7700u
#define RES_BLOB 7701u
#define RES_NEW 7702u
#define BLOB_BYTES 65536u

bool bench_prepare_venus(struct bench_subject *s)
{
    if (s->venus_ready) {
        return true;
    }
    struct vgd_cmd_resource_create_blob create = {
        .resource_id = RES_BLOB,
        .blob_mem = VGD_BLOB_MEM_HOST3D,
        .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
        .size_bytes = BLOB_BYTES,
    };
    s->venus_ready =
        vgd_venus_open(&s->venus, s->gpu, VENUS_CTX, RES_REPLY) && vgd_venus_device(&s->venus) &&
        vgd_guest_create_blob(s->gpu, VENUS_CTX, &create, NULL, 0) == VGD_RESP_OK_NODATA;
    s->venus_at = vgd_guest_window_alloc(s->gpu, BLOB_BYTES);
    return s->venus_ready && s->venus_at != UINT64_MAX;
}

/* Call @once @n times: median and p99 in us. */
static struct bench_result timed(struct bench_subject *s, uint32_t n,
                                 bool (*once)(struct bench_subject *s))
{
    double *times = calloc(n, sizeof(*times));
    if (times == NULL) {
        return (struct bench_result){.failed = true, .why = "out of memory"};
    }
    for (uint32_t i = 0; i < n; i++) {
        uint64_t start_ns = vgd_now_ns();
        if (!once(s)) {
            free(times);
            return (struct bench_result){.failed = true, .why = "a command failed"};
        }
        times[i] = (double)(vgd_now_ns() - start_ns) / 1000.0;
    }
    qsort(times, n, sizeof(*times), bench_compare_double);
    struct bench_result result = {.value = times[n / 2], .p99 = times[n * 99 / 100]};
    free(times);
    return result;
}

static bool map_once(struct bench_subject *s)
{
    if (vgd_guest_map_blob(s->gpu, RES_BLOB, s->venus_at, NULL) != VGD_RESP_OK_MAP_INFO) {
        return false;
    }
    vgd_guest_window(s->gpu)[s->venus_at] = 1;
    return vgd_guest_unmap_blob(s->gpu, RES_BLOB) == VGD_RESP_OK_NODATA;
}

struct bench_result bench_run_map(struct bench_subject *s, uint32_t n)
{
    return timed(s, n, map_once);
}

static bool blob_once(struct bench_subject *s)
{
    struct vgd_cmd_resource_create_blob create = {
        .resource_id = RES_NEW,
        .blob_mem = VGD_BLOB_MEM_HOST3D,
        .blob_flags = VGD_BLOB_FLAG_USE_MAPPABLE,
        .size_bytes = BLOB_BYTES,
    };
    return vgd_guest_create_blob(s->gpu, VENUS_CTX, &create, NULL, 0) == VGD_RESP_OK_NODATA &&
           vgd_guest_unref(s->gpu, RES_NEW) == VGD_RESP_OK_NODATA;
}

struct bench_result bench_run_blob(struct bench_subject *s, uint32_t n)
{
    return timed(s, n, blob_once);
}

static bool fence_once(struct bench_subject *s, uint8_t ring_idx)
{
    return vgd_guest_submit_ring(s->gpu, VENUS_CTX, ring_idx, NULL, 0, ++s->fence_id) ==
           VGD_RESP_OK_NODATA;
}

static bool cpu_fence_once(struct bench_subject *s)
{
    return fence_once(s, 0);
}

static bool queue_fence_once(struct bench_subject *s)
{
    return fence_once(s, VGD_VENUS_QUEUE_RING);
}

struct bench_result bench_run_cpu_fence(struct bench_subject *s, uint32_t n)
{
    return timed(s, n, cpu_fence_once);
}

struct bench_result bench_run_queue_fence(struct bench_subject *s, uint32_t n)
{
    return timed(s, n, queue_fence_once);
}
