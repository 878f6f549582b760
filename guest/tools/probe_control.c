/* SPDX-License-Identifier: MIT */
/* The device's life: configuration, start in every way QEMU starts it, fences, pause, reset. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fd.h"
#include "log.h"
#include "probe.h"

#define B8G8R8X8 VGD_FORMAT_B8G8R8X8_UNORM

static void config_read(struct probe *p)
{
    struct vgd_guest_frontend *fe = vgd_guest_gpu_frontend(p->gpu);
    static const uint32_t sizes[] = {1, 4, 12, 16, 20, 24, 64, 128, 256};
    uint8_t first[256] = {0};
    uint8_t bytes[256];
    if (vgd_guest_frontend_config_read(fe, 0, 16, first) != VGD_OK) {
        probe_fail(p, "GET_CONFIG of 16 bytes");
        return;
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        if (vgd_guest_frontend_config_read(fe, 0, sizes[i], bytes) != VGD_OK) {
            probe_fail(p, "GET_CONFIG of %u bytes is not answered with %u bytes", sizes[i],
                       sizes[i]);
            return;
        }
        uint32_t same = sizes[i] < 16 ? sizes[i] : 16;
        PROBE_CHECK(p, memcmp(bytes, first, same) == 0);
        for (uint32_t at = VGD_DEVICE_CONFIG_SIZE; at < sizes[i]; at++) {
            if (bytes[at] != 0) {
                probe_fail(p, "GET_CONFIG of %u bytes: byte %u is not 0", sizes[i], at);
                break;
            }
        }
    }
    if (vgd_guest_frontend_config_read(fe, 12, 4, bytes) != VGD_OK) {
        probe_fail(p, "GET_CONFIG of 4 bytes at 12");
        return;
    }
    PROBE_CHECK(p, memcmp(bytes, first + 12, 4) == 0);
    probe_goes_on(p);
}

static void show_a_picture(struct probe *p, uint32_t n_entries)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 400, 300, n_entries, 1));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    if (probe_image_show(p, &img, probe_whole(&img))) {
        probe_expect_picture(p, 0, &img, probe_whole(&img));
    }
    probe_image_destroy(p, &img);
}

static void start(struct probe *p)
{
    show_a_picture(p, 3);
}

static void generic_device(struct probe *p)
{
    /* No display channel at all: everything is answered all the same. */
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 400, 300, 3, 1));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    for (uint32_t i = 0; i < 5; i++) {
        (void)probe_image_show(p, &img, probe_whole(&img));
    }
    struct vgd_resp_display_info info;
    PROBE_CHECK(p, vgd_guest_get_display_info(p->gpu, &info) == VGD_RESP_OK_DISPLAY_INFO);
    struct vgd_resp_edid edid;
    PROBE_CHECK(p, vgd_guest_get_edid(p->gpu, 0, &edid) != 0);
    struct vgd_cmd_update_cursor update = {.resource_id = 0};
    PROBE_CHECK(p, vgd_guest_cursor(p->gpu, VGD_CMD_UPDATE_CURSOR, &update) == 1);
    probe_image_destroy(p, &img);
}

