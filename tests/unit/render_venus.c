/* SPDX-License-Identifier: MIT */
/*
 * Vulkan contexts over a real render server. No Vulkan driver is needed for most of this: contexts,
 * memory without an object behind it and CPU fences are the render server's own.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "call_guard.h"
#include "leaks.h"
#include "log.h"
#include "loop.h"
#include "render_server_fixture.h"
#include "virgl.h"

#define PAGE 4096u
#define DEATH_SEEN_WITHIN_NS 1000000000ull
#define CALL_MS 2000
#define CONTEXTS_MAX 192u /* a limit of the renderer's */

struct seen {
    uint32_t fences_count, losses_count;
    uint64_t last_seq[1024]; /* by context; each test uses one ring of it */
    uint32_t lost_ctx;
};

static struct vgd_loop *loop;
static struct vgd_render *r;
static struct seen seen;
static pid_t server;

static void on_fence(void *user, uint32_t ctx_id, uint8_t ring_idx, uint64_t seq)
{
    struct seen *s = user;
    s->fences_count++;
    cr_assert_lt(ring_idx, 64);
    cr_assert_lt(ctx_id, 1024);
    cr_assert_gt(seq, s->last_seq[ctx_id], "fences of a ring complete in order");
    s->last_seq[ctx_id] = seq;
}

static void on_lost(void *user, uint32_t ctx_id)
{
    struct seen *s = user;
    s->losses_count++;
    s->lost_ctx = ctx_id;
}

static struct vgd_vk_choice vulkan = {.name = "test device"};

static enum vgd_status start(bool want_virgl, int *server_fd, char *why, size_t why_bytes)
{
    struct vgd_virgl_options o = {
        .want_virgl = want_virgl,
        .vulkan = &vulkan,
        .server_fd = server_fd,
        .vulkan_call_ms = CALL_MS,
        .loop = loop,
        .callbacks = {.fence_done = on_fence, .context_lost = on_lost, .user = &seen},
    };
    return vgd_virgl_create(&o, &r, why, why_bytes);
}

static void set_up_with(bool want_virgl)
{
    vgd_log_setup("test", VGD_LOG_ERROR);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    const char *path = render_server_path();
    if (path == NULL) {
        cr_skip("virgl_render_server is not installed (package virgl-server)");
        return;
    }
    loop = vgd_loop_create();
    cr_assert_not_null(loop);
    int fd = -1;
    server = render_server_start(path, &fd);
    cr_assert_gt(server, 0);
    char why[256] = "";
    enum vgd_status st = start(want_virgl, &fd, why, sizeof(why));
    if (st != VGD_OK && want_virgl) {
        cr_skip("no OpenGL on this host: %s", why);
        return;
    }
    cr_assert_eq(st, VGD_OK, "%s", why);
    cr_assert_str_empty(why);
    cr_assert_eq(fd, -1, "the renderer took the socket");
}

static void set_up(void)
{
    set_up_with(false);
}

static void tear_down(void)
{
    if (r != NULL) {
        r->ops->destroy(r);
        r = NULL;
    }
    vgd_loop_destroy(loop);
    loop = NULL;
    if (server > 0) {
        (void)kill(server, SIGKILL);
        (void)waitpid(server, NULL, 0);
    }
}

TestSuite(render_venus, .init = set_up, .fini = tear_down, .timeout = 120);

static enum vgd_status create_context(uint32_t id)
{
    return r->ops->context_create(r, id, VGD_CAPSET_VENUS, "test", 4);
}

static enum vgd_status create_blob(uint32_t res_id, uint32_t ctx_id, uint64_t blob_id,
                                   uint64_t size_bytes)
{
    struct vgd_render_blob blob = {
        .res_id = res_id,
        .ctx_id = ctx_id,
        .mem = VGD_BLOB_MEM_HOST3D,
        .flags = VGD_BLOB_FLAG_USE_MAPPABLE,
        .blob_id = blob_id,
        .size_bytes = size_bytes,
    };
    return r->ops->resource_create_blob(r, &blob);
}

/* Turn the loop until @*count is @wanted, or the time is up. */
static bool wait_for(const uint32_t *count, uint32_t wanted, uint64_t limit_ns)
{
    uint64_t end_ns = vgd_now_ns() + limit_ns;
    while (*count < wanted && vgd_now_ns() < end_ns) {
        vgd_loop_turn(loop, 10);
    }
    return *count >= wanted;
}

/* Processes whose parent is @pid, at most @max. */
static uint32_t children_of(pid_t pid, pid_t *out, uint32_t max)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
    FILE *f = fopen(path, "re");
    uint32_t n = 0;
    int child;
    while (f != NULL && n < max && fscanf(f, "%d", &child) == 1) {
        out[n++] = child;
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return n;
}

