/* SPDX-License-Identifier: MIT */
/*
 * Streams of a hostile guest through the real virglrenderer, on whatever OpenGL this host has, in a
 * process that can be thrown away: the input is 4 bytes of our own and then dwords, which a child
 * executes in a context of its own over the device and the renderer as a worker has them.
 *
 * Properties: a stream is answered within a time; the device goes on; a context that is destroyed
 * leaves nothing. A child that dies is a finding, of ours or of the library; a backtrace says
 * which. With VGD_FUZZ_DEATHS=FOLDER inputs that end a child are put there and the search goes on.
 *
 * libFuzzer sees the decoder's branches of the same stream in this process, not the library's.
 * Without OpenGL, and under the thread sanitizer, which knows nothing of what Mesa does, it is
 * skipped.
 */
#include <assert.h>
#include <execinfo.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "display.h"
#include "fd.h"
#include "gpu.h"
#include "log.h"
#include "loop.h"
#include "stream.h"
#include "virgl.h"
#include "virgl_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes);

#define OWN_BYTES 4u
#define INPUT_BYTES_MAX 65536u
#define BATCH_INPUTS 4000u /* a child's life */
#define CONTEXT_INPUTS 64u /* a context's: making one takes longer than most streams */
#define START_MS 60000     /* a cold start of a GL driver */
#define ANSWER_MS 15000    /* of one stream: a loop in a shader takes as long as llvmpipe likes */
#define EXIT_SKIP 77       /* meson's */
#define RAM_BYTES 65536u
#define SIDE 16u
#define CTX 1u

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN true
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN true
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN false
#endif

/* What the child is told, and what it says, one byte each. */
enum told {
    GO_ON = 'o',
    GO_FRESH = 'f', /* in a fresh context */
};

enum said {
    SAID_READY = 'r',
    SAID_NO_GL = 'n',
    SAID_DONE = 'd',
};

static struct {
    pid_t pid;
    int socket;
    uint8_t *input; /* shared: u32 bytes, then the input */
    unsigned inputs_left;
    /* Since the context was made. */
    struct {
        uint8_t *bytes; /* owned */
        size_t n_bytes;
    } history[CONTEXT_INPUTS];
    unsigned context_inputs;
} parent = {.socket = -1};

/* --- in the child: a device --- */

static struct {
    struct vgd_gpu *gpu;
    struct vgd_render *render;
    struct vgd_display display;
    struct vgd_loop *loop;
    unsigned waiting;
    uint32_t last_type;
} c;

static _Alignas(4096) uint8_t ram[RAM_BYTES];

static void no_set(struct vgd_display *d, uint32_t idx, uint32_t res_id,
                   const struct vgd_image *image, struct vgd_rect src)
{
    (void)d;
    (void)idx;
    (void)res_id;
    (void)image;
    (void)src;
}

static void no_disable(struct vgd_display *d, uint32_t idx)
{
    (void)d;
    (void)idx;
}

static void no_cancel(struct vgd_display *d)
{
    (void)d;
}

static const struct vgd_display_ops display_ops = {
    .scanout_set = no_set, .scanout_disable = no_disable, .cancel = no_cancel};

static enum vgd_status translate(void *user, uint64_t addr, uint64_t len_bytes, struct iovec *iov,
                                 uint32_t *n_iov, uint32_t max)
{
    (void)user;
    if (len_bytes == 0 || addr > RAM_BYTES || len_bytes > RAM_BYTES - addr || *n_iov == max) {
        return VGD_RANGE;
    }
    iov[(*n_iov)++] = (struct iovec){ram + addr, len_bytes};
    return VGD_OK;
}

static void completed(void *user, struct vgd_gpu_request *req, const uint8_t *resp, size_t n_bytes)
{
    (void)user;
    (void)req;
    assert(c.waiting > 0 && n_bytes >= VGD_CTRL_HDR_SIZE);
    c.waiting--;
    struct vgd_reader r = vgd_reader_of(resp, n_bytes);
    c.last_type = vgd_read_le32(&r);
}