static void regions(struct probe *p)
{
    /* Backing pieces in every region; rings and commands in the first. */
    struct vgd_guest_ram *ram = vgd_guest_gpu_ram(p->gpu);
    uint32_t id = probe_id(p);
    const uint32_t w_px = 256;
    uint32_t n = vgd_guest_ram_region_count(ram);
    uint32_t h_px = 16 * n;
    struct vgd_mem_entry entries[VGD_GUEST_REGIONS_MAX];
    struct probe_image img = {.res_id = id, .w_px = w_px, .h_px = h_px};
    img.pixels = calloc((size_t)w_px * h_px, 4);
    PROBE_REQUIRE(p, img.pixels != NULL);
    for (uint32_t i = 0; i < n; i++) {
        /* The last pages of each region, up to its very end. */
        const struct vgd_guest_region *region = vgd_guest_ram_region(ram, i);
        uint32_t len = w_px * 16 * 4;
        entries[i] = (struct vgd_mem_entry){region->gpa + region->size_bytes - len, len};
        uint32_t *bytes = vgd_guest_ram_at(ram, entries[i].addr, len);
        for (uint32_t at = 0; at < w_px * 16; at++) {
            img.pixels[i * w_px * 16 + at] = bytes[at] = probe_pixel(i + 1, at, 0);
        }
    }
    PROBE_OK(p, vgd_guest_create_2d(p->gpu, id, B8G8R8X8, w_px, h_px));
    PROBE_OK(p, vgd_guest_attach(p->gpu, id, entries, n));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, id, probe_whole(&img)));
    if (probe_image_show(p, &img, probe_whole(&img))) {
        probe_expect_picture(p, 0, &img, probe_whole(&img));
    }
    PROBE_OK(p, vgd_guest_unref(p->gpu, id));
    free(img.pixels);
}

static void touching_regions(struct probe *p)
{
    /* One entry across the border of two regions that touch. */
    struct vgd_guest_ram *ram = vgd_guest_gpu_ram(p->gpu);
    const struct vgd_guest_region *a = vgd_guest_ram_region(ram, 0);
    const struct vgd_guest_region *b = vgd_guest_ram_region(ram, 1);
    PROBE_REQUIRE(p, a->gpa + a->size_bytes == b->gpa);
    uint32_t id = probe_id(p);
    struct vgd_mem_entry entry = {b->gpa - 8192, 16384};
    memset(vgd_guest_ram_at(ram, b->gpa - 8192, 8192), 0x11, 8192);
    memset(vgd_guest_ram_at(ram, b->gpa, 8192), 0x22, 8192);
    PROBE_OK(p, vgd_guest_create_2d(p->gpu, id, B8G8R8X8, 64, 64));
    PROBE_OK(p, vgd_guest_attach(p->gpu, id, &entry, 1));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, id, (struct vgd_rect){.w_px = 64, .h_px = 64}));
    struct probe_image img = {.res_id = id, .w_px = 64, .h_px = 64};
    img.pixels = calloc((size_t)64 * 64, 4);
    PROBE_REQUIRE(p, img.pixels != NULL);
    memset(img.pixels, 0x11, 8192);
    memset((uint8_t *)img.pixels + 8192, 0x22, 8192);
    if (probe_image_show(p, &img, probe_whole(&img))) {
        probe_expect_picture(p, 0, &img, probe_whole(&img));
    }
    free(img.pixels);
    PROBE_OK(p, vgd_guest_unref(p->gpu, id));
}