/* Without the loop, wait until the render server has @wanted children: it reaps at its leisure. */
static bool wait_for_children(uint32_t wanted, pid_t *out)
{
    uint64_t end_ns = vgd_now_ns() + 5 * DEATH_SEEN_WITHIN_NS;
    pid_t children[8];
    uint32_t n;
    while ((n = children_of(server, children, 8)) != wanted && vgd_now_ns() < end_ns) {
        (void)usleep(1000);
    }
    *out = n > 0 ? children[0] : -1;
    return n == wanted;
}

Test(render_venus, says_what_it_is)
{
    struct vgd_render_info info;
    r->ops->info(r, &info);
    cr_expect(info.has_3d);
    cr_expect_str_eq(info.vulkan_name, "test device");
    cr_expect_eq(info.n_capsets, 1);
    cr_expect_eq(info.capsets[0].id, VGD_CAPSET_VENUS);
    uint8_t caps[512];
    memset(caps, 0xff, sizeof(caps));
    cr_expect_eq(r->ops->capset_fill(r, VGD_CAPSET_VENUS, 0, caps, sizeof(caps)), VGD_OK);
    uint32_t xml_version; /* of vk.xml, the capset's second field */
    memcpy(&xml_version, caps + 4, sizeof(xml_version));
    cr_expect_neq(xml_version, 0, "the library fills it");
    cr_expect_eq(caps[sizeof(caps) - 1], 0, "and zeros follow");
    cr_expect_eq(r->ops->context_create(r, 1, VGD_CAPSET_VIRGL2, "x", 1), VGD_UNSUPPORTED);
    cr_expect_eq(r->ops->context_create(r, 1, 0, "x", 1), VGD_UNSUPPORTED);
    struct vgd_cmd_resource_create_3d cmd = {
        .resource_id = 1, .target = 2, .width = 1, .height = 1};
    cr_expect_eq(r->ops->resource_create_3d(r, &cmd), VGD_UNSUPPORTED);
    cr_expect_eq(r->ops->resource_create_2d(r, 1, VGD_FORMAT_B8G8R8X8_UNORM, 4, 4), VGD_OK);
    cr_expect_eq(create_context(1), VGD_OK);
    cr_expect_eq(r->ops->context_attach(r, 1, 1), VGD_OK, "it has no use for it, and no harm");
    r->ops->context_detach(r, 1, 1);
}

Test(render_venus, memory_is_shared_with_the_contexts_process)
{
    cr_assert_eq(create_context(1), VGD_OK);
    cr_assert_eq(create_blob(10, 1, 0, 4 * PAGE), VGD_OK);
    cr_expect_eq(r->ops->context_attach(r, 1, 10), VGD_OK);
    struct vgd_blob_file a = {.fd = -1};
    struct vgd_blob_file b = {.fd = -1};
    cr_assert_eq(r->ops->blob_export(r, 10, &a), VGD_OK);
    cr_assert_eq(r->ops->blob_export(r, 10, &b), VGD_OK);
    cr_expect_eq(a.offset_bytes, 0);
    cr_expect_eq(a.map_info, VGD_MAP_CACHE_CACHED);
    cr_expect_eq(lseek(a.fd, 0, SEEK_END), 4 * PAGE);
    cr_expect_neq(ftruncate(a.fd, PAGE), 0, "it cannot shrink under whoever maps it");
    uint32_t *map_a = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, a.fd, 0);
    const uint32_t *map_b = mmap(NULL, 4 * PAGE, PROT_READ, MAP_SHARED, b.fd, 0);
    cr_assert(map_a != MAP_FAILED && map_b != MAP_FAILED);
    map_a[PAGE / 4] = 0x12345678;
    cr_expect_eq(map_b[PAGE / 4], 0x12345678);
    (void)close(a.fd);
    (void)close(b.fd);
    r->ops->resource_unref(r, 10);
    cr_expect_eq(map_b[PAGE / 4], 0x12345678, "a mapping outlives the resource");
    cr_expect_eq(r->ops->blob_export(r, 10, &a), VGD_NO_RESOURCE);
}

static uint32_t entries_of(pid_t pid, const char *what)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
    FILE *f = fopen(path, "re");
    uint32_t n = 0;
    int c;
    while (f != NULL && (c = fgetc(f)) != EOF) {
        n += c == '\n' ? 1 : 0;
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return n;
}

