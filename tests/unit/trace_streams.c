/* SPDX-License-Identifier: MIT */
/* What vgd-trace tells of the streams in SUBMIT_3D. */
#include "trace_rig.h"
#include "trace_script.h"
#include "venus_wire.h"
#include "virgl_stream.h"

#define N_FRAMES 10u

/* Context 1 draws two triangles and a clear in each frame, to resource 3 from buffer 4; context 5
 * is a Vulkan one. */
static void make_trace(struct rig *rig)
{
    static const float red[4] = {1, 0, 0, 1};
    struct vgd_virgl_stream stream = {0};
    struct script s;
    script_begin(&s, rig->path, 1, 0, 64, 64);
    script_ctx_create(&s, 1, VGD_CAPSET_VIRGL2);
    script_ctx_create(&s, 5, VGD_CAPSET_VENUS);
    vgd_virgl_triangle_setup(&stream, 3, VGD_VIRGL_FORMAT_B8G8R8A8_UNORM, 64, 64, 4, false);
    script_submit(&s, 1, stream.dwords, stream.n_dwords, 0);
    for (uint32_t i = 0; i < N_FRAMES; i++) {
        vgd_virgl_stream_clear(&stream);
        vgd_virgl_clear_color(&stream, red);
        vgd_virgl_draw_triangles(&stream, 0, 3);
        vgd_virgl_draw_triangles(&stream, 3, 3);
        script_submit(&s, 1, stream.dwords, stream.n_dwords, 1 + i);
        const uint32_t notify[] = {VGD_VENUS_CMD_NOTIFY_RING, 0, 7, 0, 1, 0};
        script_submit(&s, 5, notify, 6, 0);
        script_flush(&s, 3, 64, 64);
    }
    script_submit(&s, 1, stream.dwords, stream.n_dwords - 1, 0); /* cut off */
    script_end(&s);
    vgd_virgl_stream_finish(&stream);
}

static size_t count_of(const char *text, const char *word)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at += strlen(word)) {
        n++;
    }
    return n;
}

Test(trace_streams, print)
{
    struct rig *rig = rig_begin();
    make_trace(rig);
    tool(rig, "print $T");
    cr_assert_eq(rig->status, 0, "%s", rig->err);
    cr_assert_eq(count_of(rig->out, "\n    DRAW_VBO "), N_FRAMES * 2 + 1, "%s", rig->out);
    cr_assert_eq(count_of(rig->out, "\n    CREATE_SHADER "), 2);
    cr_assert_eq(count_of(rig->out, "\n    NOTIFY_RING "), N_FRAMES, "venus by its context");
    cr_assert_eq(count_of(rig->out, "\n    (ends inside a command)"), 1);
    tool(rig, "print --no-streams $T");
    cr_assert_eq(count_of(rig->out, "\n    "), 0);
    rig_end(rig);
}

Test(trace_streams, filters)
{
    struct rig *rig = rig_begin();
    make_trace(rig);
    tool(rig, "print -k draw_vbo $T");
    cr_assert_eq(rig->status, 0, "%s", rig->err);
    cr_assert_eq(count_of(rig->out, " SUBMIT_3D "), N_FRAMES + 1);
    cr_assert_eq(count_of(rig->out, " RESPONSE "), N_FRAMES + 1);
    cr_assert_eq(count_of(rig->out, "\n    "), N_FRAMES * 2 + 2,
                 "only these commands, and the cut");
    tool(rig, "print --resource 4 $T");
    cr_assert_eq(count_of(rig->out, " SUBMIT_3D "), 1, "named in a stream: %s", rig->out);
    cr_assert_eq(count_of(rig->out, "\n    SET_VERTEX_BUFFERS "), 1);
    tool(rig, "print --resource 3 --context 1 $T");
    cr_assert_eq(count_of(rig->out, "\n    CREATE_SURFACE "), 1);
    /* Contexts that were made before the range are known all the same. */
    tool(rig, "print --records 30- $T");
    cr_assert_geq(count_of(rig->out, "\n    NOTIFY_RING "), 5, "%s", rig->out);
    tool(rig, "print --no-streams -k DRAW_VBO $T");
    cr_assert(rig->status == 1 && strstr(rig->err, "is in streams") != NULL);
    tool(rig, "print -k NO_SUCH_COMMAND $T");
    cr_assert(rig->status == 1 && strstr(rig->err, "is no value for option --command") != NULL);
    rig_end(rig);
}

static double value_behind(const char *text, const char *words)
{
    const char *at = strstr(text, words);
    cr_assert_not_null(at, "no %s in %s", words, text);
    return strtod(at + strlen(words), NULL);
}

Test(trace_streams, stats)
{
    struct rig *rig = rig_begin();
    make_trace(rig);
    tool(rig, "stats $T");
    cr_assert_eq(rig->status, 0, "%s", rig->err);
    cr_assert_eq(value_behind(rig->out, "\nDRAW_VBO "), N_FRAMES * 2 + 1);
    cr_assert_eq(value_behind(rig->out, "\nCLEAR "), N_FRAMES + 1);
    cr_assert_eq(value_behind(rig->out, "\n(venus) "), N_FRAMES);
    cr_assert_eq(value_behind(rig->out, "\ndraws: "), N_FRAMES * 3 + 2);
    cr_assert_eq(value_behind(rig->out, "\ndraws a frame            mean "), 3);
    cr_assert_eq(value_behind(rig->out, "\nstreams that end inside a command: "), 1);
    tool(rig, "stats --no-streams $T");
    cr_assert_null(strstr(rig->out, "DRAW_VBO"));
    rig_end(rig);
}

Test(trace_streams, export)
{
    struct rig *rig = rig_begin();
    make_trace(rig);
    tool(rig, "export $T");
    cr_assert_eq(rig->status, 0, "%s", rig->err);
    cr_assert_eq(count_of(rig->out, "\"commands\":3,\"draws\":3"), N_FRAMES * 2, "begin and end");
    cr_assert_eq(count_of(rig->out, "\"name\":\"frame\",\"ph\":\"C\""), N_FRAMES);
    cr_assert_eq(count_of(rig->out, "{\"draws\":3,\"commands\":"), N_FRAMES);
    rig_end(rig);
}