static void fence_echo(struct probe *p)
{
    /* Every answer to a fenced command, errors too, carries its flag, fence and context. */
    static const uint64_t ids[] = {1, 0xffffffff, 0x100000000, 0x123456789abcdef0, UINT64_MAX};
    uint8_t off[VGD_CMD_SET_SCANOUT_SIZE] = {0};
    uint8_t unref[VGD_CMD_RESOURCE_UNREF_SIZE] = {0x00, 0xff, 0xff, 0x7f};
    for (size_t i = 0; i < 2 * sizeof(ids) / sizeof(ids[0]); i++) {
        bool bad = i % 2 == 1;
        struct vgd_guest_request req = {
            .hdr = {.type = bad ? VGD_CMD_RESOURCE_UNREF : VGD_CMD_SET_SCANOUT,
                    .flags = VGD_FLAG_FENCE,
                    .fence_id = ids[i / 2]},
            .body = bad ? unref : off,
            .body_bytes = bad ? sizeof(unref) : sizeof(off),
            .resp_bytes = VGD_CTRL_HDR_SIZE,
        };
        struct vgd_guest_command *cmd = vgd_guest_gpu_begin(p->gpu, &req, true);
        PROBE_REQUIRE(p, cmd != NULL);
        PROBE_REQUIRE(p, vgd_guest_gpu_wait(p->gpu, cmd, 5000));
        if ((cmd->resp.flags & VGD_FLAG_FENCE) == 0 || cmd->resp.fence_id != ids[i / 2] ||
            cmd->resp.ctx_id != 0) {
            probe_fail(p, "fence 0x%llx: answered %s with flags %u, fence 0x%llx, context %u",
                       (unsigned long long)ids[i / 2], vgd_resp_name(cmd->resp.type),
                       cmd->resp.flags, (unsigned long long)cmd->resp.fence_id, cmd->resp.ctx_id);
        }
        if ((cmd->resp.type == VGD_RESP_OK_NODATA) == bad) {
            probe_fail(p, "%s command answered %s", bad ? "a bad" : "a good",
                       vgd_resp_name(cmd->resp.type));
        }
        vgd_guest_gpu_end(p->gpu, cmd);
    }
    /* And an answer that was not asked for one carries none. */
    struct vgd_guest_request req = {
        .hdr = {.type = VGD_CMD_SET_SCANOUT, .fence_id = 77},
        .body = off,
        .body_bytes = sizeof(off),
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
    struct vgd_guest_command *cmd = vgd_guest_gpu_begin(p->gpu, &req, true);
    PROBE_REQUIRE(p, cmd != NULL);
    PROBE_REQUIRE(p, vgd_guest_gpu_wait(p->gpu, cmd, 5000));
    PROBE_CHECK(p, (cmd->resp.flags & VGD_FLAG_FENCE) == 0);
    vgd_guest_gpu_end(p->gpu, cmd);
}

static void pause_resume(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 400, 300, 5, 2));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    (void)probe_image_show(p, &img, probe_whole(&img));
    probe_expect_picture(p, 0, &img, probe_whole(&img));
    for (uint32_t i = 0; i < 5; i++) {
        PROBE_REQUIRE(p, vgd_guest_gpu_pause(p->gpu) == VGD_OK);
        PROBE_REQUIRE(p, vgd_guest_gpu_resume(p->gpu) == VGD_OK);
        /* Resources, backing and scanout are as before. */
        probe_image_paint(p, &img, 3 + i);
        if (!probe_image_show(p, &img, probe_whole(&img)) ||
            !probe_expect_picture(p, 0, &img, probe_whole(&img))) {
            break;
        }
    }
    probe_image_destroy(p, &img);
}

static void pause_in_flight(struct probe *p)
{
    /* Commands on their way when the VMM pauses: each is answered once, before or after. */
    enum { N = 40 };
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 800, 600, 1, 9));
    PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, img.res_id, probe_whole(&img)));
    for (uint32_t round = 0; round < 5; round++) {
        struct vgd_guest_command *cmds[N];
        uint8_t body[VGD_CMD_TRANSFER_TO_HOST_2D_SIZE];
        struct vgd_writer w = vgd_writer_of(body, sizeof(body));
        struct vgd_cmd_transfer_to_host_2d transfer = {.rect = probe_whole(&img),
                                                       .resource_id = img.res_id};
        vgd_cmd_transfer_to_host_2d_encode(&w, &transfer);
        for (uint32_t i = 0; i < N; i++) {
            struct vgd_guest_request req = {
                .hdr = {.type = VGD_CMD_TRANSFER_TO_HOST_2D,
                        .flags = VGD_FLAG_FENCE,
                        .fence_id = round * N + i + 1},
                .body = body,
                .body_bytes = sizeof(body),
                .resp_bytes = VGD_CTRL_HDR_SIZE,
            };
            cmds[i] = vgd_guest_gpu_begin(p->gpu, &req, true);
            PROBE_REQUIRE(p, cmds[i] != NULL);
        }
        PROBE_REQUIRE(p, vgd_guest_gpu_pause(p->gpu) == VGD_OK);
        PROBE_REQUIRE(p, vgd_guest_gpu_resume(p->gpu) == VGD_OK);
        for (uint32_t i = 0; i < N; i++) {
            if (!vgd_guest_gpu_wait(p->gpu, cmds[i], 5000)) {
                probe_fail(p, "command %u of %u in flight at the pause is never answered", i, N);
                return;
            }
            PROBE_CHECK(p, cmds[i]->resp.type == VGD_RESP_OK_NODATA);
            PROBE_CHECK(p, cmds[i]->resp.fence_id == round * N + i + 1);
            vgd_guest_gpu_end(p->gpu, cmds[i]);
        }
    }
    probe_image_destroy(p, &img);
}