Test(render_venus, a_thousand_blobs_leave_nothing)
{
    cr_assert_eq(create_context(1), VGD_OK);
    pid_t child;
    cr_assert(wait_for_children(1, &child));
    uint32_t fds = 0;
    uint32_t mappings = 0;
    uint32_t child_mappings = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        uint64_t size_bytes = (1 + i % 7) * (uint64_t)PAGE;
        struct vgd_blob_file file = {.fd = -1};
        cr_assert_eq(create_blob(10 + i, 1, 0, size_bytes), VGD_OK);
        cr_assert_eq(r->ops->context_attach(r, 1, 10 + i), VGD_OK);
        cr_assert_eq(r->ops->blob_export(r, 10 + i, &file), VGD_OK);
        uint32_t *map = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
        cr_assert(map != MAP_FAILED);
        cr_assert_eq(map[0], 0, "new memory is empty");
        map[0] = 0x01020300 | (i & 0xff);
        struct vgd_image image = {
            .w_px = 1, .h_px = 1, .format = VGD_FORMAT_B8G8R8X8_UNORM, .stride_bytes = 4};
        uint8_t out[4];
        struct vgd_rect rect = {.w_px = 1, .h_px = 1};
        cr_assert_eq(r->ops->read_pixels(r, 10 + i, &image, rect, out, 4), VGD_OK);
        cr_assert_eq(out[0], i & 0xff);
        (void)munmap(map, size_bytes);
        (void)close(file.fd);
        if (i % 2 == 0) {
            r->ops->context_detach(r, 1, 10 + i);
        }
        r->ops->resource_unref(r, 10 + i);
        if (i == 99 || i == 999) {
            bool done;
            cr_assert_eq(r->ops->fence(r, 1, 0, i, &done), VGD_OK); /* it has seen all of these */
            cr_assert(wait_for(&seen.fences_count, i == 99 ? 1 : 2, 5 * DEATH_SEEN_WITHIN_NS));
            uint32_t now[3] = {open_fds_count(), entries_of(getpid(), "maps"),
                               entries_of(child, "maps")};
            cr_assert(i == 99 || (now[0] == fds && now[1] == mappings && now[2] == child_mappings),
                      "%u, %u, %u were %u, %u, %u", now[0], now[1], now[2], fds, mappings,
                      child_mappings);
            fds = now[0];
            mappings = now[1];
            child_mappings = now[2];
        }
    }
}

Test(render_venus, contexts_can_share_a_blob)
{
    cr_assert_eq(create_context(1), VGD_OK);
    cr_assert_eq(create_context(2), VGD_OK);
    cr_assert_eq(create_blob(10, 1, 0, PAGE), VGD_OK);
    cr_assert_eq(r->ops->context_attach(r, 1, 10), VGD_OK);
    cr_assert_eq(r->ops->context_attach(r, 2, 10), VGD_OK);
    r->ops->context_destroy(r, 1);
    struct vgd_blob_file file = {.fd = -1};
    cr_expect_eq(r->ops->blob_export(r, 10, &file), VGD_OK, "it outlives its maker");
    (void)close(file.fd);
    cr_assert_eq(create_context(1), VGD_OK, "another of that id");
    r->ops->context_detach(r, 2, 10);
    r->ops->resource_unref(r, 10);
    bool done;
    cr_assert_eq(r->ops->fence(r, 1, 0, 1, &done), VGD_OK);
    cr_assert_eq(r->ops->fence(r, 2, 0, 2, &done), VGD_OK);
    cr_expect(wait_for(&seen.fences_count, 2, 5 * DEATH_SEEN_WITHIN_NS), "both are well");
    cr_expect_eq(seen.losses_count, 0);
}

Test(render_venus, pictures_in_blobs_can_be_read)
{
    cr_assert_eq(create_context(1), VGD_OK);
    cr_assert_eq(create_blob(10, 1, 0, 2 * PAGE), VGD_OK);
    struct vgd_blob_file file = {.fd = -1};
    cr_assert_eq(r->ops->blob_export(r, 10, &file), VGD_OK);
    uint8_t *map = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
    cr_assert(map != MAP_FAILED);
    struct vgd_image image = {.w_px = 8,
                              .h_px = 4,
                              .format = VGD_FORMAT_R8G8B8X8_UNORM,
                              .stride_bytes = 128,
                              .offset_bytes = 256};
    uint8_t *pixel = map + 256 + 2 * 128 + 3 * 4;
    pixel[0] = 1;
    pixel[1] = 2;
    pixel[2] = 3;
    uint8_t out[2][2][4];
    struct vgd_rect rect = {.x_px = 3, .y_px = 2, .w_px = 2, .h_px = 2};
    cr_assert_eq(r->ops->read_pixels(r, 10, &image, rect, out, sizeof(out[0])), VGD_OK);
    cr_expect_eq(out[0][0][0], 3);
    cr_expect_eq(out[0][0][1], 2);
    cr_expect_eq(out[0][0][2], 1);
    cr_expect_eq(out[1][1][0], 0);
    struct vgd_dmabuf exported = {.fd = -1};
    cr_expect_eq(r->ops->export_scanout(r, 10, &image, &exported), VGD_UNSUPPORTED,
                 "shared memory is no dma-buf");
    image.offset_bytes = 2 * PAGE - 4;
    cr_expect_eq(r->ops->read_pixels(r, 10, &image, rect, out, sizeof(out[0])), VGD_RANGE);
    (void)close(file.fd);
}

