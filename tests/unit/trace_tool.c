/* SPDX-License-Identifier: MIT */
/* vgd-trace as a person meets it: the program (VGD_TRACE names it) on files made here. */
#include "trace_rig.h"

#include <json-c/json.h>

#define PICTURE_BYTES 100000u

static size_t count_lines(const char *text)
{
    size_t n = 0;
    for (; *text != '\0'; text++) {
        n += *text == '\n';
    }
    return n;
}

static void put_response(struct vgd_trace_out *out, uint64_t time_ns, uint64_t id,
                         const struct vgd_ctrl_hdr *of, uint32_t type)
{
    uint8_t bytes[VGD_CTRL_HDR_SIZE];
    struct vgd_ctrl_hdr hdr = *of;
    hdr.type = type;
    struct vgd_writer w = vgd_writer_of(bytes, sizeof(bytes));
    vgd_ctrl_hdr_encode(&w, &hdr);
    struct vgd_trace_record record = {
        .kind = VGD_TRACE_KIND_RESPONSE, .time_ns = time_ns, .as.response = {.command_id = id}};
    put(out, &record, bytes, sizeof(bytes));
}

static void put_fact(struct vgd_trace_out *out, uint32_t fact, const char *text)
{
    struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_FACT, .as.fact = {.fact = fact}};
    put(out, &record, text, strlen(text));
}

/* Some 30 frames of a guest that moves a picture, draws in context 5 and flushes. Frame @i begins
 * at i * 10 ms. Per frame: BACKING, TRANSFER (resource 7) and its response, SUBMIT_3D with a fence
 * and its response, FENCE, FLUSH and its response, PICTURE: 9 records. 4 come before. */
#define N_FRAMES 30u
#define RECORDS_BEFORE 4u
#define RECORDS_PER_FRAME 9u

static void put_frame(struct vgd_trace_out *out, uint64_t i)
{
    static uint8_t picture[PICTURE_BYTES];
    uint64_t at = i * 10 * MS, id = i * 3 + 1;
    noise(picture, sizeof(picture), i % 2); /* double buffering: two pictures in all */
    struct vgd_trace_record record = {
        .kind = VGD_TRACE_KIND_BACKING,
        .time_ns = at,
        .as.backing = {.command_id = id, .resource_id = 7, .reason = VGD_TRACE_BACKING_READ}};
    put(out, &record, picture, sizeof(picture));

    uint8_t body[64];
    struct vgd_writer w = vgd_writer_of(body, sizeof(body));
    struct vgd_ctrl_hdr hdr = {.type = VGD_CMD_TRANSFER_TO_HOST_3D, .ctx_id = 5};
    struct vgd_cmd_transfer_host_3d transfer = {
        .resource_id = 7, .box = {.w = 64, .h = 32, .d = 1}, .stride_bytes = 256};
    vgd_cmd_transfer_host_3d_encode(&w, &transfer);
    put_command(out, at, id, &hdr, body, vgd_writer_used(&w));
    put_response(out, at + 50000, id, &hdr, VGD_RESP_OK_NODATA);

    hdr = (struct vgd_ctrl_hdr){.type = VGD_CMD_SUBMIT_3D,
                                .ctx_id = 5,
                                .flags = VGD_FLAG_FENCE | VGD_FLAG_INFO_RING_IDX,
                                .ring_idx = 2,
                                .fence_id = 100 + i};
    static uint8_t stream[8 + 6000];
    w = vgd_writer_of(stream, sizeof(stream));
    struct vgd_cmd_submit_3d submit = {.size_bytes = 6000};
    vgd_cmd_submit_3d_encode(&w, &submit);
    noise(stream + 8, 6000, 77);
    put_command(out, at + MS, id + 1, &hdr, stream, sizeof(stream));
    put_response(out, at + 4 * MS, id + 1, &hdr,
                 i == 20 ? VGD_RESP_ERR_UNSPEC : VGD_RESP_OK_NODATA);
    record = (struct vgd_trace_record){
        .kind = VGD_TRACE_KIND_FENCE,
        .time_ns = at + 4 * MS,
        .as.fence = {
            .fence_id = 100 + i, .ctx_id = 5, .ring_idx = 2, .flags = VGD_TRACE_FENCE_RING}};
    put(out, &record, NULL, 0);

    hdr = (struct vgd_ctrl_hdr){.type = VGD_CMD_RESOURCE_FLUSH};
    w = vgd_writer_of(body, sizeof(body));
    struct vgd_cmd_resource_flush flush = {.resource_id = 7, .rect = {.w_px = 64, .h_px = 32}};
    vgd_cmd_resource_flush_encode(&w, &flush);
    put_command(out, at + 5 * MS, id + 2, &hdr, body, vgd_writer_used(&w));
    put_response(out, at + 5 * MS, id + 2, &hdr, VGD_RESP_OK_NODATA);
    record = (struct vgd_trace_record){
        .kind = VGD_TRACE_KIND_PICTURE,
        .time_ns = at + 6 * MS,
        .as.picture = {.command_id = id + 2, .resource_id = 7, .w_px = 64, .h_px = 32}};
    put(out, &record, NULL, 0);
}

