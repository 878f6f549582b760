/* SPDX-License-Identifier: MIT */
/*
 * vtest-bridge with a vgd of its own: clients of the newest and of the oldest protocol, hostile
 * ones beside them, a backend that is killed, too few file descriptors, the end; and Mesa's drivers
 * as they are, where Mesa is new enough.
 *
 *   vtest VTEST_BRIDGE VGD [--gl-bench=PROGRAM] [--vk-bench=PROGRAM]
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"
#include "scene.h"
#include "vtest.h"

#define START_MS 30000 /* a first context compiles shaders */
#define REPLY_S 20
#define END_MS 8000
#define PROGRAM_MS 150000
#define BUFFER_BYTES (1u << 20)
#define USUAL_FILES 1024u /* the soft limit that most programs start with */
#define VENUS_DRIVER "/usr/share/vulkan/icd.d/virtio_icd.json"

struct options {
    const char *bridge, *vgd, *gl_bench, *vk_bench;
};

struct bridge {
    pid_t pid;
    int status; /* of the end */
    char folder[64], socket[96];
};

static bool bridge_start(struct bridge *b, const struct options *o)
{
    *b = (struct bridge){0};
    (void)snprintf(b->folder, sizeof(b->folder), "/tmp/vgd-vtest-XXXXXX");
    if (mkdtemp(b->folder) == NULL) {
        return false;
    }
    (void)snprintf(b->socket, sizeof(b->socket), "%s/sock", b->folder);
    char by_path[128];
    char by_command[1024];
    (void)snprintf(by_path, sizeof(by_path), "--socket-path=%s", b->socket);
    (void)snprintf(by_command, sizeof(by_command),
                   "--exec='%s' --virgl --venus --hostmem=1G --fd={fd}", o->vgd);
    pid_t parent = getpid();
    b->pid = fork();
    if (b->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct rlimit files;
        (void)getrlimit(RLIMIT_NOFILE, &files);
        files.rlim_cur = files.rlim_max < USUAL_FILES ? files.rlim_max : USUAL_FILES;
        if (getppid() == parent && setrlimit(RLIMIT_NOFILE, &files) == 0) {
            (void)execl(o->bridge, o->bridge, by_path, by_command, (char *)NULL);
        }
        _exit(127);
    }
    return b->pid > 0;
}

static bool bridge_has_ended(struct bridge *b, int timeout_ms)
{
    for (int ms = 0; b->pid > 0 && ms <= timeout_ms; ms += 5) {
        if (waitpid(b->pid, &b->status, WNOHANG) == b->pid) {
            b->pid = 0;
            break;
        }
        sleep_ms(5);
    }
    return b->pid == 0;
}

static void bridge_drop(struct bridge *b)
{
    if (b->pid > 0) {
        (void)kill(b->pid, SIGTERM);
        if (!bridge_has_ended(b, END_MS)) {
            (void)kill(b->pid, SIGKILL);
            (void)bridge_has_ended(b, END_MS);
        }
    }
    (void)unlink(b->socket);
    (void)rmdir(b->folder);
}

/* --- a client --- */

static int client_connect(const struct bridge *b)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", b->socket);
    VGD_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = REPLY_S};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0 ||
        connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0) {
        return -1;
    }
    return vgd_fd_take(&fd);
}

static bool put(int fd, const void *bytes, size_t n_bytes)
{
    return send(fd, bytes, n_bytes, MSG_NOSIGNAL) == (ssize_t)n_bytes;
}

static bool get(int fd, void *out, size_t n_bytes)
{
    return recv(fd, out, n_bytes, MSG_WAITALL) == (ssize_t)n_bytes;
}