Test(render_venus, guest_memory_is_used_where_it_lies)
{
    static _Alignas(4096) uint8_t pages[2][PAGE];
    const struct iovec iov[] = {{pages[1], PAGE}, {pages[0], PAGE}};
    struct vgd_render_blob blob = {
        .res_id = 10, .mem = VGD_BLOB_MEM_GUEST, .size_bytes = 2 * PAGE, .iov = iov, .n_iov = 2};
    cr_assert_eq(r->ops->resource_create_blob(r, &blob), VGD_OK);
    struct vgd_image image = {
        .w_px = 16, .h_px = 32, .format = VGD_FORMAT_B8G8R8X8_UNORM, .stride_bytes = 256};
    pages[1][0] = 7;
    pages[0][256 + 4] = 9; /* row 17, pixel 1 */
    uint32_t out[32][16];
    struct vgd_rect rect = {.w_px = 16, .h_px = 32};
    cr_assert_eq(r->ops->read_pixels(r, 10, &image, rect, out, sizeof(out[0])), VGD_OK);
    cr_expect_eq(out[0][0] & 0xff, 7);
    cr_expect_eq(out[17][1] & 0xff, 9);
    struct vgd_blob_file file;
    cr_expect_eq(r->ops->blob_export(r, 10, &file), VGD_UNSUPPORTED);
    r->ops->resource_detach(r, 10);
    cr_expect_eq(r->ops->read_pixels(r, 10, &image, rect, out, sizeof(out[0])), VGD_RANGE,
                 "its pages are gone");
}

Test(render_venus, bad_blobs_are_refused_and_cost_nothing)
{
    cr_assert_eq(create_context(1), VGD_OK);
    uint32_t before = open_fds_count();
    cr_expect_eq(create_blob(10, 1, 12345, PAGE), VGD_RANGE, "no such object");
    cr_expect_eq(create_blob(10, 2, 0, PAGE), VGD_NO_CONTEXT);
    struct vgd_render_blob blob = {
        .res_id = 10, .ctx_id = 1, .mem = VGD_BLOB_MEM_HOST3D, .size_bytes = PAGE};
    cr_expect_eq(r->ops->resource_create_blob(r, &blob), VGD_RANGE, "not mappable, no object");
    cr_expect_eq(open_fds_count(), before);
    cr_expect_eq(seen.losses_count, 0);
    cr_expect_eq(create_blob(10, 1, 0, PAGE), VGD_OK, "the context works on");
}

Test(render_venus, fences_of_the_cpu_ring_signal)
{
    cr_assert_eq(create_context(1), VGD_OK);
    cr_assert_eq(create_context(2), VGD_OK);
    for (uint64_t seq = 1ull << 40; seq < (1ull << 40) + 100; seq++) {
        bool done = true;
        cr_assert_eq(r->ops->fence(r, 1 + (seq & 1), 0, seq, &done), VGD_OK);
        cr_assert_not(done, "it is asynchronous");
        uint64_t end_ns = vgd_now_ns() + DEATH_SEEN_WITHIN_NS;
        while (seen.last_seq[1 + (seq & 1)] != seq && vgd_now_ns() < end_ns) {
            vgd_loop_turn(loop, 10);
        }
        cr_assert_eq(seen.last_seq[1 + (seq & 1)], seq);
    }
    bool done = false;
    cr_expect_eq(r->ops->fence(r, 0, 0, 1, &done), VGD_OK);
    cr_expect(done, "the device's own timeline waits for nothing");
}