static void paused_is_silent(struct probe *p)
{
    /* While the rings are stopped nothing is taken, even when the guest's side of the ring says
     * that there is something. */
    uint8_t off[VGD_CMD_SET_SCANOUT_SIZE] = {0};
    struct vgd_guest_request req = {
        .hdr = {.type = VGD_CMD_SET_SCANOUT},
        .body = off,
        .body_bytes = sizeof(off),
        .resp_bytes = VGD_CTRL_HDR_SIZE,
    };
    PROBE_REQUIRE(p, vgd_guest_gpu_pause(p->gpu) == VGD_OK);
    struct vgd_guest_command *cmd = vgd_guest_gpu_begin(p->gpu, &req, true);
    PROBE_REQUIRE(p, cmd != NULL);
    vgd_guest_gpu_turn(p->gpu, 100);
    struct vgd_guest_queue_raw raw =
        vgd_guest_queue_raw(vgd_guest_gpu_queue(p->gpu, VGD_GUEST_CONTROL));
    PROBE_CHECK(p, !cmd->done);
    PROBE_CHECK(p, __atomic_load_n(&raw.used_words[1], __ATOMIC_ACQUIRE) ==
                       vgd_guest_frontend_base(vgd_guest_gpu_frontend(p->gpu), 0));
    PROBE_REQUIRE(p, vgd_guest_gpu_resume(p->gpu) == VGD_OK);
    if (!vgd_guest_gpu_wait(p->gpu, cmd, 5000)) {
        probe_fail(p, "a command made available during the pause is never answered");
    }
    vgd_guest_gpu_end(p->gpu, cmd);
}

/* ADD_MEM_REG or REM_MEM_REG; true when the backend says that it did so. */
static bool slot(struct probe *p, uint32_t request, const struct vgd_vu_mem_region *region,
                 const int *fds, uint32_t n_fds)
{
    uint8_t payload[64];
    struct vgd_writer w = vgd_writer_of(payload, sizeof(payload));
    vgd_write_le64(&w, 0);
    vgd_vu_mem_region_encode(&w, region);
    struct vgd_vu_message reply;
    if (vgd_guest_frontend_ask(vgd_guest_gpu_frontend(p->gpu), request, true, payload,
                               (uint32_t)vgd_writer_used(&w), fds, n_fds, &reply) != VGD_OK) {
        if (!p->lost_ring_allowed) {
            probe_fail(p, "no reply to %s", vgd_vu_request_name(request));
        }
        return false;
    }
    struct vgd_reader r = vgd_reader_of(reply.payload, reply.hdr.size_bytes);
    struct vgd_vu_u64 failed = {1};
    bool decoded = vgd_vu_u64_decode(&r, &failed) == VGD_OK;
    vgd_vu_message_finish(&reply);
    return decoded && failed.value == 0;
}