static void fence_done(void *user, uint32_t ctx_id, uint8_t ring_idx, uint64_t seq)
{
    (void)user;
    vgd_gpu_fence_done(c.gpu, ctx_id, ring_idx, seq);
}

static void context_lost(void *user, uint32_t ctx_id)
{
    (void)user;
    vgd_gpu_context_lost(c.gpu, ctx_id);
}

/* Send a command and wait for its answer; its type. */
static uint32_t execute(struct vgd_writer *w)
{
    assert(w->status == VGD_OK);
    struct vgd_gpu_request req = {.cmd = w->start,
                                  .cmd_bytes = vgd_writer_used(w),
                                  .resp_capacity_bytes = 4096,
                                  .queue = VGD_QUEUE_CONTROL};
    c.waiting = 1;
    vgd_gpu_execute(c.gpu, &req);
    c.render->ops->batch_end(c.render);
    while (c.waiting > 0) {
        vgd_loop_turn(c.loop, ANSWER_MS);
    }
    return c.last_type;
}

static _Alignas(8) uint8_t command_bytes[INPUT_BYTES_MAX + 256];

static struct vgd_writer command(uint32_t type, uint32_t flags)
{
    static uint64_t fence_id;
    struct vgd_writer w = vgd_writer_of(command_bytes, sizeof(command_bytes));
    struct vgd_ctrl_hdr hdr = {.type = type, .ctx_id = CTX, .flags = flags, .fence_id = ++fence_id};
    vgd_ctrl_hdr_encode(&w, &hdr);
    return w;
}

/* A texture or a buffer with memory, as Mesa makes them. */
static void make_resource(uint32_t id, uint32_t target, uint32_t format, uint32_t bind)
{
    struct vgd_cmd_resource_create_3d create = {.resource_id = id,
                                                .target = target,
                                                .format = format,
                                                .bind = bind,
                                                .width = target == 0 ? 4096 : SIDE,
                                                .height = target == 0 ? 1 : SIDE,
                                                .depth = 1,
                                                .array_size = 1};
    struct vgd_writer w = command(VGD_CMD_RESOURCE_CREATE_3D, 0);
    vgd_cmd_resource_create_3d_encode(&w, &create);
    (void)execute(&w); /* what this host's GL does not have is missing */
    struct vgd_cmd_resource_attach_backing attach = {.resource_id = id, .nr_entries = 1};
    struct vgd_mem_entry entry = {.addr = id * 4096, .len_bytes = 4096};
    w = command(VGD_CMD_RESOURCE_ATTACH_BACKING, 0);
    vgd_cmd_resource_attach_backing_encode(&w, &attach);
    vgd_mem_entry_encode(&w, &entry);
    (void)execute(&w);
}

static bool child_start(void)
{
    char why[256] = "";
    c.loop = vgd_loop_create();
    assert(c.loop != NULL);
    const struct vgd_virgl_options options = {
        .want_virgl = true,
        .loop = c.loop,
        .callbacks = {.fence_done = fence_done, .context_lost = context_lost},
    };
    if (vgd_virgl_create(&options, &c.render, why, sizeof(why)) != VGD_OK) {
        return false;
    }
    c.display.ops = &display_ops;
    c.gpu = vgd_gpu_create(&(struct vgd_gpu_config){
        .render = c.render,
        .display = &c.display,
        .memory = {.translate = translate},
        .n_scanouts = 1,
        .complete = completed,
    });
    assert(c.gpu != NULL);
    vgd_gpu_set_features(c.gpu, UINT64_MAX);
    make_resource(1, 2, VGD_FORMAT_B8G8R8A8_UNORM, 1u << 1 | 1u << 3); /* target, sampled */
    make_resource(2, 0, 64, 1u << 4);                                  /* vertices */
    make_resource(3, 2, 19, 1u << 0);                                  /* Z24S8 */
    make_resource(4, 0, 64, 1u << 19);                                 /* staging */
    make_resource(5, 2, VGD_FORMAT_B8G8R8X8_UNORM, 1u << 1 | 1u << 3);
    make_resource(6, 0, 64, 1u << 6 | 1u << 5 | 1u << 14); /* constants, indices, storage */
    return true;
}