Test(render_venus, a_fence_on_an_unbound_ring_costs_its_context_only)
{
    cr_assert_eq(create_context(1), VGD_OK);
    cr_assert_eq(create_context(2), VGD_OK);
    bool done = true;
    cr_assert_eq(r->ops->fence(r, 1, 63, 1, &done), VGD_OK);
    uint64_t start_ns = vgd_now_ns();
    cr_assert(wait_for(&seen.losses_count, 1, 5 * DEATH_SEEN_WITHIN_NS));
    cr_expect_lt(vgd_now_ns() - start_ns, DEATH_SEEN_WITHIN_NS);
    cr_expect_eq(seen.lost_ctx, 1);
    cr_expect_eq(seen.fences_count, 0);
    uint32_t nop[2] = {0};
    cr_expect_eq(r->ops->submit(r, 1, nop, sizeof(nop)), VGD_LOST);
    cr_expect_eq(create_blob(10, 1, 0, PAGE), VGD_LOST);
    cr_expect_eq(r->ops->fence(r, 1, 0, 2, &done), VGD_LOST);
    cr_assert_eq(r->ops->fence(r, 2, 0, 3, &done), VGD_OK);
    cr_expect(wait_for(&seen.fences_count, 1, DEATH_SEEN_WITHIN_NS), "others go on");
    r->ops->context_destroy(r, 1);
    cr_expect_eq(create_context(1), VGD_OK, "and the id can be used again");
    cr_expect_eq(create_blob(10, 1, 0, PAGE), VGD_OK);
}

Test(render_venus, a_killed_process_is_a_lost_context_at_once)
{
    uint32_t fds = 0;
    for (uint32_t i = 0; i < 20; i++) {
        cr_assert_eq(create_context(1), VGD_OK);
        pid_t child;
        cr_assert(wait_for_children(1, &child));
        cr_assert_eq(create_blob(10, 1, 0, PAGE), VGD_OK);
        struct vgd_blob_file file = {.fd = -1};
        uint64_t start_ns = vgd_now_ns();
        (void)kill(child, SIGKILL);
        cr_assert(wait_for(&seen.losses_count, i + 1, 5 * DEATH_SEEN_WITHIN_NS));
        cr_expect_lt(vgd_now_ns() - start_ns, DEATH_SEEN_WITHIN_NS);
        cr_expect_eq(r->ops->blob_export(r, 10, &file), VGD_OK, "its memory outlives it");
        (void)close(file.fd);
        r->ops->resource_unref(r, 10);
        r->ops->context_destroy(r, 1);
        uint32_t now = open_fds_count();
        fds = i == 0 ? now : fds;
        cr_assert_eq(now, fds, "nothing leaks");
    }
}

Test(render_venus, a_process_that_dies_between_calls_fails_the_next_one)
{
    cr_assert_eq(create_context(1), VGD_OK);
    pid_t child;
    cr_assert(wait_for_children(1, &child));
    (void)kill(child, SIGKILL);
    cr_assert(wait_for_children(0, &child));
    cr_expect_eq(create_blob(10, 1, 0, PAGE), VGD_LOST);
    cr_expect_eq(seen.losses_count, 0, "told from the loop");
    vgd_loop_turn(loop, 10);
    cr_expect_eq(seen.losses_count, 1);
    vgd_loop_turn(loop, 10);
    cr_expect_eq(seen.losses_count, 1, "once");
}

Test(render_venus, without_the_server_nothing_hangs)
{
    cr_assert_eq(create_context(1), VGD_OK);
    (void)kill(server, SIGKILL);
    (void)waitpid(server, NULL, 0);
    server = -1;
    uint64_t start_ns = vgd_now_ns();
    cr_expect_eq(create_context(2), VGD_HOST_FAILED);
    vgd_loop_turn(loop, 10);
    cr_expect_eq(create_context(2), VGD_HOST_FAILED);
    r->ops->context_destroy(r, 1);
    cr_expect_lt(vgd_now_ns() - start_ns, DEATH_SEEN_WITHIN_NS);
}

Test(render_venus, three_hundred_contexts)
{
    uint32_t fds = open_fds_count();
    for (uint32_t round = 0; round < 2; round++) {
        uint32_t first = 1 + round * 300;
        uint32_t made = 0;
        for (uint32_t id = first; id < first + 300; id++) {
            enum vgd_status st = create_context(id);
            cr_assert_eq(st, made < CONTEXTS_MAX ? VGD_OK : VGD_LIMIT);
            made += st == VGD_OK ? 1 : 0;
        }
        uint32_t before = seen.fences_count;
        for (uint32_t id = first; id < first + made; id++) {
            bool done;
            cr_assert_eq(r->ops->fence(r, id, 0, id, &done), VGD_OK);
        }
        cr_expect(wait_for(&seen.fences_count, before + made, 20 * DEATH_SEEN_WITHIN_NS));
        for (uint32_t id = first; id < first + 300; id++) {
            r->ops->context_destroy(r, id);
        }
        cr_expect_eq(open_fds_count(), fds);
    }
    cr_expect_eq(seen.losses_count, 0);
}