/* A region that comes and goes beside RAM, also while a resource lies in it. */
static void memory_slots(struct probe *p)
{
    struct vgd_guest_frontend *fe = vgd_guest_gpu_frontend(p->gpu);
    if ((vgd_guest_frontend_acked_protocol(fe) & 1u << VGD_VU_F_CONFIGURE_MEM_SLOTS) == 0) {
        probe_skip(p, "CONFIGURE_MEM_SLOTS is not negotiated");
        return;
    }
    VGD_AUTO_FD file = vgd_memfd_create("slot", 1u << 20);
    VGD_AUTO_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);
    PROBE_REQUIRE(p, file >= 0 && null >= 0);
    const struct vgd_guest_region *ram = vgd_guest_ram_region(vgd_guest_gpu_ram(p->gpu), 0);
    const struct vgd_vu_mem_region region = {
        .gpa = UINT64_C(1) << 40,
        .size_bytes = 1u << 20,
        .user_addr = (uint64_t)(uintptr_t)ram->map + (UINT64_C(1) << 38),
    };
    int fds_before = 0;
    struct vgd_rect rect = {.w_px = 64, .h_px = 64};
    struct vgd_mem_entry entry = {region.gpa, 64 * 64 * 4};
    uint32_t id = probe_id(p);
    for (uint32_t round = 0; round < 3; round++) {
        PROBE_CHECK(p, slot(p, VGD_VU_ADD_MEM_REG, &region, &file, 1));
        PROBE_OK(p, vgd_guest_create_2d(p->gpu, id, B8G8R8X8, 64, 64));
        PROBE_OK(p, vgd_guest_attach(p->gpu, id, &entry, 1));
        PROBE_OK(p, vgd_guest_transfer_2d(p->gpu, id, rect, 0));
        /* In use; and some front-ends send the file once more. */
        PROBE_CHECK(p, slot(p, VGD_VU_REM_MEM_REG, &region, &null, round % 2));
        probe_err(p, "a transfer from memory that is gone",
                  vgd_guest_transfer_2d(p->gpu, id, rect, 0));
        PROBE_CHECK(p, slot(p, VGD_VU_ADD_MEM_REG, &region, &file, 1));
        PROBE_OK(p, vgd_guest_unref(p->gpu, id));
        PROBE_CHECK(p, slot(p, VGD_VU_REM_MEM_REG, &region, NULL, 0));
        if (p->exec != NULL && round == 0) {
            fds_before = vgd_guest_fd_count(p->process.pid);
        }
    }
    if (p->exec != NULL) {
        PROBE_CHECK(p, vgd_guest_fd_count(p->process.pid) == fds_before);
    }
    probe_goes_on(p);
    /* What is not there cannot go: refused, or the end of the connection. */
    p->lost_ring_allowed = true;
    PROBE_CHECK(p, !slot(p, VGD_VU_REM_MEM_REG, &region, NULL, 0));
}

static void reset_leaves_nothing(struct probe *p)
{
    struct vgd_guest_frontend *fe = vgd_guest_gpu_frontend(p->gpu);
    if ((vgd_guest_frontend_acked_protocol(fe) & 1u << VGD_VU_F_RESET_DEVICE) == 0) {
        probe_note(p, "the backend does not offer RESET_DEVICE");
    }
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 400, 300, 1, 10));
    for (uint32_t round = 0; round < 3; round++) {
        uint32_t id = img.res_id;
        PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, id, probe_whole(&img)));
        (void)probe_image_show(p, &img, probe_whole(&img));
        if (vgd_guest_gpu_has_3d(p->gpu)) {
            PROBE_OK(p, vgd_guest_ctx_create(p->gpu, 1, 0, "before the reset"));
        }
        PROBE_REQUIRE(p, vgd_guest_gpu_reset(p->gpu) == VGD_OK);
        probe_resp(p, "UNREF of a resource from before the reset", vgd_guest_unref(p->gpu, id),
                   VGD_RESP_ERR_INVALID_RESOURCE_ID);
        if (vgd_guest_gpu_has_3d(p->gpu)) {
            probe_err(p, "CTX_DESTROY of a context from before the reset",
                      vgd_guest_ctx_destroy(p->gpu, 1));
        }
        /* A second boot uses the same ids. */
        PROBE_OK(p, vgd_guest_create_2d(p->gpu, id, B8G8R8X8, 400, 300));
        PROBE_OK(p, vgd_guest_attach(p->gpu, id, img.backing.entries, 1));
        PROBE_OK(p, vgd_guest_set_scanout(p->gpu, 0, id, probe_whole(&img)));
        probe_image_paint(p, &img, 11 + round);
        if (!probe_image_show(p, &img, probe_whole(&img)) ||
            !probe_expect_picture(p, 0, &img, probe_whole(&img))) {
            break;
        }
    }
    probe_image_destroy(p, &img);
}

