/* SPDX-License-Identifier: MIT */
/* vgdctl as a person meets it: the program (VGDCTL names it) against a control socket of ours. */
#include "display_fixture.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "control.h"
#include "fd.h"

#define W 33u
#define H 17u

enum lie { NO_LIE, LIE_SHRINKS, LIE_SMALL };

struct rig {
    struct vgd_loop *loop;
    char dir[32], path[64];
    struct vgd_control *c;
    bool off;             /* the scanout */
    const char *state;    /* of the recording; NULL: there is none */
    const char *no_trace; /* why none is begun; NULL: it is */
    bool writes;          /* into its file at once */
    uint32_t picture_ms;
    enum vgd_log_level level;
    bool no_contexts, endless;
    /* Of the last run. */
    int exit_code;
    char out[65536], err[4096];
};

static void fill_trace(void *user, struct json_object *out)
{
    const struct rig *rig = user;
    (void)json_object_object_add(out, "state", json_object_new_string(rig->state));
    (void)json_object_object_add(out, "why", json_object_new_string(""));
    (void)json_object_object_add(out, "records", json_object_new_int(12));
}

static void fill_status(void *user, struct json_object *out)
{
    struct rig *rig = user;
    struct json_object *worker = json_object_new_object();
    (void)json_object_object_add(worker, "renderer", json_object_new_string("fake"));
    struct json_object *list = json_object_new_array();
    (void)json_object_array_add(list, json_object_new_int(7));
    (void)json_object_object_add(out, "version", json_object_new_string("0.1.0"));
    (void)json_object_object_add(out, "worker", worker);
    (void)json_object_object_add(out, "scanouts", list);
    (void)json_object_object_add(out, "nothing", NULL);
    if (rig->state != NULL) {
        struct json_object *trace = json_object_new_object();
        fill_trace(rig, trace);
        (void)json_object_object_add(out, "trace", trace);
    }
}

static enum vgd_status make_shot(void *user, uint32_t scanout_idx, uint64_t token)
{
    struct rig *rig = user;
    if (scanout_idx != 2 || rig->off) {
        return VGD_NO_SCANOUT;
    }
    int fd = vgd_memfd_create("shot", W * H * 4);
    uint8_t *pixels = mmap(NULL, W * H * 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    cr_assert_neq(pixels, MAP_FAILED);
    for (uint32_t i = 0; i < W * H; i++) {
        pixels[i * 4] = (uint8_t)(i % W);          /* blue */
        pixels[i * 4 + 1] = (uint8_t)(i / W + 50); /* green */
        pixels[i * 4 + 2] = 200;                   /* red */
        pixels[i * 4 + 3] = 99;                    /* nothing */
    }
    (void)munmap(pixels, W * H * 4);
    vgd_control_screenshot_reply(rig->c, token, VGD_OK, W, H, &fd);
    return VGD_OK;
}

static enum vgd_status start_trace(void *user, int *fd, uint32_t picture_ms, const char **why)
{
    struct rig *rig = user;
    VGD_AUTO_FD file = vgd_fd_take(fd);
    rig->picture_ms = picture_ms;
    if (rig->writes) {
        cr_assert_eq(write(file, "a trace", 7), 7);
    }
    if (rig->no_trace != NULL) {
        *why = rig->no_trace;
        return VGD_LIMIT;
    }
    return VGD_OK;
}

static enum vgd_status stop_trace(void *user)
{
    struct rig *rig = user;
    return rig->state != NULL ? VGD_OK : VGD_UNSUPPORTED;
}

static void set_level(void *user, enum vgd_log_level level)
{
    struct rig *rig = user;
    rig->level = level;
}

static struct json_object *give_counters(void *user)
{
    (void)user;
    return json_tokener_parse("{\"uptime_ns\":5,\"commands\":{\"SUBMIT_3D\":7},\"responses\":{},"
                              "\"submit_time\":{\"le_ns\":[1024,2048],\"counts\":[1,98,1],"
                              "\"sum_ns\":150000,\"count\":100}}");
}

static struct json_object *give_contexts(void *user, uint32_t from_id, int64_t *out_next_id)
{
    const struct rig *rig = user;
    *out_next_id = from_id == 0 ? 9 : rig->endless ? 4 : -1;
    return json_tokener_parse(
        from_id == 0 ? rig->no_contexts ? "[]"
                                        : "[{\"id\":4,\"capset\":2,\"name\":\"one\",\"lost\":true,"
                                          "\"submits\":11,\"busy_ns\":2500000}]"
                     : "[{\"id\":9,\"capset\":4,\"name\":\"t\\u001b[2Jwo\",\"lost\":false}]");
}

static struct json_object *give_errors(void *user)
{
    const struct rig *rig = user;
    return json_tokener_parse(
        rig->no_contexts
            ? "[]"
            : "[{\"age_ms\":1500,\"command\":\"SUBMIT_3D\",\"response\":\"ERR_UNSPEC\",\"ctx\":4,"
              "\"count\":3,\"text\":\"ctx=4 is \\u009blost\"}]");
}

static struct vgd_control *listen_on(struct rig *rig, const char *path)
{
    struct vgd_control_config config = {
        .loop = rig->loop,
        .path = path,
        .ops = {.status = fill_status,
                .screenshot = make_shot,
                .trace_start = start_trace,
                .trace_stop = stop_trace,
                .trace = fill_trace,
                .log_level = set_level,
                .counters = give_counters,
                .contexts = give_contexts,
                .errors = give_errors},
        .user = rig,
    };
    struct vgd_control *c = NULL;
    cr_assert_eq(vgd_control_create(&config, &c), VGD_OK);
    return c;
}

static struct rig *rig_begin(void)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    cr_assert_not_null(rig);
    (void)strcpy(rig->dir, "/tmp/vgd-vgdctl-XXXXXX");
    cr_assert_not_null(mkdtemp(rig->dir));
    (void)snprintf(rig->path, sizeof(rig->path), "%s/c.sock", rig->dir);
    rig->loop = vgd_loop_create();
    rig->c = listen_on(rig, rig->path);
    cr_assert_eq(setenv("XDG_RUNTIME_DIR", rig->dir, 1), 0);
    return rig;
}