Test(render_venus, a_reset_drops_everything)
{
    uint32_t fds = open_fds_count();
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t id = 1; id <= 5; id++) {
            bool done;
            cr_assert_eq(create_context(id), VGD_OK);
            cr_assert_eq(create_blob(id, id, 0, PAGE), VGD_OK);
            cr_assert_eq(r->ops->fence(r, id, 0, id + round * 5, &done), VGD_OK);
        }
        r->ops->reset(r);
        cr_expect_eq(open_fds_count(), fds);
    }
    vgd_loop_turn(loop, 50);
    cr_expect_eq(seen.losses_count, 0);
}

/* A process that does not answer is what a guest can make of its own: it can have it wait for a
 * ring that never moves. */
Test(render_venus, a_hanging_process_is_ended, .timeout = 60)
{
    cr_assert_eq(create_context(1), VGD_OK);
    pid_t child;
    cr_assert(wait_for_children(1, &child));
    (void)kill(child, SIGSTOP);
    uint64_t start_ns = vgd_now_ns();
    cr_expect_eq(create_blob(10, 1, 0, PAGE), VGD_LOST);
    cr_expect_gt(vgd_now_ns() - start_ns, CALL_MS * 900000ull);
    cr_expect_lt(vgd_now_ns() - start_ns, CALL_MS * 1000000ull + DEATH_SEEN_WITHIN_NS);
    cr_expect(wait_for(&seen.losses_count, 1, DEATH_SEEN_WITHIN_NS));
    cr_expect(wait_for_children(0, &child), "no process is left");
    cr_expect_eq(create_context(2), VGD_OK);
}

/* What is only sent waits for room in the socket. */
Test(render_venus, a_process_that_reads_nothing_is_ended, .timeout = 60)
{
    cr_assert_eq(create_context(1), VGD_OK);
    pid_t child;
    cr_assert(wait_for_children(1, &child));
    (void)kill(child, SIGSTOP);
    enum vgd_status st = VGD_OK;
    uint64_t start_ns = 0;
    for (uint64_t seq = 1; st == VGD_OK && seq < 100000; seq++) {
        bool done;
        start_ns = vgd_now_ns();
        st = r->ops->fence(r, 1, 0, seq, &done);
    }
    cr_expect_eq(st, VGD_LOST);
    cr_expect_lt(vgd_now_ns() - start_ns, CALL_MS * 1000000ull + DEATH_SEEN_WITHIN_NS);
    cr_expect(wait_for(&seen.losses_count, 1, DEATH_SEEN_WITHIN_NS));
    cr_expect_eq(seen.fences_count, 0);
    cr_expect(wait_for_children(0, &child), "no process is left");
    cr_expect_eq(create_context(2), VGD_OK);
}

Test(render_venus, a_hanging_server_is_given_up, .timeout = 60)
{
    cr_assert_eq(create_context(1), VGD_OK);
    (void)kill(server, SIGSTOP);
    uint64_t start_ns = vgd_now_ns();
    cr_expect_eq(create_context(2), VGD_HOST_FAILED);
    cr_expect_lt(vgd_now_ns() - start_ns, CALL_MS * 1000000ull + DEATH_SEEN_WITHIN_NS);
    cr_expect_eq(create_context(2), VGD_HOST_FAILED, "and not waited for again");
    cr_expect_lt(vgd_now_ns() - start_ns, CALL_MS * 1000000ull + DEATH_SEEN_WITHIN_NS);
    cr_expect_eq(vgd_loop_run(loop), EXIT_FAILURE, "this process is to be replaced with it");
}

static void set_up_both(void)
{
    set_up_with(true);
}

TestSuite(render_both, .init = set_up_both, .fini = tear_down, .timeout = 120);

Test(render_both, opengl_and_vulkan_side_by_side)
{
    struct vgd_render_info info;
    r->ops->info(r, &info);
    cr_expect_eq(info.n_capsets, 3);
    cr_assert_eq(create_context(1), VGD_OK);
    cr_assert_eq(r->ops->context_create(r, 2, VGD_CAPSET_VIRGL2, "gl", 2), VGD_OK);
    for (uint64_t seq = 1; seq <= 50; seq++) {
        bool done;
        cr_assert_eq(r->ops->fence(r, 1, 0, seq, &done), VGD_OK);
        cr_assert_not(done);
        r->ops->batch_end(r);
        uint64_t end_ns = vgd_now_ns() + DEATH_SEEN_WITHIN_NS;
        while (seen.last_seq[1] != seq && vgd_now_ns() < end_ns) {
            vgd_loop_turn(loop, 10);
        }
        cr_assert_eq(seen.last_seq[1], seq);
    }
    bool done;
    cr_assert_eq(r->ops->fence(r, 1, 63, 100, &done), VGD_OK);
    cr_assert(wait_for(&seen.losses_count, 1, DEATH_SEEN_WITHIN_NS));
    cr_expect_eq(r->ops->context_create(r, 3, VGD_CAPSET_VIRGL2, "gl", 2), VGD_OK,
                 "OpenGL is untouched");
}