static void reset_in_flight(struct probe *p)
{
    struct probe_image img;
    PROBE_REQUIRE(p, probe_image_create(p, &img, B8G8R8X8, 800, 600, 1, 20));
    uint8_t body[VGD_CMD_TRANSFER_TO_HOST_2D_SIZE];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_transfer_to_host_2d transfer = {.rect = probe_whole(&img),
                                                   .resource_id = img.res_id};
    vgd_cmd_transfer_to_host_2d_encode(&w, &transfer);
    for (uint32_t round = 0; round < 5; round++) {
        for (uint32_t i = 0; i < 40; i++) {
            struct vgd_guest_request req = {
                .hdr = {.type = VGD_CMD_TRANSFER_TO_HOST_2D,
                        .flags = VGD_FLAG_FENCE,
                        .fence_id = i + 1},
                .body = body,
                .body_bytes = sizeof(body),
                .resp_bytes = VGD_CTRL_HDR_SIZE,
            };
            vgd_guest_gpu_end(p->gpu, vgd_guest_gpu_begin(p->gpu, &req, true));
        }
        PROBE_REQUIRE(p, vgd_guest_gpu_reset(p->gpu) == VGD_OK);
        show_a_picture(p, 1);
    }
    probe_image_forget(p, &img);
}

static void idle_connection(struct probe *p)
{
    /* Connect and realize, never start: the backend ends with the connection. */
    VGD_AUTO_FD fd = probe_connect(p);
    PROBE_REQUIRE(p, fd >= 0);
    enum vgd_status st;
    p->gpu = vgd_guest_gpu_open_raw(&fd, &(struct vgd_guest_gpu_config){.n_scanouts = 1}, &st);
    PROBE_REQUIRE(p, p->gpu != NULL);
    PROBE_CHECK(p, vgd_guest_frontend_realize(vgd_guest_gpu_frontend(p->gpu)) == VGD_OK);
}

#define CONFIG(...) .config = {__VA_ARGS__}

static const struct probe_test tests[] = {
    {"control/config-read", config_read, PROBE_ANY},
    {"control/start-qemu-10.0", start, PROBE_EXEC, CONFIG(.frontend.profile = VGD_GUEST_QEMU_10_0)},
    {"control/start-qemu-11.1", start, PROBE_EXEC},
    {"control/start-generic", generic_device, PROBE_EXEC,
     CONFIG(.frontend.profile = VGD_GUEST_QEMU_GENERIC)},
    {"control/start-no-reply-ack", start, PROBE_EXEC,
     CONFIG(.frontend.drop_protocol = 1u << VGD_VU_F_REPLY_ACK)},
    {"control/regions", regions, PROBE_EXEC,
     CONFIG(.ram_bytes = 96u << 20, .n_regions = 3, .region_hole_bytes = 1u << 30)},
    {"control/regions-separate-files", regions, PROBE_EXEC,
     CONFIG(.ram_bytes = 160u << 20, .n_regions = 8, .region_hole_bytes = 1u << 20,
            .separate_files = true)},
    {"control/regions-touching", touching_regions, PROBE_EXEC,
     CONFIG(.ram_bytes = 64u << 20, .n_regions = 2, .separate_files = true)},
    {"control/memory-slots", memory_slots, PROBE_EXEC},
    {"control/fence-echo", fence_echo, PROBE_ANY},
    {"control/pause-resume", pause_resume, PROBE_ANY},
    {"control/pause-in-flight", pause_in_flight, PROBE_ANY},
    {"control/paused-is-silent", paused_is_silent, PROBE_ANY},
    {"control/reset-leaves-nothing", reset_leaves_nothing, PROBE_ANY},
    {"control/reset-in-flight", reset_in_flight, PROBE_ANY},
    {"control/idle-connection", idle_connection, PROBE_RAW},
};

const struct probe_suite probe_control = {tests, sizeof(tests) / sizeof(tests[0])};