static void rig_end(struct rig *rig)
{
    vgd_control_destroy(rig->c);
    vgd_loop_destroy(rig->loop);
    cr_assert_eq(rmdir(rig->dir), 0);
    free(rig);
}

static void slurp(int fd, char *out, size_t out_bytes)
{
    size_t n = 0;
    ssize_t got;
    while (n < out_bytes - 1 && (got = read(fd, out + n, out_bytes - 1 - n)) > 0) {
        n += (size_t)got;
    }
    out[n] = '\0';
}

/* Run vgdctl with up to eight words while the loop serves it. */
static int run(struct rig *rig, const char *const words[8])
{
    const char *program = getenv("VGDCTL");
    cr_assert_not_null(program, "VGDCTL has to name the program");
    int out[2], err[2];
    cr_assert(pipe2(out, O_CLOEXEC) == 0 && pipe2(err, O_CLOEXEC) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(out[1], STDOUT_FILENO);
        (void)dup2(err[1], STDERR_FILENO);
        char *args[10] = {(char *)(uintptr_t)program};
        for (unsigned i = 0; i < 8; i++) {
            args[i + 1] = (char *)(uintptr_t)words[i];
        }
        (void)execv(program, args);
        _exit(127);
    }
    vgd_fd_closep(&out[1]);
    vgd_fd_closep(&err[1]);
    int status = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        vgd_loop_turn(rig->loop, 5);
    }
    slurp(out[0], rig->out, sizeof(rig->out));
    slurp(err[0], rig->err, sizeof(rig->err));
    vgd_fd_closep(&out[0]);
    vgd_fd_closep(&err[0]);
    cr_assert(WIFEXITED(status), "died: %d", status);
    rig->exit_code = WEXITSTATUS(status);
    return rig->exit_code;
}

#define RUN(rig, ...) run(rig, (const char *const[8]){__VA_ARGS__})

/* Failed with one line that tells @text, and nothing on standard output. */
static void assert_failed(const struct rig *rig, const char *text)
{
    cr_assert_eq(rig->exit_code, 1, "exit %d: %s", rig->exit_code, rig->err);
    cr_assert_not_null(strstr(rig->err, text), "%s", rig->err);
    cr_assert_eq(strchr(rig->err, '\n'), rig->err + strlen(rig->err) - 1, "%s", rig->err);
    cr_assert_str_eq(rig->out, "");
}

TIDY_TEST(vgdctl, help_and_version)
{
    struct rig *rig = rig_begin();
    cr_assert_eq(RUN(rig, "--help"), 0);
    cr_assert(strstr(rig->out, "screenshot SCANOUT FILE.png") && rig->err[0] == '\0');
    cr_assert_eq(RUN(rig, "--version"), 0);
    cr_assert_eq(strncmp(rig->out, "vgdctl ", 7), 0);
    rig_end(rig);
}