/* A fresh context with everything attached. */
static void child_context(void)
{
    static bool has_context;
    uint32_t resp;
    if (has_context) {
        struct vgd_writer end = command(VGD_CMD_CTX_DESTROY, 0);
        resp = execute(&end);
        assert(resp == VGD_RESP_OK_NODATA);
    }
    has_context = true;
    struct vgd_cmd_ctx_create create = {.name_len_bytes = 4, .debug_name = "fuzz"};
    struct vgd_writer w = command(VGD_CMD_CTX_CREATE, 0);
    vgd_cmd_ctx_create_encode(&w, &create);
    resp = execute(&w);
    assert(resp == VGD_RESP_OK_NODATA);
    (void)resp;
    for (uint32_t id = 1; id <= 6; id++) {
        w = command(VGD_CMD_CTX_ATTACH_RESOURCE, 0);
        struct vgd_cmd_ctx_resource attach = {.resource_id = id};
        vgd_cmd_ctx_resource_encode(&w, &attach);
        (void)execute(&w);
    }
}

/* The stream, and a fence behind it. */
static void child_run(const uint8_t *stream, uint32_t n_bytes)
{
    struct vgd_writer w = command(VGD_CMD_SUBMIT_3D, VGD_FLAG_FENCE);
    struct vgd_cmd_submit_3d submit = {.size_bytes = n_bytes};
    vgd_cmd_submit_3d_encode(&w, &submit);
    vgd_write_bytes(&w, stream, n_bytes);
    (void)execute(&w); /* refused or not: it was answered */
}

static void child_dies(int signal_number)
{
    void *frames[64];
    backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
    (void)signal(signal_number, SIG_DFL);
    (void)raise(signal_number);
}

static void child_main(int socket)
{
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* Contexts come and go: their memory stays, instead of being asked of the kernel each time. */
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 30);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    void *frame;
    (void)backtrace(&frame, 1); /* loads what it needs */
    for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++) {
        (void)signal(fatal[i], child_dies);
    }
    uint8_t said = child_start() ? SAID_READY : SAID_NO_GL;
    while (write(socket, &said, 1) == 1 && said != SAID_NO_GL) {
        uint8_t go;
        if (read(socket, &go, 1) != 1) {
            break;
        }
        uint32_t n_bytes;
        memcpy(&n_bytes, parent.input, sizeof(n_bytes));
        if (go == GO_FRESH) {
            child_context();
        }
        child_run(parent.input + sizeof(n_bytes), n_bytes);
        said = SAID_DONE;
    }
    _exit(0);
}

/* --- in libFuzzer's process --- */

static void child_end(void)
{
    vgd_fd_closep(&parent.socket);
    if (parent.pid > 0) {
        (void)kill(parent.pid, SIGKILL);
        (void)waitpid(parent.pid, NULL, 0);
    }
    parent.pid = 0;
}

/* One byte from the child; 0: it died or hangs. */
static uint8_t listen_for(int ms)
{
    struct pollfd p = {.fd = parent.socket, .events = POLLIN};
    uint8_t said = 0;
    if (poll(&p, 1, ms) != 1 || read(parent.socket, &said, 1) != 1) {
        return 0;
    }
    return said;
}

static void skip(const char *why)
{
    printf("1..0 # SKIP %s\n", why);
    exit(EXIT_SKIP);
}

