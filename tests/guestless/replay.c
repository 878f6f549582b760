/* SPDX-License-Identifier: MIT */
/*
 * Recordings are played to real processes: usage: guestless-replay VGD-TRACE VGD.
 * Traces that are written here, record by record, so that what has to come out is known to the
 * pixel.
 */
#include <glob.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scene.h"
#include "trace_script.h"
#include "virgl_stream.h"

#define W 96u
#define H 64u
#define F2D (UINT64_C(1) << VGD_F_EDID)
#define F3D (F2D | UINT64_C(1) << VGD_F_VIRGL)
#define FVENUS                                                                                     \
    (F3D | UINT64_C(1) << VGD_F_RESOURCE_BLOB | UINT64_C(1) << VGD_F_CONTEXT_INIT |                \
     UINT64_C(1) << VGD_F_RESOURCE_UUID)

static const char *vgd_trace, *vgd;
static char dir[64], path[96], cut_path[96];
static const char *played = path;
static char output[65536]; /* of the last run */
static uint32_t pixels[W * H], other[W * H];

/* Play with @options; the exit status, with what was said in @output. -1: it was killed. */
static int play(const char *mode, const char *options)
{
    char line[2048];
    (void)snprintf(line, sizeof(line),
                   "timeout 100 %s replay --exec='%s %s --no-control --fd={fd}' --log=%s/log %s %s "
                   "2>&1",
                   vgd_trace, vgd, mode, dir, options, played);
    FILE *f = popen(line, "re");
    if (f == NULL) {
        return -1;
    }
    output[fread(output, 1, sizeof(output) - 1, f)] = '\0';
    int status = pclose(f);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool said(const char *text)
{
    return strstr(output, text) != NULL;
}

/* A test's result; what the program said where it failed. */
static void check(const char *name, bool ok)
{
    if (!tap_ok(ok, name, "vgd-trace said:")) {
        for (char *line = strtok(output, "\n"); line != NULL; line = strtok(NULL, "\n")) {
            tap_note("%s", line);
        }
    }
}

static void paint(uint32_t *out, uint32_t seed)
{
    for (uint32_t i = 0; i < W * H; i++) {
        out[i] = (i * 2654435761u + seed * 7919u) & 0xffffff;
    }
}

static void two_d(bool wrong_answer, uint32_t flip_mask, bool with_pixels)
{
    struct script s;
    script_begin(&s, path, F2D, 0, W, H);
    script_create_2d(&s, 7, W, H);
    script_attach(&s, 7, W * H * 4, 3);
    script_scanout(&s, 7, W, H);
    paint(pixels, 1);
    script_show_2d(&s, 7, pixels, W, H);
    script_picture(&s, 7, pixels, W, H, with_pixels);
    /* The same memory again and again: each has to wait for the one before. */
    for (uint32_t i = 0; i < 20; i++) {
        paint(pixels, 2 + i);
        script_show_2d(&s, 7, pixels, W, H);
    }
    pixels[5] ^= flip_mask;
    script_picture(&s, 7, pixels, W, H, with_pixels);
    s.response = wrong_answer ? VGD_RESP_OK_NODATA : VGD_RESP_ERR_INVALID_RESOURCE_ID;
    script_unref(&s, 1234);
    script_unref(&s, 7);
    script_end(&s);
}

static void test_2d(void)
{
    two_d(false, 0, true);
    check("2D: the recorded pictures", play("", "--compare --psnr=inf") == 0 &&
                                           said("pictures-exact: 2\n") &&
                                           said("answers-differ: 0\n") && said("psnr-min: inf dB"));
    check("2D: on a backend with OpenGL", play("--virgl", "--compare") == 0);
    two_d(false, 0, false);
    check("2D: by their hashes", play("", "--compare") == 0 && said("pictures-exact: 2\n"));
    two_d(false, 1, false);
    check("2D: a hash that differs",
          play("", "--compare --psnr=inf") == 1 && said("pictures-hash-differs: 1\n"));
    two_d(false, 1, true);
    check("2D: one bit in one pixel is 40 dB and more",
          play("", "--compare") == 0 && said("pictures-exact: 1\n"));
    check("2D: but not equal", play("", "--compare --psnr=inf") == 1 && said("of scanout 0: "));
    two_d(true, 0, true);
    check("2D: another answer than recorded",
          play("", "") == 1 &&
              said("RESOURCE_UNREF: ERR_INVALID_RESOURCE_ID here, OK_NODATA when "
                   "recorded") &&
              said("answers-differ: 1\n"));
    two_d(false, 0, true);
    check("2D: three times",
          play("", "--loop=3") == 0 && said("passes: 3\n") && said("commands-per-second: "));
    check("2D: as slowly as it was", play("", "--speed=real") == 0);
    check("pictures and time exclude each other",
          play("", "--loop=2 --compare") == 1 && said("--loop measures time"));
}

/* How many files of pictures there are; those that have @first or @second as their last pixel, red
 * in the high byte. They are taken away. */
static unsigned count_files(uint32_t first, uint32_t second)
{
    unsigned n = 0;
    glob_t found;
    char pattern[160];
    (void)snprintf(pattern, sizeof(pattern), "%s/*-scanout0.png", dir);
    if (glob(pattern, 0, NULL, &found) != 0) {
        return 0;
    }
    for (size_t i = 0; i < found.gl_pathc; i++) {
        static uint8_t rgb[W * H * 3];
        png_image image = {.version = PNG_IMAGE_VERSION};
        if (png_image_begin_read_from_file(&image, found.gl_pathv[i]) != 0) {
            image.format = PNG_FORMAT_RGB;
            bool read = image.width == W && image.height == H &&
                        png_image_finish_read(&image, NULL, rgb, 0, NULL) != 0;
            const uint8_t *last = rgb + sizeof(rgb) - 3;
            uint32_t pixel = (uint32_t)last[0] << 16 | (uint32_t)last[1] << 8 | last[2];
            n += read && pixel == (i == 0 ? first : second);
            png_image_free(&image);
        }
        (void)unlink(found.gl_pathv[i]);
    }
    globfree(&found);
    return n;
}

static void triangle(struct script *s, struct vgd_virgl_stream *stream)
{
    static const float vertices[] = {
        -1, -1, 0, 1, 1, 0, 0, 1, /* red below */
        3,  -1, 0, 1, 1, 0, 0, 1, -1, 3, 0, 1, 1, 0, 0, 1,
    };
    struct vgd_cmd_resource_create_3d target = {
        .resource_id = 3,
        .target = VGD_VIRGL_TARGET_TEXTURE_2D,
        .format = VGD_VIRGL_FORMAT_B8G8R8A8_UNORM,
        .bind = VGD_VIRGL_BIND_RENDER_TARGET | VGD_VIRGL_BIND_SCANOUT,
        .width = W,
        .height = H,
        .depth = 1,
        .array_size = 1,
    };
    struct vgd_cmd_resource_create_3d buffer = {
        .resource_id = 4,
        .target = VGD_VIRGL_TARGET_BUFFER,
        .format = VGD_VIRGL_FORMAT_R8_UNORM,
        .bind = VGD_VIRGL_BIND_VERTEX_BUFFER,
        .width = sizeof(vertices),
        .height = 1,
        .depth = 1,
        .array_size = 1,
    };
    script_ctx_create(s, 1, 0);
    script_create_3d(s, &target);
    script_create_3d(s, &buffer);
    script_attach(s, 3, W * H * 4, 2);
    script_attach(s, 4, sizeof(vertices), 1);
    script_ctx_attach(s, 1, 3);
    script_ctx_attach(s, 1, 4);
    script_scanout(s, 3, W, H);
    vgd_virgl_triangle_setup(stream, 3, VGD_VIRGL_FORMAT_B8G8R8A8_UNORM, W, H, 4, false);
    vgd_virgl_inline_write(stream, 4, vertices, sizeof(vertices));
    script_submit(s, 1, stream->dwords, stream->n_dwords, 1);
    vgd_virgl_stream_clear(stream);
}

static void test_3d(void)
{
    static const float blue[4] = {0, 0, 1, 1};
    struct vgd_virgl_stream stream = {0};
    struct script s;
    script_begin(&s, path, F3D, 0, W, H);
    triangle(&s, &stream);
    vgd_virgl_clear_color(&stream, blue);
    script_submit(&s, 1, stream.dwords, stream.n_dwords, 2);
    script_flush(&s, 3, W, H);
    for (uint32_t i = 0; i < W * H; i++) {
        pixels[i] = 0xff0000ff;
        other[i] = 0xffff0000;
    }
    script_picture(&s, 3, pixels, W, H, true);
    vgd_virgl_stream_clear(&stream);
    vgd_virgl_draw_triangles(&stream, 0, 3);
    for (uint64_t i = 0; i < 300; i++) { /* more than fit into the ring */
        script_submit(&s, 1, stream.dwords, stream.n_dwords, i % 8 == 0 ? 3 + i : 0);
    }
    script_flush(&s, 3, W, H);
    script_picture(&s, 3, other, W, H, true);
    script_end(&s);
    vgd_virgl_stream_finish(&stream);
    check("3D: a clear and triangles", play("--virgl", "--compare --psnr=inf") == 0 &&
                                           said("pictures-exact: 2\n") && said("draws: 301\n") &&
                                           said("answers-differ: 0\n"));
    check("3D: five times", play("--virgl", "--loop=5") == 0 && said("draws-per-second: "));
    check("3D: on a backend without it, that is said",
          play("", "") == 0 && said("the backend has no VIRGL, which the trace's guest had") &&
              said(" commands of features that are not here\n"));
    check("3D: and nothing can be compared then", play("", "--compare") == 1);
    char options[160];
    (void)snprintf(options, sizeof(options), "--png-every=flush --png=%s", dir);
    check("3D: a file for each flush", play("--virgl", options) == 0 &&
                                           said("pictures-written: 2\n") &&
                                           count_files(0x0000ff, 0xff0000) == 2);
    (void)snprintf(options, sizeof(options), "--png=%s", dir);
    check("3D: a file for each picture",
          play("--virgl", options) == 0 && count_files(0x0000ff, 0xff0000) == 2);
    check("3D: files go where there is a folder",
          play("--virgl", "--png=/nowhere/at/all") == 1 && said("no such folder"));
}

/* A picture as the device has it when a recording begins in mid-life. */
static void put_state(struct script *s, uint32_t reason, uint32_t seed)
{
    static uint32_t wide[2 * W * H];
    paint(pixels, seed);
    for (uint32_t y = 0; y < H; y++) { /* rows that do not touch each other */
        memcpy(wide + (size_t)y * 2 * W, pixels + (size_t)y * W, W * 4);
    }
    script_state(s, reason);
    script_create_2d(s, 7, W, H);
    script_attach(s, 7, W * H * 4, 2);
    script_content(s, 7, W, H, wide, 2 * W * 4);
    script_scanout(s, 7, W, H);
    script_state_end(s);
    script_flush(s, 7, W, H);
    script_picture(s, 7, pixels, W, H, true);
}

static void test_states(void)
{
    struct script s;
    script_begin(&s, path, F2D, 0, W, H);
    put_state(&s, VGD_TRACE_STATE_START, 1);
    paint(pixels, 2); /* the guest's memory is attached again */
    script_show_2d(&s, 7, pixels, W, H);
    script_picture(&s, 7, pixels, W, H, true);
    script_put(&s, (struct vgd_trace_record){.kind = VGD_TRACE_KIND_RESET, .as.reset = {1}}, NULL,
               0);
    script_create_2d(&s, 7, W, H); /* would fail if the reset were none */
    script_put(&s,
               (struct vgd_trace_record){.kind = VGD_TRACE_KIND_GAP,
                                         .as.gap = {.lost_records = 10, .lost_bytes = 1000}},
               NULL, 0);
    script_unref(&s, 99); /* made in the gap */
    put_state(&s, VGD_TRACE_STATE_AFTER_GAP, 3);
    s.response = VGD_RESP_ERR_UNSPEC; /* by the worker that comes */
    script_unref(&s, 7);
    script_put(&s,
               (struct vgd_trace_record){.kind = VGD_TRACE_KIND_WORKER_DEATH,
                                         .as.worker_death = {.generation = 1, .signal = 9}},
               NULL, 0);
    put_state(&s, VGD_TRACE_STATE_AFTER_DEATH, 4);
    script_end(&s);
    check("states, a reset, a gap and a worker's death",
          play("", "--compare --psnr=inf") == 0 && said("pictures-exact: 4\n") &&
              said("gaps: 1\n") && said("10 records are missing") && said("contents: 3\n"));
}

static void test_3d_state(void)
{
    struct vgd_cmd_resource_create_3d texture = {
        .resource_id = 9,
        .target = VGD_VIRGL_TARGET_TEXTURE_2D,
        .format = VGD_VIRGL_FORMAT_B8G8R8X8_UNORM,
        .bind = VGD_VIRGL_BIND_RENDER_TARGET | VGD_VIRGL_BIND_SCANOUT,
        .width = W,
        .height = H,
        .depth = 1,
        .array_size = 1,
        .flags = VGD_RESOURCE_FLAG_Y_0_TOP,
    };
    struct script s;
    paint(pixels, 5);
    script_begin(&s, path, F3D, 0, W, H);
    script_state(&s, VGD_TRACE_STATE_START);
    script_create_3d(&s, &texture);
    script_content(&s, 9, W, H, pixels, W * 4);
    script_scanout(&s, 9, W, H);
    script_state_end(&s);
    script_picture(&s, 9, pixels, W, H, true);
    script_end(&s);
    check("the contents of a texture",
          play("--virgl", "--compare") == 0 && said("pictures-exact: 1\n"));
}

/* Cut @path from record @from on with @options, and play what comes of it. */
static int cut_and_play(const char *mode, const char *options, uint64_t from, bool with_backend)
{
    char line[2048], exec[512] = "";
    if (with_backend) {
        (void)snprintf(exec, sizeof(exec), "--exec='%s %s --no-control --fd={fd}' --log=%s/log",
                       vgd, mode, dir);
    }
    (void)snprintf(line, sizeof(line), "timeout 100 %s cut %s --records=%llu- %s %s %s 2>&1",
                   vgd_trace, exec, (unsigned long long)from, options, path, cut_path);
    FILE *f = popen(line, "re");
    if (f == NULL) {
        return -1;
    }
    output[fread(output, 1, sizeof(output) - 1, f)] = '\0';
    int status = pclose(f);
    if (status != 0) {
        (void)unlink(cut_path);
        return WIFEXITED(status) && WEXITSTATUS(status) == 1 ? 1 : -1;
    }
    static char said_by_cut[sizeof(output)];
    memcpy(said_by_cut, output, sizeof(output));
    played = cut_path;
    status = play(mode, "--compare --psnr=inf");
    played = path;
    (void)unlink(cut_path);
    strncat(output, said_by_cut, sizeof(output) - strlen(output) - 1);
    return status;
}

static void test_cut(void)
{
    static const float blue[4] = {0, 0, 1, 1};
    struct script s;
    script_begin(&s, path, F2D, 0, W, H);
    script_create_2d(&s, 7, W, H);
    script_attach(&s, 7, W * H * 4, 3);
    paint(pixels, 1);
    script_show_2d(&s, 7, pixels, W, H);
    script_scanout(&s, 7, W, H);
    uint64_t from = s.n_records;
    script_flush(&s, 7, W, H);
    script_picture(&s, 7, pixels, W, H, true);
    script_end(&s);
    check("cut: 2D needs no backend", cut_and_play("", "", from, false) == 0 &&
                                          said("pictures-exact: 1\n") && said("contents: 1\n"));
    check("cut: the bare range does not play", cut_and_play("", "--bare", from, false) == 1);

    struct vgd_virgl_stream stream = {0};
    script_begin(&s, path, F3D, 0, W, H);
    triangle(&s, &stream);
    vgd_virgl_clear_color(&stream, blue);
    script_submit(&s, 1, stream.dwords, stream.n_dwords, 2);
    from = s.n_records;
    script_flush(&s, 3, W, H);
    for (uint32_t i = 0; i < W * H; i++) {
        pixels[i] = 0xff0000ff; /* what was drawn before the cut */
        other[i] = 0xffff0000;  /* by shaders and from a buffer of before the cut */
    }
    script_picture(&s, 3, pixels, W, H, true);
    vgd_virgl_stream_clear(&stream);
    vgd_virgl_draw_triangles(&stream, 0, 3);
    script_submit(&s, 1, stream.dwords, stream.n_dwords, 3);
    script_flush(&s, 3, W, H);
    script_picture(&s, 3, other, W, H, true);
    script_end(&s);
    vgd_virgl_stream_finish(&stream);
    check("cut: 3D with a backend", cut_and_play("--virgl", "", from, true) == 0 &&
                                        said("pictures-exact: 2\n") && said("contents: 2\n"));
    check("cut: without one it says what is missing",
          cut_and_play("--virgl", "", from, false) == 1 &&
              said("2 resources of OpenGL come without what was in them"));
    check("cut: what cannot be played is not cut",
          cut_and_play("--no-such-option", "", from, true) == 1);

    script_begin(&s, path, F2D, 0, W, H);
    from = s.n_records + 3; /* in the middle of the state */
    put_state(&s, VGD_TRACE_STATE_START, 8);
    script_end(&s);
    check("cut: inside a state it is all there",
          cut_and_play("", "", from, false) == 0 && said("pictures-exact: 1\n"));
}

/* What vgd itself recorded, of a scene that is drawn here. */
static void test_recorded(void)
{
    struct scene scene;
    char options[160];
    (void)unlink(path);
    (void)snprintf(options, sizeof(options), "--virgl --no-control --record=%s --record-pictures=0",
                   path);
    if (!scene_open(&scene, vgd, options, "a recorded scene")) {
        return;
    }
    bool drawn = scene_draw(&scene);
    (void)scene_close(&scene);
    check("a recorded scene, in a fresh process",
          drawn && play("--virgl", "--compare --psnr=inf") == 0 && !said("pictures: 0\n"));
}

/* Over the death of a worker, and a reset of the guest. */
static void test_recorded_life(void)
{
    struct scene scene;
    char options[160];
    struct vgd_rect whole = {.w_px = SCENE_W_PX, .h_px = SCENE_H_PX};
    (void)unlink(path);
    (void)snprintf(options, sizeof(options), "--virgl --no-control --record=%s --record-pictures=0",
                   path);
    if (!scene_open(&scene, vgd, options, "a recorded life")) {
        return;
    }
    bool ok = scene_draw(&scene) && scene_kill_worker(&scene, 5000) != 0;
    sleep_ms(500);
    scene_paint(&scene, 7);
    ok = ok && vgd_guest_transfer_2d(scene.gpu, SCENE_RES, whole, 0) == VGD_RESP_OK_NODATA &&
         vgd_guest_flush(scene.gpu, SCENE_RES, whole) == VGD_RESP_OK_NODATA &&
         scene_is_shown(&scene, 3000) && vgd_guest_gpu_reset(scene.gpu) == VGD_OK;
    ok = ok &&
         vgd_guest_create_2d(scene.gpu, SCENE_RES, VGD_FORMAT_B8G8R8X8_UNORM, SCENE_W_PX,
                             SCENE_H_PX) == VGD_RESP_OK_NODATA &&
         vgd_guest_attach(scene.gpu, SCENE_RES, scene.backing.entries, scene.backing.n_entries) ==
             VGD_RESP_OK_NODATA &&
         vgd_guest_set_scanout(scene.gpu, 0, SCENE_RES, whole) == VGD_RESP_OK_NODATA &&
         vgd_guest_transfer_2d(scene.gpu, SCENE_RES, whole, 0) == VGD_RESP_OK_NODATA &&
         vgd_guest_flush(scene.gpu, SCENE_RES, whole) == VGD_RESP_OK_NODATA &&
         scene_is_shown(&scene, 3000);
    (void)scene_close(&scene);
    check("a recorded life with a worker's death and a reset",
          ok && play("--virgl", "--compare --psnr=inf") == 0 && said("pictures-exact: ") &&
              !said("pictures-exact: 1\n"));
}

static void test_venus(void)
{
    struct script s;
    script_begin(&s, path, FVENUS, UINT64_C(1) << 33, W, H);
    script_ctx_create(&s, 5, VGD_CAPSET_VENUS);
    script_create_blob(&s, 5, 20, VGD_BLOB_MEM_HOST3D, 1, 65536, 0);
    script_ctx_attach(&s, 5, 20);
    uint32_t nothing = 0;
    script_submit(&s, 5, &nothing, 1, 1);
    script_unref(&s, 20);
    script_create_2d(&s, 7, W, H);
    script_attach(&s, 7, W * H * 4, 3);
    script_scanout(&s, 7, W, H);
    paint(pixels, 1);
    script_show_2d(&s, 7, pixels, W, H);
    script_picture(&s, 7, pixels, W, H, true);
    script_end(&s);
    check("what is Vulkan's is left out, and said",
          play("--virgl", "--compare") == 0 && said("left-out: 5 commands of Vulkan (venus)") &&
              said("pictures-exact: 1\n") && said("host-visible region"));
}

static void test_bad(void)
{
    two_d(false, 0, true);
    FILE *f = fopen(path, "r+e");
    bool cut = f != NULL && fseek(f, -40, SEEK_END) == 0 && ftruncate(fileno(f), ftell(f)) == 0;
    if (f != NULL) {
        (void)fclose(f);
    }
    check("a trace that was cut off is played up to there",
          cut && play("", "--compare") == 1 && said("pictures-exact: 2\n") && said("at byte "));
    two_d(false, 0, true);
    char line[1024];
    (void)snprintf(line, sizeof(line), "--socket=%s/nobody", dir);
    check("--exec and --socket exclude each other", play("", line) == 1 && said("exclude"));
    struct script s;
    script_begin(&s, path, F2D, 0, W, H);
    script_create_2d(&s, 7, W, H);
    script_attach(&s, 7, 64 << 20, 3);
    script_end(&s);
    check("more guest memory than is allowed", play("", "--ram=32") == 1 && said("see --ram"));
    check("more than that is fine", play("", "--ram=64") == 0);
}

static uint32_t random_state;

static uint32_t next_random(uint32_t below)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(random_state >> 8) * below >> 24);
}