TIDY_TEST(vgdctl, bad_command_lines)
{
    struct rig *rig = rig_begin();
    (void)RUN(rig, NULL);
    assert_failed(rig, "--help");
    (void)RUN(rig, "reboot");
    assert_failed(rig, "--help");
    (void)RUN(rig, "status", "now");
    assert_failed(rig, "--help");
    (void)RUN(rig, "screenshot", "0");
    assert_failed(rig, "--help");
    (void)RUN(rig, "screenshot", "0", "x.png", "--pictures", "5");
    assert_failed(rig, "--help");
    (void)RUN(rig, "trace");
    assert_failed(rig, "trace start FILE");
    (void)RUN(rig, "trace", "start");
    assert_failed(rig, "trace start FILE");
    (void)RUN(rig, "trace", "stop", "now");
    assert_failed(rig, "trace start FILE");
    (void)RUN(rig, "trace", "stop", "--pictures", "5");
    assert_failed(rig, "trace start FILE");
    (void)RUN(rig, "log-level");
    assert_failed(rig, "LEVEL");
    (void)RUN(rig, "--frobnicate");
    assert_failed(rig, "frobnicate");
    (void)RUN(rig, "--control");
    assert_failed(rig, "control");
    static const char *const scanouts[] = {"", "x", "-1", "16", "1x", "99999999999999999999", " 1"};
    for (unsigned i = 0; i < sizeof(scanouts) / sizeof(scanouts[0]); i++) {
        (void)RUN(rig, "--control", rig->path, "screenshot", scanouts[i], "/tmp/never.png");
        /* "-1" is taken for an option */
        cr_assert(rig->exit_code == 1 && rig->out[0] == '\0', "'%s': %s", scanouts[i], rig->err);
    }
    rig_end(rig);
}

TIDY_TEST(vgdctl, status_for_people_and_programs)
{
    struct rig *rig = rig_begin();
    cr_assert_eq(RUN(rig, "--control", rig->path, "status"), 0, "%s", rig->err);
    cr_assert_str_eq(rig->out, "version: 0.1.0\nworker:\n  renderer: fake\n"
                               "scanouts:\n  0: 7\nnothing: none\n");
    cr_assert_eq(RUN(rig, "-c", rig->path, "status", "--json"), 0);
    struct json_object *status = json_tokener_parse(rig->out), *value = NULL;
    cr_assert(json_object_object_get_ex(status, "version", &value));
    cr_assert_str_eq(json_object_get_string(value), "0.1.0");
    (void)json_object_put(status);
    rig_end(rig);
}

TIDY_TEST(vgdctl, what_is_counted_and_listed)
{
    struct rig *rig = rig_begin();
    cr_assert_eq(RUN(rig, "-c", rig->path, "counters"), 0, "%s", rig->err);
    cr_assert_str_eq(rig->out, "commands:\n"
                               "  SUBMIT_3D                 7\n"
                               "responses: none\n"
                               "submit_time:\n"
                               "  count                     100\n"
                               "  mean                      1.5 us\n"
                               "  median                    <= 2.05 us\n"
                               "  99 of 100                 <= 2.05 us\n"
                               "all:\n"
                               "  uptime_ns                 5\n");
    cr_assert_eq(RUN(rig, "-c", rig->path, "contexts"), 0, "%s", rig->err);
    cr_assert_str_eq(
        rig->out,
        "        ID KIND     IS      SUBMITS   COMMANDS      DRAWS RESOURCES   OBJECTS      BUSY  "
        "NAME\n"
        "         4 virgl2   lost         11          0          0         0         0    2.5 ms  "
        "one\n"
        "         9 venus    live          0          0          0         0         0      0 ns"
        "  t?[2Jwo\n");
    cr_assert_eq(RUN(rig, "-c", rig->path, "errors"), 0, "%s", rig->err);
    cr_assert_str_eq(
        rig->out,
        "       AGE     COUNT  COMMAND                  ANSWER                        CONTEXT  "
        "LAST\n"
        "     1.5 s         3  SUBMIT_3D                ERR_UNSPEC                          4  "
        "ctx=4 is ?lost\n");
    cr_assert_eq(RUN(rig, "-c", rig->path, "contexts", "--json"), 0, "%s", rig->err);
    struct json_object *list = json_tokener_parse(rig->out);
    cr_assert_eq(json_object_array_length(list), 2, "both parts: %s", rig->out);
    (void)json_object_put(list);
    rig->endless = true;
    (void)RUN(rig, "-c", rig->path, "contexts");
    assert_failed(rig, "no end");
    rig->no_contexts = true;
    rig->endless = false;
    cr_assert_eq(RUN(rig, "-c", rig->path, "errors"), 0);
    cr_assert_str_eq(rig->out, "no errors\n");
    rig_end(rig);
}