/* Make sure that there is a child. */
static void need_child(void)
{
    if (parent.pid > 0 && parent.inputs_left > 0) {
        parent.inputs_left--;
        return;
    }
    child_end();
    parent.context_inputs = 0;
    if (parent.input == NULL) {
        parent.input = mmap(NULL, INPUT_BYTES_MAX + 4, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        assert(parent.input != MAP_FAILED);
        (void)atexit(child_end);
    }
    int pair[2];
    int rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
    assert(rc == 0);
    (void)rc;
    parent.pid = fork();
    assert(parent.pid >= 0);
    if (parent.pid == 0) {
        (void)close(pair[0]);
        child_main(pair[1]);
    }
    (void)close(pair[1]);
    parent.socket = pair[0];
    parent.inputs_left = BATCH_INPUTS;
    uint8_t said = listen_for(START_MS);
    if (said == SAID_NO_GL) {
        skip("no OpenGL on this host");
    }
    assert(said == SAID_READY);
}

/* The last input has ended the child. */
static void death(void)
{
    const char *folder = getenv("VGD_FUZZ_DEATHS");
    child_end();
    if (folder == NULL) {
        (void)fprintf(stderr, "the process with the renderer died, or hung\n");
        abort();
    }
    static unsigned count;
    char path[4096];
    int n = snprintf(path, sizeof(path), "%s/death-%d-%u", folder, (int)getpid(), count++);
    assert(n > 0 && (size_t)n < sizeof(path) - 16);
    (void)mkdir(path, 0700);
    for (unsigned i = 0; i < parent.context_inputs; i++) {
        (void)snprintf(path + n, sizeof(path) - (size_t)n, "/%03u", i);
        FILE *f = fopen(path, "wbe");
        if (f != NULL) {
            (void)fwrite(parent.history[i].bytes, 1, parent.history[i].n_bytes, f);
            (void)fclose(f);
        }
    }
    parent.context_inputs = 0;
}

/* True: the input begins a new context. */
static bool remember(const uint8_t *data, size_t len_bytes)
{
    if (parent.context_inputs == CONTEXT_INPUTS) {
        parent.context_inputs = 0;
    }
    unsigned i = parent.context_inputs++;
    free(parent.history[i].bytes);
    parent.history[i].bytes = malloc(len_bytes);
    assert(parent.history[i].bytes != NULL);
    memcpy(parent.history[i].bytes, data, len_bytes);
    parent.history[i].n_bytes = len_bytes;
    return i == 0;
}

/* For libFuzzer: which kinds of commands and faults a stream has. */
static void look_at(const uint32_t *dwords, uint32_t n_dwords)
{
    struct vgd_stream s = vgd_stream_of(&vgd_virgl_stream, dwords, n_dwords);
    struct vgd_command cmd;
    struct vgd_command_fault fault;
    while (vgd_stream_next(&s, &cmd) && vgd_command_check(&cmd, &fault) == VGD_OK) {
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len_bytes)
{
    vgd_log_setup("fuzz", VGD_LOG_ERROR);
    if (UNDER_TSAN) {
        skip("the thread sanitizer");
    }
    if (len_bytes < OWN_BYTES || len_bytes > INPUT_BYTES_MAX) {
        return 0;
    }
    need_child();
    uint32_t n_bytes = (uint32_t)(len_bytes - OWN_BYTES) / 4 * 4;
    memcpy(parent.input, &n_bytes, sizeof(n_bytes));
    memcpy(parent.input + sizeof(n_bytes), data + OWN_BYTES, n_bytes);
    bool fresh = remember(data, len_bytes);
    static uint32_t dwords[INPUT_BYTES_MAX / 4];
    memcpy(dwords, data + OWN_BYTES, n_bytes);
    look_at(dwords, n_bytes / 4);
    uint8_t go = fresh ? GO_FRESH : GO_ON;
    if (write(parent.socket, &go, 1) != 1 || listen_for(ANSWER_MS) != SAID_DONE) {
        death();
    }
    return 0;
}