/* What OpenGL on the CPU would read beyond a blob of Vulkan does not get to the library, however it
 * is said; and what cannot be understood is not one plane of pixels. */
Test(render_both, a_texture_beyond_its_blob_is_refused)
{
    enum { RES = 10, ROWS = 16, SET_TYPE = 49, B8G8R8A8 = 1, R8 = 64, Z16 = 16 };
    struct vgd_render_info info;
    r->ops->info(r, &info);
    if (!info.is_software) {
        cr_skip("OpenGL is not on the CPU");
        return;
    }
    cr_assert_eq(create_context(1), VGD_OK);
    cr_assert_eq(r->ops->context_create(r, 2, VGD_CAPSET_VIRGL2, "gl", 2), VGD_OK);
    cr_assert_eq(create_blob(RES, 1, 0, ROWS * PAGE), VGD_OK);
    cr_assert_eq(r->ops->context_attach(r, 2, RES), VGD_OK);
    static const struct {
        const char *name;
        uint32_t n, body[13]; /* resource, format, bind, w, h, usage, modifier, planes */
    } cases[] = {
        {"one row more", 10, {RES, B8G8R8A8, 8, 64, ROWS + 1, 0, 0, 0, PAGE, 0}},
        {"a block of rows more", 10, {RES, B8G8R8A8, 8, 64, ROWS - 3, 0, 0, 0, PAGE, 3 * PAGE}},
        {"an offset", 10, {RES, B8G8R8A8, 8, 64, ROWS, 0, 0, 0, PAGE, 4}},
        {"an offset that wraps", 10, {RES, B8G8R8A8, 8, 64, ROWS, 0, 0, 0, PAGE, UINT32_MAX}},
        {"a stride below a row", 10, {RES, B8G8R8A8, 8, 64, ROWS, 0, 0, 0, 252, 0}},
        {"a stride below 0", 10, {RES, B8G8R8A8, 8, 64, ROWS, 0, 0, 0, UINT32_MAX, 0}},
        {"two planes", 12, {RES, B8G8R8A8, 8, 64, 4, 0, 0, 0, PAGE, 0, PAGE, 0}},
        {"no plane", 8, {RES, B8G8R8A8, 8, 64, 4, 0, 0, 0}},
        {"half a plane", 9, {RES, B8G8R8A8, 8, 64, 4, 0, 0, 0, PAGE}},
        {"a plane and a half", 11, {RES, B8G8R8A8, 8, 64, 4, 0, 0, 0, PAGE, 0, PAGE}},
        {"only the resource", 1, {RES}},
        {"one byte a pixel", 10, {RES, R8, 8, 64, 4, 0, 0, 0, PAGE, 0}},
        {"depth", 10, {RES, Z16, 8, 64, 4, 0, 0, 0, PAGE, 0}},
        {"a format of nobody", 10, {RES, 0x7fffffff, 8, 64, 4, 0, 0, 0, PAGE, 0}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t words[16] = {0, 0xab << 8 | SET_TYPE | cases[i].n << 16}; /* behind a NOP */
        memcpy(words + 2, cases[i].body, cases[i].n * sizeof(uint32_t));
        cr_expect_eq(r->ops->submit(r, 2, words, (2 + (size_t)cases[i].n) * 4), VGD_RANGE, "%s",
                     cases[i].name);
    }
    uint32_t nop[2] = {0, 0};
    cr_expect_eq(r->ops->submit(r, 2, nop, sizeof(nop)), VGD_OK, "none of them got there");
}

/* The library itself notices a death after many looks, and then says that everything has
 * signalled. */
Test(render_both, fences_of_a_killed_process_are_not_done)
{
    cr_assert_eq(create_context(1), VGD_OK);
    pid_t child;
    cr_assert(wait_for_children(1, &child));
    (void)kill(child, SIGSTOP);
    (void)usleep(50000);
    bool done = true;
    cr_assert_eq(r->ops->fence(r, 1, 0, 1, &done), VGD_OK);
    cr_assert_not(done);
    uint64_t end_ns = vgd_now_ns() + DEATH_SEEN_WITHIN_NS / 2;
    while (vgd_now_ns() < end_ns) {
        vgd_loop_turn(loop, 1);
    }
    cr_assert_eq(seen.fences_count, 0);
    (void)kill(child, SIGKILL);
    cr_assert(wait_for(&seen.losses_count, 1, DEATH_SEEN_WITHIN_NS));
    cr_expect_eq(seen.fences_count, 0, "they are the device's to answer");
}

/* ---- what is wrong at the start ---------------------------------------------------------------
 */

static void set_up_nothing(void)
{
    vgd_log_setup("test", VGD_LOG_ERROR);
    loop = vgd_loop_create();
    cr_assert_not_null(loop);
}

TestSuite(render_venus_start, .init = set_up_nothing, .fini = tear_down, .timeout = 60);

Test(render_venus_start, no_connection_is_a_reason)
{
    char why[256] = "";
    int fd = -1;
    cr_expect_eq(start(false, &fd, why, sizeof(why)), VGD_HOST_FAILED);
    cr_expect_str_not_empty(why);
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    why[0] = '\0';
    cr_expect_eq(start(false, &pair[0], why, sizeof(why)), VGD_HOST_FAILED);
    cr_expect_str_not_empty(why, "not that kind of a socket");
}

/* A server of another version closes the connection at the first message that it does not know. */
Test(render_venus_start, a_server_that_closes_is_a_reason)
{
    char why[256] = "";
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    (void)close(pair[1]);
    uint64_t start_ns = vgd_now_ns();
    cr_expect_eq(start(false, &pair[0], why, sizeof(why)), VGD_HOST_FAILED);
    cr_expect_lt(vgd_now_ns() - start_ns, DEATH_SEEN_WITHIN_NS);
    cr_expect_str_not_empty(why);
}

static void end_loop(void *user)
{
    (void)user;
    vgd_loop_quit(loop, EXIT_SUCCESS);
}

/* Nobody has ended it. */
static bool loop_goes_on(void)
{
    struct vgd_timer *timer = vgd_timer_create(loop, end_loop, NULL);
    vgd_timer_start(timer, 0);
    bool goes_on = vgd_loop_run(loop) == EXIT_SUCCESS;
    vgd_timer_destroy(&timer);
    return goes_on;
}

/* Later it would end this process (a_hanging_server_is_given_up). */
Test(render_venus_start, a_server_that_hangs_is_a_reason)
{
    char why[256] = "";
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    uint64_t start_ns = vgd_now_ns();
    cr_expect_eq(start(false, &pair[0], why, sizeof(why)), VGD_HOST_FAILED);
    cr_expect_lt(vgd_now_ns() - start_ns, CALL_MS * 1000000ull + DEATH_SEEN_WITHIN_NS);
    cr_expect_not_null(strstr(why, "does not answer"), "%s", why);
    cr_expect(loop_goes_on());
    (void)close(pair[1]);
}

static void opengl_goes_on(bool server_hangs)
{
    char why[256] = "";
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    if (!server_hangs) {
        (void)close(pair[1]);
    }
    if (start(true, &pair[0], why, sizeof(why)) != VGD_OK) {
        cr_skip("no OpenGL on this host: %s", why);
        return;
    }
    cr_expect_str_not_empty(why);
    cr_expect(loop_goes_on());
    struct vgd_render_info info;
    r->ops->info(r, &info);
    cr_expect_str_empty(info.vulkan_name);
    cr_expect_eq(info.n_capsets, 2);
    cr_expect_eq(r->ops->context_create(r, 1, VGD_CAPSET_VENUS, "x", 1), VGD_UNSUPPORTED);
    cr_expect_eq(r->ops->context_create(r, 1, VGD_CAPSET_VIRGL2, "x", 1), VGD_OK);
}

Test(render_venus_start, without_a_server_opengl_goes_on)
{
    opengl_goes_on(false);
}

Test(render_venus_start, with_a_server_that_hangs_opengl_goes_on)
{
    opengl_goes_on(true);
}

Test(render_venus_start, a_call_that_waits_is_ended)
{
    int pair[2];
    char byte;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    vgd_call_guard_begin(pair[0], 100);
    cr_expect_not(vgd_call_guard_end(), "in time");
    uint64_t start_ns = vgd_now_ns();
    vgd_call_guard_begin(pair[0], 100);
    ssize_t n = recv(pair[0], &byte, 1, 0);
    cr_expect_leq(n, 0);
    cr_expect(vgd_call_guard_end());
    cr_expect_gt(vgd_now_ns() - start_ns, 90000000ull);
    cr_expect_lt(vgd_now_ns() - start_ns, DEATH_SEEN_WITHIN_NS);
    vgd_call_guard_begin(-1, 1);
    (void)usleep(5000);
    cr_expect_not(vgd_call_guard_end(), "no socket, no end");
}