TIDY_TEST(vgdctl, screenshot)
{
    struct rig *rig = rig_begin();
    char file[64];
    (void)snprintf(file, sizeof(file), "%s/shot.png", rig->dir);
    cr_assert_eq(RUN(rig, "--control", rig->path, "screenshot", "2", file), 0, "%s", rig->err);

    png_image image = {.version = PNG_IMAGE_VERSION};
    cr_assert(png_image_begin_read_from_file(&image, file));
    cr_assert(image.width == W && image.height == H && image.format == PNG_FORMAT_RGB);
    uint8_t *pixels = malloc(PNG_IMAGE_SIZE(image));
    cr_assert(png_image_finish_read(&image, NULL, pixels, 0, NULL));
    for (uint32_t i = 0; i < W * H; i++) {
        cr_assert(pixels[i * 3] == 200 && pixels[i * 3 + 1] == i / W + 50 &&
                  pixels[i * 3 + 2] == i % W);
    }
    free(pixels);
    cr_assert_eq(unlink(file), 0);

    rig->off = true;
    (void)RUN(rig, "--control", rig->path, "screenshot", "2", file);
    assert_failed(rig, "vgd says: ");
    cr_assert_neq(access(file, F_OK), 0, "no file for no picture");
    rig->off = false;
    (void)RUN(rig, "--control", rig->path, "screenshot", "2", "/nowhere/at/all.png");
    assert_failed(rig, "/nowhere/at/all.png: No such file");
    (void)RUN(rig, "--control", rig->path, "screenshot", "2", "/dev/full");
    assert_failed(rig, "/dev/full: cannot write");
    rig_end(rig);
}

TIDY_TEST(vgdctl, trace)
{
    struct rig *rig = rig_begin();
    char file[64];
    struct stat info;
    (void)snprintf(file, sizeof(file), "%s/guest.vgdtrace", rig->dir);
    cr_assert_eq(RUN(rig, "-c", rig->path, "trace", "status"), 0, "%s", rig->err);
    cr_assert_str_eq(rig->out, "state: none\n");
    cr_assert_eq(RUN(rig, "-c", rig->path, "trace", "status", "--json"), 0);
    cr_assert_str_eq(rig->out, "null\n");
    (void)RUN(rig, "-c", rig->path, "trace", "stop");
    assert_failed(rig, "nothing is recorded");

    rig->state = "running";
    rig->writes = true;
    cr_assert_eq(RUN(rig, "-c", rig->path, "trace", "start", file), 0, "%s", rig->err);
    cr_assert_str_eq(rig->out, "recording\n");
    cr_assert_eq(rig->picture_ms, 1000);
    cr_assert(stat(file, &info) == 0 && info.st_size == 7, "it came to that file");
    cr_assert_eq(info.st_mode & 0777, 0600);
    (void)RUN(rig, "-c", rig->path, "trace", "start", file);
    assert_failed(rig, "guest.vgdtrace: it is not empty");
    cr_assert(stat(file, &info) == 0 && info.st_size == 7, "untouched");
    cr_assert_eq(RUN(rig, "-c", rig->path, "trace", "status"), 0);
    cr_assert_str_eq(rig->out, "state: running\nrecords: 12\n");
    rig->state = "ended";
    cr_assert_eq(RUN(rig, "-c", rig->path, "trace", "stop"), 0);
    cr_assert_str_eq(rig->out, "state: ended\nrecords: 12\n");
    rig->state = "failed";
    cr_assert_eq(RUN(rig, "-c", rig->path, "trace", "stop", "-j"), 1, "for a script to see");
    cr_assert_not_null(strstr(rig->err, "can be read"));
    cr_assert_eq(unlink(file), 0);
    rig_end(rig);
}