static void make_trace(struct rig *rig, bool close_it)
{
    VGD_AUTO_FD fd = open(rig->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    cr_assert(fd >= 0);
    struct vgd_trace_out *out = out_begin(fd, 4000);
    put_fact(out, VGD_TRACE_FACT_GPU, "llvmpipe \033[31m(LLVM)");
    put_fact(out, VGD_TRACE_FACT_VIRGLRENDERER_VERSION, "1.3.0");
    struct vgd_trace_record device = {.kind = VGD_TRACE_KIND_DEVICE,
                                      .as.device = {.features = 3, .n_scanouts = 1}};
    put(out, &device, NULL, 0);
    struct vgd_trace_record scanout = {.kind = VGD_TRACE_KIND_SCANOUT,
                                       .as.scanout = {.enabled = 1, .w_px = 640, .h_px = 480}};
    put(out, &scanout, NULL, 0);
    for (uint64_t i = 0; i < N_FRAMES; i++) {
        put_frame(out, i);
    }
    if (close_it) {
        out_end(out);
    } else {
        cr_assert_eq(vgd_trace_out_flush(out), VGD_OK);
        vgd_trace_out_destroy(out);
    }
}

Test(trace_tool, info)
{
    struct rig *rig = rig_begin();
    make_trace(rig, true);
    tool(rig, "info $T");
    cr_assert_eq(rig->status, 0, "%s", rig->err);
    const char *const lines[] = {"start: 2023-11-14 22:13:20 UTC\n",
                                 "GPU: llvmpipe ?[31m(LLVM)\n",
                                 "VIRGLRENDERER_VERSION: 1.3.0\n",
                                 "device: features=0x3 scanouts=1 capsets=0 window=0\n",
                                 "scanout: 0 640x480\n",
                                 "records: 274\n",
                                 "seconds: 0.296000\n",
                                 "gaps: 0\n",
                                 "closed: yes\n"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        cr_assert_not_null(strstr(rig->out, lines[i]), "no %s in:\n%s", lines[i], rig->out);
    }
    cr_assert_str_eq(rig->err, "", "no progress where nobody looks");
    rig_end(rig);
}

Test(trace_tool, print_all)
{
    struct rig *rig = rig_begin();
    make_trace(rig, true);
    tool(rig, "print --no-streams $T");
    cr_assert_eq(rig->status, 0, "%s", rig->err);
    cr_assert_eq(count_lines(rig->out), RECORDS_BEFORE + N_FRAMES * RECORDS_PER_FRAME);
    const char *const lines[] = {
        "0 0.000000000 FACT fact=GPU llvmpipe ?[31m(LLVM)\n",
        "4 0.000000000 BACKING command_id=1 offset_bytes=0 resource_id=7 reason=READ "
        "bytes=100000\n",
        "5 0.000000000 COMMAND 1 TRANSFER_TO_HOST_3D ctx=5 box.x=0 box.y=0 box.z=0 box.w=64 "
        "box.h=32 box.d=1 offset_bytes=0 resource_id=7 level=0 stride_bytes=256 "
        "layer_stride_bytes=0\n",
        "6 0.000050000 RESPONSE 1 OK_NODATA ctx=5\n",
        "7 0.001000000 COMMAND 2 SUBMIT_3D ctx=5 ring=2 fence=100 size_bytes=6000\n",
        "9 0.004000000 FENCE fence_id=100 ctx_id=5 ring_idx=2 flags=1\n",
        "10 0.005000000 COMMAND 3 RESOURCE_FLUSH rect.x_px=0 rect.y_px=0 rect.w_px=64 "
        "rect.h_px=32 resource_id=7\n",
        " RESPONSE 62 ERR_UNSPEC ctx=5 ring=2 fence=120\n"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        cr_assert_not_null(strstr(rig->out, lines[i]), "no %s in:\n%.4000s", lines[i], rig->out);
    }
    rig_end(rig);
}

static void shows(struct rig *rig, const char *args, size_t n_lines, const char *in_each)
{
    tool(rig, args);
    cr_assert_eq(rig->status, 0, "%s: %s", args, rig->err);
    cr_assert_eq(count_lines(rig->out), n_lines, "%s: %zu lines, not %zu", args,
                 count_lines(rig->out), n_lines);
    for (char *line = strtok(rig->out, "\n"); line != NULL && in_each != NULL;
         line = strtok(NULL, "\n")) {
        cr_assert_not_null(strstr(line, in_each), "%s: %s", args, line);
    }
}

Test(trace_tool, print_filters)
{
    struct rig *rig = rig_begin();
    make_trace(rig, true);
    shows(rig, "print --no-streams --context 5 $T", (size_t)N_FRAMES * 5, "5"); /* with FENCE */
    shows(rig, "print --context 6 $T", 0, NULL);
    shows(rig, "print -k SUBMIT_3D --no-streams $T", (size_t)N_FRAMES * 2, "fence=");
    shows(rig, "print -k 0x0104 $T", (size_t)N_FRAMES * 2, NULL);
    shows(rig, "print --resource 7 $T", (size_t)N_FRAMES * 6, NULL);
    shows(rig, "print --resource 7 --no-streams --context 5 $T", (size_t)N_FRAMES * 2, NULL);
    shows(rig, "print --records 10-19 --no-streams $T", 10, NULL);
    shows(rig, "print --records 270- $T", 4, NULL);
    shows(rig, "print --no-streams --from 0.100 --to 0.1095 $T", RECORDS_PER_FRAME, " 0.10");
    shows(rig, "print --from 0.100000001 --to 0.1 $T", 0, NULL);
    shows(rig, "print --from 5 $T", 0, NULL);
    rig_end(rig);
}

Test(trace_tool, stats)
{
    struct rig *rig = rig_begin();
    make_trace(rig, true);
    tool(rig, "stats $T");
    cr_assert_eq(rig->status, 0, "%s", rig->err);
    unsigned long long n, n_bytes, errors;
    double mean, max;
    const char *line = strstr(rig->out, "SUBMIT_3D");
    cr_assert_not_null(line, "%s", rig->out);
    cr_assert_eq(
        sscanf(line, "SUBMIT_3D %llu %llu %llu %lf %lf", &n, &n_bytes, &errors, &mean, &max), 5);
    cr_assert(n == N_FRAMES && n_bytes == N_FRAMES * 6032 && errors == 1);
    cr_assert(mean > 2999 && mean < 3001 && max > 2999 && max < 3001, "%f %f", mean, max);
    cr_assert_not_null(strstr(rig->out, "\nframes: 30\n"));
    line = strstr(rig->out, "commands a frame");
    cr_assert(sscanf(line, "commands a frame mean %lf max %lf", &mean, &max) == 2 && mean > 2.9 &&
              max < 3.1);
    line = strstr(rig->out, "moved bytes a frame");
    cr_assert(sscanf(line, "moved bytes a frame mean %lf max %lf", &mean, &max) == 2 &&
              mean > 99999 && max < 100001);
    rig_end(rig);
}

/* A part reads by itself: what lay in frames before it came along, and what is known of the host.
 */
Test(trace_tool, cut)
{
    struct rig *rig = rig_begin();
    make_trace(rig, true);
    const char *const ranges[] = {"--from 0.1 --to 0.1999", "--records 94-183"};
    for (size_t i = 0; i < 2; i++) {
        char args[128];
        (void)snprintf(args, sizeof(args), "cut --bare %s $T $O", ranges[i]);
        tool(rig, args);
        cr_assert_eq(rig->status, 0, "%s", rig->err);
        VGD_AUTO_FD fd = open(rig->out_path, O_RDONLY | O_CLOEXEC);
        struct vgd_trace_reader *reader = reader_open(fd);
        struct vgd_trace_info info = vgd_trace_reader_info(reader);
        cr_assert_eq(info.n_records, RECORDS_BEFORE + 10 * RECORDS_PER_FRAME);
        cr_assert(info.has_index && info.header.start_realtime_ns == START_REALTIME_NS);
        struct vgd_trace_item item;
        static uint8_t want[PICTURE_BYTES];
        for (uint64_t n = 0; n < info.n_records; n++) {
            cr_assert_eq(vgd_trace_reader_next(reader, &item), VGD_OK);
            if (n < RECORDS_BEFORE) {
                cr_assert(item.record.kind == VGD_TRACE_KIND_FACT ||
                          item.record.kind == VGD_TRACE_KIND_DEVICE ||
                          item.record.kind == VGD_TRACE_KIND_SCANOUT);
            } else if (item.record.kind == VGD_TRACE_KIND_BACKING) {
                uint64_t frame = 10 + (n - RECORDS_BEFORE) / RECORDS_PER_FRAME;
                cr_assert_eq(item.record.time_ns, frame * 10 * MS, "times stay");
                uint8_t *got = item_data(reader, &item);
                noise(want, sizeof(want), frame % 2);
                cr_assert_arr_eq(got, want, sizeof(want));
                free(got);
            }
        }
        vgd_trace_reader_close(reader);
    }
    rig_end(rig);
}

Test(trace_tool, cut_anonymous)
{
    struct rig *rig = rig_begin();
    VGD_AUTO_FD fd = open(rig->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct vgd_trace_out *out = out_begin(fd, 4000);
    put_fact(out, VGD_TRACE_FACT_GPU, "a GPU");
    put_fact(out, VGD_TRACE_FACT_KERNEL, "a kernel");
    put_fact(out, VGD_TRACE_FACT_GUEST, "a guest");
    put_frame(out, 0);
    out_end(out);
    tool(rig, "cut --anonymous $T $O");
    cr_assert_eq(rig->status, 0, "%s", rig->err);
    tool(rig, "info $O");
    cr_assert(strstr(rig->out, "a GPU") != NULL && strstr(rig->out, "a kernel") == NULL &&
              strstr(rig->out, "a guest") == NULL);
    cr_assert_not_null(strstr(rig->out, "records: 10\n"), "%s", rig->out);
    rig_end(rig);
}

static void fails(struct rig *rig, const char *args, const char *why)
{
    tool(rig, args);
    cr_assert_eq(rig->status, 1, "%s: %d", args, rig->status);
    cr_assert_not_null(strstr(rig->err, why), "%s: no '%s' in: %s", args, why, rig->err);
}

Test(trace_tool, cut_does_not_destroy)
{
    struct rig *rig = rig_begin();
    make_trace(rig, true);
    fails(rig, "cut $T $T", "is the file to be cut");
    tool(rig, "info $T");
    cr_assert_eq(rig->status, 0);
    fails(rig, "cut $T /dev/full", "No space left");
    fails(rig, "cut $T /nowhere/x", "No such file");
    rig_end(rig);
}

Test(trace_tool, export)
{
    struct rig *rig = rig_begin();
    make_trace(rig, true);
    for (int to_file = 0; to_file < 2; to_file++) {
        tool(rig, to_file != 0 ? "export $T $O" : "export $T");
        cr_assert_eq(rig->status, 0, "%s", rig->err);
        if (to_file != 0) {
            cr_assert_str_eq(rig->out, "");
            read_back(rig->out_path, rig->out, sizeof(rig->out));
        }
        struct json_tokener *tokener = json_tokener_new();
        struct json_object *whole = json_tokener_parse_ex(tokener, rig->out, (int)strlen(rig->out));
        cr_assert_eq(json_tokener_get_error(tokener), json_tokener_success);
        json_tokener_free(tokener);
        struct json_object *events = json_object_object_get(whole, "traceEvents");
        size_t n_begin = 0, n_end = 0, n_slices = 0, n_instants = 0;
        for (size_t i = 0; i < json_object_array_length(events); i++) {
            struct json_object *event = json_object_array_get_idx(events, i);
            const char *phase = json_object_get_string(json_object_object_get(event, "ph"));
            n_begin += phase[0] == 'b';
            n_end += phase[0] == 'e';
            n_slices += phase[0] == 'X';
            n_instants += phase[0] == 'i';
            if (phase[0] == 'b' && n_begin == 1) {
                cr_assert_str_eq(json_object_get_string(json_object_object_get(event, "name")),
                                 "SUBMIT_3D");
                cr_assert_float_eq(json_object_get_double(json_object_object_get(event, "ts")),
                                   1000, 0.01);
            }
        }
        cr_assert(n_begin == N_FRAMES && n_end == N_FRAMES);
        cr_assert(n_slices == N_FRAMES * 2 && n_instants == N_FRAMES * 2);
        (void)json_object_put(whole);
    }
    fails(rig, "export $T /dev/full", "cannot be written");
    rig_end(rig);
}

/* Everything before the fault is shown, then the fault, with its place. */
Test(trace_tool, cut_off_file)
{
    struct rig *rig = rig_begin();
    make_trace(rig, false);
    fails(rig, "print --no-streams $T", "there is no index");
    cr_assert_eq(count_lines(rig->out), RECORDS_BEFORE + N_FRAMES * RECORDS_PER_FRAME);
    struct stat info;
    cr_assert_eq(stat(rig->path, &info), 0);
    cr_assert_eq(truncate(rig->path, info.st_size - 1500), 0);
    fails(rig, "print --no-streams $T", "cut off in the middle of a frame");
    cr_assert_not_null(strstr(rig->err, ": at byte "));
    size_t n = count_lines(rig->out);
    cr_assert(n > 4 && n < 270, "%zu", n);
    fails(rig, "info $T", "cut off");
    cr_assert_not_null(strstr(rig->out, "closed: no\n"));
    fails(rig, "cut $T $O", "cut off"); /* and what there is is in the new file */
    tool(rig, "print --no-streams $O");
    cr_assert(rig->status == 0 && count_lines(rig->out) == n);
    rig_end(rig);
}

Test(trace_tool, words_that_are_wrong)
{
    struct rig *rig = rig_begin();
    make_trace(rig, true);
    fails(rig, "", "what is to be done?");
    fails(rig, "frobnicate $T", "what is to be done?");
    fails(rig, "info", "takes one file");
    fails(rig, "cut $T", "takes a file and one to write");
    fails(rig, "info --from 1 $T", "no such option");
    fails(rig, "cut --context 1 $T $O", "no such option");
    fails(rig, "print --from x $T", "no value");
    fails(rig, "print --from 1.2x $T", "no value");
    fails(rig, "print --records 5-4 $T", "no value");
    fails(rig, "print --context -1 $T", "no value");
    fails(rig, "print --context 4294967296 $T", "no value");
    fails(rig, "print --command NOTHING $T", "no value");
    fails(rig, "info /nowhere/x", "No such file");
    fails(rig, "info /dev/null", "not a regular file");
    fails(rig, "info /proc/self/exe", "not a trace file");
    tool(rig, "--help");
    cr_assert(rig->status == 0 && strstr(rig->out, "Usage: vgd-trace info FILE") == rig->out);
    tool(rig, "--version");
    cr_assert(rig->status == 0 && strstr(rig->out, "vgd-trace ") == rig->out);
    rig_end(rig);
}

/* Long work says how far it is, to a terminal and to nobody else. */
Test(trace_tool, progress)
{
    struct rig *rig = rig_begin();
    VGD_AUTO_FD fd = open(rig->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct vgd_trace_out *out = out_begin(fd, 0);
    for (uint64_t i = 0; i < 800000; i++) {
        struct vgd_trace_record record = {.kind = VGD_TRACE_KIND_FENCE, .time_ns = i};
        put(out, &record, NULL, 0);
    }
    out_end(out);
    VGD_AUTO_FD terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    cr_assert(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    char line[256];
    (void)snprintf(line, sizeof(line), "exec %s print %s >/dev/null 2>%s", getenv("VGD_TRACE"),
                   rig->path, ptsname(terminal));
    VGD_AUTO_FD keep = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
    cr_assert(keep >= 0 && system(line) == 0);
    static char shown[65536];
    ssize_t n = read(terminal, shown, sizeof(shown) - 1);
    cr_assert(n > 0 && strstr(shown, " % of ") != NULL, "%s", shown);
    tool(rig, "stats $T");
    cr_assert_str_eq(rig->err, "");
    rig_end(rig);
}

/* A file of the first version, as it was written then: it stays readable. */
Test(trace_tool, first_version_stays_readable)
{
    struct rig *rig = rig_begin();
    tool(rig, "print --no-streams \"$TRACE_V1\"");
    cr_assert_eq(rig->status, 0, "%s", rig->err);
    cr_assert_eq(count_lines(rig->out), 23);
    cr_assert_not_null(
        strstr(rig->out, "COMMAND 2 SUBMIT_3D ctx=5 ring=2 fence=100 size_bytes=6000\n"));
    tool(rig, "cut \"$TRACE_V1\" $O"); /* so every piece of data was there */
    cr_assert_eq(rig->status, 0, "%s", rig->err);
    rig_end(rig);
}