#define ASK(fd, cmd, ...)                                                                          \
    ask(fd, cmd, (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / 4)

static bool ask(int fd, uint32_t cmd, const uint32_t *words, size_t n)
{
    const uint32_t hdr[2] = {(uint32_t)n, cmd};
    return put(fd, hdr, sizeof(hdr)) && (n == 0 || put(fd, words, n * 4));
}

static bool get_reply(int fd, uint32_t cmd, uint32_t *words, uint32_t n)
{
    uint32_t hdr[2];
    return get(fd, hdr, sizeof(hdr)) && hdr[0] == n && hdr[1] == cmd &&
           (n == 0 || get(fd, words, n * (size_t)4));
}

static int get_fd(int fd)
{
    uint8_t byte;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    if (recvmsg(fd, &msg, MSG_CMSG_CLOEXEC) != 1) {
        return -1;
    }
    const struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    int got = -1;
    if (cmsg != NULL && cmsg->cmsg_type == SCM_RIGHTS) {
        memcpy(&got, CMSG_DATA(cmsg), sizeof(got));
    }
    return got;
}

/* Did the bridge end the connection, within REPLY_S? What it sent before is thrown away. */
static bool is_dropped(int fd)
{
    uint8_t bytes[4096];
    ssize_t n;
    do {
        n = recv(fd, bytes, sizeof(bytes), 0);
    } while (n > 0);
    return n == 0 || errno == ECONNRESET;
}

static bool greet(int fd, uint32_t version)
{
    const uint32_t hdr[2] = {5, VGD_VTEST_CREATE_RENDERER};
    uint32_t agreed = 0;
    return put(fd, hdr, sizeof(hdr)) && put(fd, "test", 5) &&
           (version == 0 || (ASK(fd, VGD_VTEST_PROTOCOL_VERSION, version) &&
                             get_reply(fd, VGD_VTEST_PROTOCOL_VERSION, &agreed, 1))) &&
           agreed == version;
}

/* A client that has said hello, once there is somebody to say it to; -1: there is not. */
static int client_begin(const struct bridge *b, uint32_t version, int timeout_ms)
{
    uint64_t until_ns = vgd_now_ns() + (uint64_t)timeout_ms * 1000000;
    do {
        VGD_AUTO_FD fd = client_connect(b);
        if (fd >= 0 && greet(fd, version)) {
            return vgd_fd_take(&fd);
        }
        sleep_ms(10);
    } while (vgd_now_ns() < until_ns);
    return -1;
}

/* A buffer that is shared: its bytes, twice as many as it has on the device. */
static uint8_t *make_buffer(int fd, uint32_t n_bytes, uint32_t *out_id)
{
    if (!ASK(fd, VGD_VTEST_RESOURCE_CREATE2, 0, 0, 64, 1u << 4, n_bytes, 1, 1, 1, 0, 0,
             2 * n_bytes) ||
        !get_reply(fd, VGD_VTEST_RESOURCE_CREATE2, out_id, 1)) {
        return NULL;
    }
    VGD_AUTO_FD file = get_fd(fd);
    void *map = mmap(NULL, (size_t)2 * n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    return map == MAP_FAILED ? NULL : map;
}

static uint8_t byte_of(uint32_t at, uint32_t seed)
{
    return (uint8_t)((at + seed * 7919) * 2654435761u >> 13);
}

/* Bytes go to the device out of one half of the memory and come back to the other. */
static bool goes_round(int fd, uint32_t id, uint8_t *memory, uint32_t n_bytes, uint32_t seed)
{
    for (uint32_t i = 0; i < n_bytes; i++) {
        memory[i] = byte_of(i, seed);
    }
    memset(memory + n_bytes, 0, n_bytes);
    uint32_t busy = 9;
    if (!ASK(fd, VGD_VTEST_TRANSFER_PUT2, id, 0, 0, 0, 0, n_bytes, 1, 1, n_bytes, 0) ||
        !ASK(fd, VGD_VTEST_TRANSFER_GET2, id, 0, 0, 0, 0, n_bytes, 1, 1, n_bytes, n_bytes) ||
        !ASK(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, id, VGD_VTEST_BUSY_WAIT_WAIT) ||
        !get_reply(fd, VGD_VTEST_RESOURCE_BUSY_WAIT, &busy, 1) || busy != 0) {
        return false;
    }
    return memcmp(memory, memory + n_bytes, n_bytes) == 0 &&
           memory[n_bytes - 1] == byte_of(n_bytes - 1, seed);
}

/* --- what has to hold --- */

static void newest_protocol(const struct bridge *b)
{
    VGD_AUTO_FD fd = client_begin(b, VGD_VTEST_VERSION, START_MS);
    uint32_t hdr[2] = {0};
    bool right = ask(fd, VGD_VTEST_GET_CAPS2, NULL, 0) && get(fd, hdr, sizeof(hdr));
    (void)tap_ok(right && hdr[1] == VGD_CAPSET_VIRGL2 && hdr[0] > 300 && hdr[0] < 4096,
                 "what OpenGL can do", "%u bytes of capset %u", hdr[0], hdr[1]);
    uint8_t caps[4096];
    uint32_t id = 0;
    uint8_t *memory = NULL;
    if (right && hdr[0] <= sizeof(caps) && get(fd, caps, hdr[0] - 1)) {
        memory = make_buffer(fd, BUFFER_BYTES, &id);
    }
    right = memory != NULL;
    for (uint32_t i = 0; i < 20 && right; i++) {
        right = goes_round(fd, id, memory, BUFFER_BYTES, i);
    }
    (void)tap_ok(right, "bytes to the device and back, in shared memory", NULL);
    if (memory != NULL) {
        (void)munmap(memory, 2 * BUFFER_BYTES);
    }
}

static bool old_round(int fd, uint32_t seed)
{
    enum { BYTES = 64 * 1024 };
    static uint8_t sent[BYTES];
    static uint8_t got[BYTES];
    for (uint32_t i = 0; i < BYTES; i++) {
        sent[i] = byte_of(i, seed);
    }
    memset(got, 0, sizeof(got));
    /* The data count in the length of what puts them. */
    const uint32_t words[] = {
        11 + BYTES / 4, VGD_VTEST_TRANSFER_PUT, 5, 0, 0, 0, 0, 0, 0, BYTES, 1, 1, BYTES};
    return put(fd, words, sizeof(words)) && put(fd, sent, BYTES) &&
           ASK(fd, VGD_VTEST_TRANSFER_GET, 5, 0, 0, 0, 0, 0, 0, BYTES, 1, 1, BYTES) &&
           get(fd, got, BYTES) && memcmp(sent, got, BYTES) == 0;
}

static void oldest_protocol(const struct bridge *b)
{
    VGD_AUTO_FD fd = client_begin(b, 0, REPLY_S * 1000);
    bool right = ASK(fd, VGD_VTEST_RESOURCE_CREATE, 5, 0, 64, 16, 65536, 1, 1, 1, 0, 0);
    for (uint32_t i = 0; i < 100 && right; i++) {
        right = old_round(fd, i);
    }
    (void)tap_ok(right, "bytes to the device and back, with the oldest protocol", NULL);
}

static void hostile_clients(const struct bridge *b)
{
    VGD_AUTO_FD good = client_begin(b, VGD_VTEST_VERSION, REPLY_S * 1000);
    uint32_t id = 0;
    uint8_t *memory = make_buffer(good, 4096, &id);
    bool right = memory != NULL && goes_round(good, id, memory, 4096, 1);
    uint32_t seed = 1;
    uint32_t n_dropped = 0;
    enum { TIMES = 100 };
    for (uint32_t i = 0; i < TIMES && right; i++) {
        VGD_AUTO_FD bad = client_begin(b, VGD_VTEST_VERSION, REPLY_S * 1000);
        uint32_t words[64];
        for (uint32_t w = 0; w < 64; w++) {
            seed = seed * 1103515245 + 12345;
            words[w] = seed >> 8;
        }
        if (i % 2 == 0) { /* rubbish */
            n_dropped += put(bad, words, sizeof(words)) && is_dropped(bad);
        } else { /* a stream that makes no sense, then half of one, and it is gone */
            (void)ask(bad, VGD_VTEST_SUBMIT_CMD, words, 64);
            (void)put(bad, (const uint32_t[]){1000, VGD_VTEST_SUBMIT_CMD, 1}, 12);
        }
        right = goes_round(good, id, memory, 4096, i);
    }
    (void)tap_ok(right, "clients that make sense go on beside others that do not", NULL);
    (void)tap_ok(n_dropped == TIMES / 2, "those that do not are sent away", "%u of %u", n_dropped,
                 TIMES / 2);
    if (memory != NULL) {
        (void)munmap(memory, 8192);
    }
}

/* Mesa's cache keeps what was not busy for a second: thousands of small buffers. */
static bool many_come_and_go(const struct bridge *b)
{
    enum { MANY = 12000, AT_ONCE = 64 };
    VGD_AUTO_FD fd = client_begin(b, VGD_VTEST_VERSION, REPLY_S * 1000);
    bool right = fd >= 0;
    for (uint32_t i = 0; i < MANY && right; i += AT_ONCE) {
        for (uint32_t k = 0; k < AT_ONCE && right; k++) {
            right = ASK(fd, VGD_VTEST_RESOURCE_CREATE2, 0, 0, 64, 1u << 17, 8, 1, 1, 1, 0, 0, 0);
        }
        uint32_t id;
        for (uint32_t k = 0; k < AT_ONCE && right; k++) {
            right = get_reply(fd, VGD_VTEST_RESOURCE_CREATE2, &id, 1);
        }
    }
    return right;
}

static void many_resources(const struct bridge *b)
{
    bool right = true;
    for (uint32_t round = 0; round < 4 && right; round++) {
        right = many_come_and_go(b);
        VGD_AUTO_FD next = client_begin(b, VGD_VTEST_VERSION, REPLY_S * 1000);
        uint32_t id = 0;
        uint8_t *memory = next < 0 ? NULL : make_buffer(next, 4096, &id);
        right = right && memory != NULL && goes_round(next, id, memory, 4096, 5);
        if (memory != NULL) {
            (void)munmap(memory, 8192);
        }
    }
    (void)tap_ok(right, "a client with many resources goes, and another one is served", NULL);
}

/* Where fences are fast a client has many of these: each is put aside for a second. */
static void many_fences(const struct bridge *b)
{
    enum { MANY = 64000, AT_ONCE = 64 };
    VGD_AUTO_FD fd = client_begin(b, VGD_VTEST_VERSION, REPLY_S * 1000);
    bool right = fd >= 0;
    for (uint32_t i = 0; i < MANY && right; i += AT_ONCE) {
        for (uint32_t k = 0; k < AT_ONCE && right; k++) {
            right = ASK(fd, VGD_VTEST_RESOURCE_CREATE2, 0, 0, 64, 1u << 17, 8, 1, 1, 0, 0, 0, 8);
        }
        for (uint32_t k = 0; k < AT_ONCE && right; k++) {
            uint32_t id;
            right = get_reply(fd, VGD_VTEST_RESOURCE_CREATE2, &id, 1);
            VGD_AUTO_FD file = right ? get_fd(fd) : -1;
            right = file >= 0;
        }
    }
    (void)tap_ok(right, "a client with many fences", NULL);
}

static void blobs(const struct bridge *b)
{
    VGD_AUTO_FD fd = client_begin(b, VGD_VTEST_VERSION, REPLY_S * 1000);
    uint32_t hdr[2] = {0};
    uint32_t words[256] = {0};
    bool right = ASK(fd, VGD_VTEST_GET_CAPSET, VGD_CAPSET_VENUS, 0) && get(fd, hdr, sizeof(hdr)) &&
                 hdr[0] <= 256 && get(fd, words, hdr[0] * (size_t)4);
    if (right && words[0] == 0) {
        tap_skip("a blob of a Vulkan context as a file", "this vgd offers no Vulkan here");
        return;
    }
    right = right && ASK(fd, VGD_VTEST_CONTEXT_INIT, VGD_CAPSET_VENUS);
    for (uint32_t i = 0; i < 50 && right; i++) {
        uint32_t id = 0;
        right = ASK(fd, VGD_VTEST_RESOURCE_CREATE_BLOB, VGD_VTEST_BLOB_TYPE_HOST3D,
                    VGD_VTEST_BLOB_FLAG_MAPPABLE, 65536, 0, 0, 0) &&
                get_reply(fd, VGD_VTEST_RESOURCE_CREATE_BLOB, &id, 1);
        VGD_AUTO_FD file = right ? get_fd(fd) : -1;
        uint8_t *memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        right = memory != MAP_FAILED && memory[65535] == 0;
        if (right) {
            memory[65535] = 1;
            (void)munmap(memory, 65536);
            right = ASK(fd, VGD_VTEST_RESOURCE_UNREF, id);
        }
    }
    (void)tap_ok(right, "a blob of a Vulkan context as a file", NULL);
}

static void backend_dies(const struct bridge *b)
{
    VGD_AUTO_FD fd = client_begin(b, VGD_VTEST_VERSION, REPLY_S * 1000);
    uint32_t id = 0;
    uint8_t *memory = make_buffer(fd, 4096, &id);
    bool right = memory != NULL && goes_round(fd, id, memory, 4096, 1);
    pid_t backend = vgd_guest_child_named(b->pid, "vgd");
    right = right && backend > 0 && kill(backend, SIGKILL) == 0;
    (void)tap_ok(right && is_dropped(fd), "the backend's death ends its clients", NULL);
    VGD_AUTO_FD next = client_begin(b, VGD_VTEST_VERSION, START_MS);
    if (memory != NULL) {
        (void)munmap(memory, 8192);
    }
    memory = next < 0 ? NULL : make_buffer(next, 4096, &id);
    (void)tap_ok(memory != NULL && goes_round(next, id, memory, 4096, 2),
                 "another backend serves the next", NULL);
    if (memory != NULL) {
        (void)munmap(memory, 8192);
    }
}

static void few_descriptors(const struct bridge *b)
{
    enum { WAITING = 8 };
    VGD_AUTO_FD good = client_begin(b, VGD_VTEST_VERSION, REPLY_S * 1000);
    struct rlimit old;
    bool right = prlimit(b->pid, RLIMIT_NOFILE, NULL, &old) == 0;
    (void)tap_ok(right && old.rlim_cur == old.rlim_max, "as many files as the administrator allows",
                 "%llu of %llu", (unsigned long long)old.rlim_cur,
                 (unsigned long long)old.rlim_max);
    /* Less than it has: whatever it wants to open is one too many. */
    struct rlimit few = {.rlim_cur = 3, .rlim_max = old.rlim_max};
    right = right && prlimit(b->pid, RLIMIT_NOFILE, &few, NULL) == 0;
    int waiting[WAITING];
    for (int i = 0; i < WAITING; i++) {
        waiting[i] = client_connect(b);
        right = right && waiting[i] >= 0;
    }
    sleep_ms(50);
    long before = process_ticks(b->pid);
    sleep_ms(1000);
    long spent = process_ticks(b->pid) - before;
    (void)tap_ok(right && spent * 4 < sysconf(_SC_CLK_TCK),
                 "no descriptors for new clients: it does not run hot", "%ld ticks in a second",
                 spent);
    uint32_t busy = 9;
    right = right && ASK(good, VGD_VTEST_RESOURCE_BUSY_WAIT, 0, 0) &&
            get_reply(good, VGD_VTEST_RESOURCE_BUSY_WAIT, &busy, 1);
    (void)tap_ok(right, "it goes on serving those that are there", NULL);
    right = right && prlimit(b->pid, RLIMIT_NOFILE, &old, NULL) == 0;
    for (int i = 0; i < WAITING; i++) {
        right = right && greet(waiting[i], VGD_VTEST_VERSION);
        vgd_fd_closep(&waiting[i]);
    }
    (void)tap_ok(right, "those that waited are served when there are", NULL);
}

/* --- Mesa --- */

/* Runs @words with @env; every PASS and FAIL that it prints is a line of ours. */
static void run_mesa(const char *name, char *const words[], char *const env[], const char *renderer)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)dup2(ends[1], 1);
        for (size_t i = 0; env[i] != NULL; i++) {
            (void)putenv(env[i]);
        }
        (void)execv(words[0], words);
        _exit(127);
    }
    (void)close(ends[1]);
    VGD_AUTO_FD from = ends[0];
    static char text[65536];
    size_t n = 0;
    uint64_t until_ns = vgd_now_ns() + (uint64_t)PROGRAM_MS * 1000000;
    for (;;) {
        struct pollfd p = {.fd = from, .events = POLLIN};
        uint64_t now_ns = vgd_now_ns();
        if (now_ns >= until_ns || poll(&p, 1, (int)((until_ns - now_ns) / 1000000) + 1) == 0) {
            (void)kill(pid, SIGKILL);
            break;
        }
        ssize_t got = read(from, text + n, sizeof(text) - 1 - n);
        if (got <= 0) {
            break;
        }
        n += (size_t)got;
    }
    text[n] = '\0';
    int status = 0;
    (void)waitpid(pid, &status, 0);
    char line_name[160];
    bool by_ours = strstr(text, renderer) != NULL;
    char *state = NULL;
    for (char *line = strtok_r(text, "\n", &state); line != NULL;
         line = strtok_r(NULL, "\n", &state)) {
        bool passed = strncmp(line, "PASS ", 5) == 0;
        if (passed || strncmp(line, "FAIL ", 5) == 0) {
            (void)snprintf(line_name, sizeof(line_name), "%s: %s", name, line + 5);
            (void)tap_ok(passed, line_name, NULL);
        }
    }
    (void)snprintf(line_name, sizeof(line_name), "%s by Mesa's driver", name);
    (void)tap_ok(by_ours && WIFEXITED(status) && WEXITSTATUS(status) == 0, line_name,
                 "status 0x%x, %s", (unsigned)status, by_ours ? "its driver" : "not its driver");
}