TIDY_TEST(vgdctl, traces_that_do_not_begin_leave_nothing)
{
    struct rig *rig = rig_begin();
    char file[64];
    struct stat info;
    (void)snprintf(file, sizeof(file), "%s/guest.vgdtrace", rig->dir);
    rig->state = "waiting";
    rig->no_trace = "a recording is running";
    (void)RUN(rig, "-c", rig->path, "trace", "start", file);
    assert_failed(rig, "a recording is running");
    cr_assert_neq(access(file, F_OK), 0);
    vgd_fd_closep(&(int){open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0644)});
    (void)RUN(rig, "-c", rig->path, "trace", "start", file);
    cr_assert(stat(file, &info) == 0 && (info.st_mode & 0777) == 0644, "a file of theirs stays");
    rig->no_trace = NULL;
    cr_assert_eq(RUN(rig, "-c", rig->path, "trace", "start", file, "--pictures", "0"), 0);
    cr_assert_str_eq(rig->out, "recording begins with the next worker\n");
    cr_assert_eq(rig->picture_ms, 0);
    cr_assert_eq(RUN(rig, "-c", rig->path, "trace", "start", file, "-p", "none"), 0);
    cr_assert_eq(rig->picture_ms, VGD_CONTROL_NO_PICTURES);
    cr_assert_eq(RUN(rig, "-c", rig->path, "trace", "start", file, "-p", "3600000"), 0);
    cr_assert_eq(rig->picture_ms, 3600000);
    static const char *const pictures[] = {"", "-1", "x", "1x", "3600001", "None", " 1"};
    for (unsigned i = 0; i < sizeof(pictures) / sizeof(pictures[0]); i++) {
        (void)RUN(rig, "-c", rig->path, "trace", "start", file, "-p", pictures[i]);
        assert_failed(rig, "--pictures");
    }
    (void)RUN(rig, "-c", rig->path, "trace", "start", rig->dir);
    assert_failed(rig, rig->dir);
    (void)RUN(rig, "-c", rig->path, "trace", "start", "/nowhere/at/all");
    assert_failed(rig, "/nowhere/at/all: No such file");
    (void)RUN(rig, "-c", rig->path, "trace", "start", "/dev/full");
    assert_failed(rig, "/dev/full: ");
    cr_assert_eq(RUN(rig, "-c", rig->path, "trace", "start", "/dev/null"), 0);
    cr_assert_eq(unlink(file), 0);
    rig_end(rig);
}

TIDY_TEST(vgdctl, log_level)
{
    struct rig *rig = rig_begin();
    cr_assert_eq(RUN(rig, "-c", rig->path, "log-level", "debug"), 0, "%s", rig->err);
    cr_assert_eq(rig->level, VGD_LOG_DEBUG);
    cr_assert_str_eq(rig->out, "log_level: debug\n");
    (void)RUN(rig, "-c", rig->path, "log-level", "loud\",\"x\":\"");
    assert_failed(rig, "LEVEL is error");
    cr_assert_eq(rig->level, VGD_LOG_DEBUG);
    rig_end(rig);
}

TIDY_TEST(vgdctl, finds_the_only_vgd)
{
    struct rig *rig = rig_begin();
    char dir[64], first[80], second[80], stale[80];
    (void)snprintf(dir, sizeof(dir), "%s/vgd", rig->dir);
    (void)snprintf(first, sizeof(first), "%s/1.sock", dir);
    (void)snprintf(second, sizeof(second), "%s/2.sock", dir);
    (void)snprintf(stale, sizeof(stale), "%s/3.sock", dir);
    (void)RUN(rig, "status");
    assert_failed(rig, dir);
    cr_assert_eq(mkdir(dir, 0700), 0);

    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)strcpy(at.sun_path, stale);
    int dead = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert_eq(bind(dead, (const struct sockaddr *)&at, sizeof(at)), 0);
    vgd_fd_closep(&dead);
    (void)RUN(rig, "status");
    assert_failed(rig, "no vgd has a live control socket");

    struct vgd_control *one = listen_on(rig, first);
    cr_assert_eq(RUN(rig, "status"), 0, "%s", rig->err);
    struct vgd_control *two = listen_on(rig, second);
    (void)RUN(rig, "status");
    cr_assert_eq(rig->exit_code, 1);
    cr_assert(strstr(rig->err, first) && strstr(rig->err, second) && !strstr(rig->err, stale));
    cr_assert_eq(RUN(rig, "--control", second, "status"), 0);
    (void)RUN(rig, "--control", stale, "status");
    assert_failed(rig, "3.sock: Connection refused");
    (void)RUN(rig, "--control", dir, "status");
    cr_assert_eq(rig->exit_code, 1);
    vgd_control_destroy(one);
    vgd_control_destroy(two);
    cr_assert_eq(unlink(stale), 0);
    cr_assert_eq(rmdir(dir), 0);
    rig_end(rig);
}