/* Mostly small, sometimes at an edge, sometimes anything. */
static uint32_t odd_number(void)
{
    static const uint32_t edges[] = {0, 1, UINT32_MAX, UINT32_MAX - 3, 1u << 31, 16384, 65536};
    switch (next_random(8)) {
    case 0:
        return edges[next_random(sizeof(edges) / sizeof(edges[0]))];
    case 1:
        return next_random(UINT32_MAX);
    default:
        return next_random(6);
    }
}

static void odd_command(struct script *s)
{
    static const uint32_t types[] = {
        VGD_CMD_RESOURCE_CREATE_2D,
        VGD_CMD_RESOURCE_UNREF,
        VGD_CMD_SET_SCANOUT,
        VGD_CMD_RESOURCE_FLUSH,
        VGD_CMD_TRANSFER_TO_HOST_2D,
        VGD_CMD_RESOURCE_ATTACH_BACKING,
        VGD_CMD_RESOURCE_DETACH_BACKING,
        VGD_CMD_RESOURCE_CREATE_BLOB,
        VGD_CMD_SET_SCANOUT_BLOB,
        VGD_CMD_CTX_CREATE,
        VGD_CMD_CTX_DESTROY,
        VGD_CMD_CTX_ATTACH_RESOURCE,
        VGD_CMD_CTX_DETACH_RESOURCE,
        VGD_CMD_RESOURCE_CREATE_3D,
        VGD_CMD_TRANSFER_TO_HOST_3D,
        VGD_CMD_TRANSFER_FROM_HOST_3D,
        VGD_CMD_SUBMIT_3D,
        VGD_CMD_RESOURCE_MAP_BLOB,
        VGD_CMD_RESOURCE_UNMAP_BLOB,
        VGD_CMD_UPDATE_CURSOR,
        VGD_CMD_MOVE_CURSOR,
    };
    uint32_t dwords[64];
    uint32_t n_dwords = next_random(sizeof(dwords) / sizeof(dwords[0]));
    for (uint32_t i = 0; i < n_dwords; i++) {
        dwords[i] = odd_number();
    }
    struct vgd_ctrl_hdr hdr = {.type = types[next_random(sizeof(types) / sizeof(types[0]))],
                               .flags = next_random(4),
                               .ctx_id = next_random(4),
                               .ring_idx = (uint8_t)next_random(3)};
    if (hdr.type == VGD_CMD_RESOURCE_CREATE_2D && n_dwords > 4) {
        dwords[1] = VGD_FORMAT_B8G8R8X8_UNORM; /* so that something is made now and then */
        dwords[2] = dwords[3] = 1 + next_random(64);
        n_dwords = 4;
    }
    s->response = next_random(4) == 0 ? VGD_RESP_ERR_UNSPEC : VGD_RESP_OK_NODATA;
    script_command(s, &hdr, dwords, (size_t)n_dwords * 4, NULL, 0);
}