static void mesa(const struct bridge *b, const struct options *o)
{
    static char socket_word[128];
    (void)snprintf(socket_word, sizeof(socket_word), "VTEST_SOCKET_NAME=%s", b->socket);
    bool is_new = access(VENUS_DRIVER, R_OK) == 0;
    const char *too_old = "the Mesa of this machine takes no socket's name, and has no venus";
    if (o->gl_bench == NULL || !is_new) {
        tap_skip("OpenGL by Mesa's driver", o->gl_bench == NULL ? "gl-bench is missing" : too_old);
    } else {
        char *words[] = {(char *)(uintptr_t)o->gl_bench, "--checks", NULL};
        char *env[] = {socket_word, "GALLIUM_DRIVER=virpipe", "LIBGL_ALWAYS_SOFTWARE=1",
                       "EGL_PLATFORM=surfaceless", NULL};
        run_mesa("OpenGL", words, env, "renderer virgl");
    }
    if (o->vk_bench == NULL || !is_new) {
        tap_skip("Vulkan by Mesa's driver", o->vk_bench == NULL ? "vk-bench is missing" : too_old);
    } else {
        char *words[] = {(char *)(uintptr_t)o->vk_bench, "--checks", "--device", "Venus", NULL};
        char *env[] = {socket_word, "VN_DEBUG=vtest", "VK_DRIVER_FILES=" VENUS_DRIVER, NULL};
        run_mesa("Vulkan", words, env, "Venus");
    }
}