/* --- A vgd that was taken over. --- */

/* Serve one client of @listener: read its line, send @reply with the picture of @lie. */
static void serve_lie(int listener, const char *reply, size_t n_bytes, enum lie lie, bool has_fd)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    char line[256];
    (void)!read(fd, line, sizeof(line));
    int shot = -1;
    if (has_fd && lie == LIE_SMALL) {
        shot = vgd_memfd_create("shot", 100);
    } else if (has_fd) {
        shot = memfd_create("shot", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        (void)!ftruncate(shot, 1 << 20);
    }
    struct iovec iov = {.iov_base = (void *)(uintptr_t)reply, .iov_len = n_bytes};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (shot >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(head), &shot, sizeof(int));
    }
    while (iov.iov_len > 0) {
        ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL);
        if (n <= 0) {
            break;
        }
        msg.msg_control = NULL;
        msg.msg_controllen = 0;
        iov.iov_base = (char *)iov.iov_base + n;
        iov.iov_len -= (size_t)n;
    }
    _exit(0);
}

TIDY_TEST(vgdctl, believes_nothing)
{
    static char huge[200000];
    memset(huge, ' ', sizeof(huge));
    static const struct {
        const char *reply; /* NULL: huge, without a newline */
        enum lie lie;
        bool has_fd;
    } cases[] = {
        {"", NO_LIE, false},
        {"\n", NO_LIE, false},
        {"nonsense\n", NO_LIE, false},
        {"[]\n", NO_LIE, false},
        {"{}\n", NO_LIE, false},
        {"{\"v\":2,\"screenshot\":{\"w\":8,\"h\":8}}\n", LIE_SHRINKS, true},
        {"{\"v\":1}\n", NO_LIE, false},
        {"{\"v\":1,\"screenshot\":1}\n", NO_LIE, false},
        {"{\"v\":1,\"screenshot\":{}}\n", NO_LIE, false},
        {"{\"v\":1,\"screenshot\":{\"w\":8,\"h\":8}}\n", NO_LIE, false},
        {"{\"v\":1,\"screenshot\":{\"w\":8,\"h\":8}}\n", LIE_SHRINKS, true},
        {"{\"v\":1,\"screenshot\":{\"w\":8,\"h\":8}}\n", LIE_SMALL, true},
        {"{\"v\":1,\"screenshot\":{\"w\":-8,\"h\":-8}}\n", LIE_SMALL, true},
        {"{\"v\":1,\"screenshot\":{\"w\":4294967297,\"h\":1}}\n", LIE_SMALL, true},
        {"{\"v\":1,\"screenshot\":{\"w\":\"8\",\"h\":1}}\n", LIE_SMALL, true},
        {"{\"v\":1,\"error\":{}}\n", NO_LIE, false},
        {"{\"v\":1,\"error\":null}\n", NO_LIE, false},
        {"{\"v\":1,\"screenshot\":null}\n", NO_LIE, false},
        {"{\"v\":1,\"error\":\"\\u001b[2J\\u009b2J\\n\\n\"}\n", NO_LIE, false},
        {NULL, NO_LIE, false},
    };
    struct rig *rig = rig_begin();
    char path[80], file[80];
    (void)snprintf(path, sizeof(path), "%s/lies.sock", rig->dir);
    (void)snprintf(file, sizeof(file), "%s/shot.png", rig->dir);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)strcpy(at.sun_path, path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(listener, (const struct sockaddr *)&at, sizeof(at)), 0);
    cr_assert_eq(listen(listener, 1), 0);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pid_t pid = fork();
        if (pid == 0) {
            const char *reply = cases[i].reply != NULL ? cases[i].reply : huge;
            serve_lie(listener, reply, cases[i].reply != NULL ? strlen(reply) : sizeof(huge),
                      cases[i].lie, cases[i].has_fd);
        }
        (void)RUN(rig, "--control", path, "screenshot", "2", file);
        assert_failed(rig, "vgdctl: ");
        cr_assert(strchr(rig->err, 27) == NULL && strstr(rig->err, "\xc2\x9b") == NULL);
        cr_assert_neq(access(file, F_OK), 0, "case %u", i);
        (void)waitpid(pid, NULL, 0);
    }
    vgd_fd_closep(&listener);
    cr_assert_eq(unlink(path), 0);
    rig_end(rig);
}