static void odd_record(struct script *s)
{
    static uint8_t data[40000];
    struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_BACKING};
    size_t n_bytes = next_random(3) == 0 ? next_random(sizeof(data)) : next_random(300);
    switch (next_random(9)) {
    case 0:
        record.kind = VGD_TRACE_KIND_CONTENT;
        record.as.content = (struct vgd_trace_content){
            odd_number(), odd_number(), odd_number(), odd_number(), odd_number(),
            odd_number(), odd_number(), odd_number(), odd_number(), odd_number()};
        break;
    case 1:
        record.kind = VGD_TRACE_KIND_PICTURE;
        record.as.picture = (struct vgd_trace_picture){.scanout_id = next_random(20),
                                                       .resource_id = odd_number(),
                                                       .flags = next_random(2),
                                                       .format = 1 + next_random(3),
                                                       .x_px = odd_number(),
                                                       .y_px = odd_number(),
                                                       .w_px = odd_number(),
                                                       .h_px = odd_number(),
                                                       .stride_bytes = odd_number()};
        break;
    case 2:
        record.kind = next_random(2) == 0 ? VGD_TRACE_KIND_STATE_BEGIN : VGD_TRACE_KIND_STATE_END;
        n_bytes = 0;
        break;
    case 3:
        record.kind = VGD_TRACE_KIND_GAP;
        n_bytes = 0;
        break;
    default:
        record.as.backing = (struct vgd_trace_backing){.command_id = s->last_id + next_random(2),
                                                       .offset_bytes = odd_number(),
                                                       .resource_id = next_random(6),
                                                       .reason = 1 + next_random(3)};
        break;
    }
    script_put(s, record, data, n_bytes);
}