static void ends(struct bridge *b)
{
    VGD_AUTO_FD idle = client_begin(b, VGD_VTEST_VERSION, REPLY_S * 1000);
    VGD_AUTO_FD busy = client_begin(b, VGD_VTEST_VERSION, REPLY_S * 1000);
    uint32_t id = 0;
    uint8_t *memory = make_buffer(idle, 4096, &id);
    bool right = memory != NULL && goes_round(idle, id, memory, 4096, 3);
    for (uint32_t i = 0; i < 50; i++) {
        right = right && ask(busy, VGD_VTEST_SUBMIT_CMD, (const uint32_t[]){0}, 1);
    }
    pid_t backend = vgd_guest_child_named(b->pid, "vgd");
    right = right && backend > 0 && kill(b->pid, SIGTERM) == 0;
    bool ended = bridge_has_ended(b, END_MS);
    (void)tap_ok(right && ended && WIFEXITED(b->status) && WEXITSTATUS(b->status) == 0,
                 "SIGTERM ends it while clients have things", "status 0x%x", (unsigned)b->status);
    (void)tap_ok(access(b->socket, F_OK) != 0, "its socket is gone", NULL);
    (void)tap_ok(ended && process_is_gone(backend), "and so is the backend", NULL);
    if (memory != NULL) {
        (void)munmap(memory, 8192);
    }
}

int main(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"gl-bench", required_argument, NULL, 'g'},
        {"vk-bench", required_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    struct options o = {0};
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == 'g') {
            o.gl_bench = optarg;
        } else if (option == 'v') {
            o.vk_bench = optarg;
        } else {
            return 2;
        }
    }
    if (optind + 2 != argc) {
        (void)fputs("usage: vtest VTEST_BRIDGE VGD [--gl-bench=PROGRAM] [--vk-bench=PROGRAM]\n",
                    stderr);
        return 2;
    }
    o.bridge = argv[optind];
    o.vgd = argv[optind + 1];
    (void)signal(SIGPIPE, SIG_IGN);
    struct bridge b;
    VGD_AUTO_FD first = bridge_start(&b, &o) ? client_begin(&b, VGD_VTEST_VERSION, START_MS) : -1;
    if (tap_ok(first >= 0, "it starts, and takes a client", NULL)) {
        newest_protocol(&b);
        oldest_protocol(&b);
        hostile_clients(&b);
        many_resources(&b);
        many_fences(&b);
        blobs(&b);
        mesa(&b, &o);
        backend_dies(&b);
        few_descriptors(&b);
        ends(&b);
    }
    bridge_drop(&b);
    return tap_done();
}