static void odd_trace(uint32_t seed)
{
    struct script s;
    random_state = seed;
    script_begin(&s, path, FVENUS, 0, W, H);
    for (uint32_t i = 0; i < 400; i++) {
        if (next_random(3) == 0) {
            odd_record(&s);
        } else {
            odd_command(&s);
        }
    }
    script_end(&s);
}

/* Traces that somebody made up: nothing of them may crash the player, nor take it beyond its
 * memory. */
static void test_hostile(void)
{
    unsigned n_bad = 0;
    for (uint32_t seed = 1; seed <= 40; seed++) {
        odd_trace(seed);
        int status = seed % 4 == 0 ? play("--virgl", "--compare --timeout=5")
                                   : cut_and_play("", "--ram=64", 300, false);
        /* A sanitizer ends a program with 1, too. */
        bool is_bad = (status != 0 && status != 1) || said("Sanitizer") || said("runtime error");
        n_bad += is_bad;
        if (is_bad) {
            tap_note("seed %u: %d: %.3000s", seed, status, output);
        }
    }
    check("40 traces without sense", n_bad == 0);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        (void)fputs("usage: guestless-replay VGD-TRACE VGD\n", stderr);
        return 2;
    }
    vgd_trace = argv[1];
    vgd = argv[2];
    (void)snprintf(dir, sizeof(dir), "/tmp/vgd-replay.XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return 1;
    }
    (void)snprintf(path, sizeof(path), "%s/trace", dir);
    (void)snprintf(cut_path, sizeof(cut_path), "%s/cut", dir);
    test_2d();
    test_3d();
    test_states();
    test_3d_state();
    test_cut();
    test_recorded();
    test_recorded_life();
    test_venus();
    test_bad();
    test_hostile();
    char log[96];
    (void)snprintf(log, sizeof(log), "%s/log", dir);
    (void)unlink(path);
    (void)unlink(log);
    (void)rmdir(dir);
    return tap_done();
}
