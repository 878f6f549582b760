/* SPDX-License-Identifier: MIT */
/* vtest-bridge: Mesa's vtest clients on a vhost-user-gpu backend, with no VM. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fd.h"
#include "guest_process.h"
#include "log.h"
#include "loop.h"
#include "vtest_backend.h"
#include "vtest_bridge.h"

#define DEFAULT_SOCKET                                                                             \
    P_tmpdir "/.virgl_test" /* Mesa's, unless VTEST_SOCKET_NAME says otherwise                     \
                             */
#define DEFAULT_MEMORY_BYTES (UINT64_C(4) << 30)
#define LEAST_MEMORY_BYTES (UINT64_C(64) << 20)
#define MOST_MEMORY_BYTES (UINT64_C(512) << 30)
#define DEFAULT_SPIN_US 50u
#define SPIN_PROCESSORS 4
#define FIRST_RETRY_NS (200 * UINT64_C(1000000))
#define LAST_RETRY_NS (5 * UINT64_C(1000000000))
#define BACKLOG 64
#define ACCEPT_PAUSE_NS (100 * UINT64_C(1000000)) /* after the kernel refused a descriptor */

struct server {
    struct vgd_loop *loop;
    const char *socket_path, *backend_path, *exec;
    uint32_t socket_mode;
    struct vgd_vtest_backend_config config;
    int listen_fd, signal_fd, given_fd; /* given_fd: -1 once it is used */
    struct vgd_watch *listen_watch, *signal_watch;
    struct vgd_timer *retry, *pause;
    uint64_t retry_ns;
    struct vgd_guest_process process;
    struct vgd_vtest_device *dev;
    struct vgd_vtest_bridge *bridge;
    bool is_gone; /* the backend is: to be closed after this turn */
    bool is_bound, is_ending;
};

static void on_gone(void *user)
{
    struct server *s = user;
    vgd_log(VGD_LOG_WARNING, "bridge", "the backend is gone");
    vgd_vtest_bridge_drop_all(s->bridge, "the backend is gone");
    s->is_gone = true;
}

static void on_room(void *user)
{
    struct server *s = user;
    vgd_vtest_bridge_on_room(s->bridge);
}

static int connect_backend(struct server *s)
{
    if (s->given_fd >= 0) {
        return vgd_fd_take(&s->given_fd);
    }
    if (s->exec == NULL) {
        return s->backend_path == NULL ? -1 : vgd_guest_connect(s->backend_path);
    }
    enum vgd_status st = vgd_guest_process_start(s->exec, -1, &s->process);
    if (st != VGD_OK) {
        vgd_log(VGD_LOG_ERROR, "bridge", "the backend does not start: %s", vgd_status_text(st));
        return -1;
    }
    return vgd_fd_take(&s->process.socket);
}

static void close_device(struct server *s)
{
    /* Clients before the device: they give back to it what they have. */
    if (s->bridge != NULL) {
        vgd_vtest_bridge_drop_all(s->bridge, "the device goes");
    }
    vgd_vtest_device_close(s->dev);
    s->dev = NULL;
    vgd_vtest_bridge_destroy(s->bridge);
    s->bridge = NULL;
    if (s->process.pid != 0) {
        (void)vgd_guest_process_stop(&s->process);
        s->process = (struct vgd_guest_process){.socket = -1};
    }
}

static bool open_device(struct server *s)
{
    VGD_AUTO_FD fd = connect_backend(s);
    if (fd < 0) {
        return false;
    }
    struct vgd_vtest_backend_events events = {.user = s, .on_gone = on_gone, .on_room = on_room};
    enum vgd_status st;
    s->dev = vgd_vtest_device_open(s->loop, &fd, &s->config, &events, &st);
    if (s->dev == NULL) {
        vgd_log(VGD_LOG_ERROR, "bridge", "no device: %s", vgd_status_text(st));
        close_device(s);
        return false;
    }
    s->bridge = vgd_vtest_bridge_create(s->loop, s->dev);
    if (s->bridge == NULL) {
        close_device(s);
        return false;
    }
    return true;
}

static void on_client(void *user, uint32_t events)
{
    (void)events;
    struct server *s = user;
    for (int i = 0; i < BACKLOG; i++) {
        VGD_AUTO_FD fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
            /* It stays readable: looking again at once would be all that we do. */
            vgd_watch_set(s->listen_watch, 0);
            vgd_timer_start(s->pause, ACCEPT_PAUSE_NS);
        }
        if (fd < 0) {
            return;
        }
        vgd_vtest_bridge_add(s->bridge, &fd);
    }
}

static void on_pause(void *user)
{
    struct server *s = user;
    if (s->bridge != NULL) {
        vgd_watch_set(s->listen_watch, EPOLLIN);
    }
}

static void on_retry(void *user)
{
    struct server *s = user;
    if (open_device(s)) {
        s->retry_ns = FIRST_RETRY_NS;
        vgd_log(VGD_LOG_INFO, "bridge", "the backend is back");
        vgd_watch_set(s->listen_watch, EPOLLIN);
        return;
    }
    s->retry_ns = s->retry_ns * 2 < LAST_RETRY_NS ? s->retry_ns * 2 : LAST_RETRY_NS;
    vgd_timer_start(s->retry, s->retry_ns);
}

static void on_signal(void *user, uint32_t events)
{
    (void)events;
    struct server *s = user;
    struct signalfd_siginfo info;
    if (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
        s->is_ending = true;
    }
}

/* Is somebody listening on @address already? */
static bool is_served(const struct sockaddr_un *address)
{
    VGD_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;
}

static bool bind_socket(struct server *s)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(s->socket_path) >= sizeof(address.sun_path)) {
        vgd_log(VGD_LOG_ERROR, "bridge", "the socket's path is too long");
        return false;
    }
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", s->socket_path);
    struct stat old;
    if (lstat(s->socket_path, &old) == 0) {
        if (!S_ISSOCK(old.st_mode) || is_served(&address)) {
            vgd_log(VGD_LOG_ERROR, "bridge", "%s is in use", s->socket_path);
            return false;
        }
        (void)unlink(s->socket_path);
    }
    s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t before = umask(0777 & ~s->socket_mode);
    s->is_bound = s->listen_fd >= 0 &&
                  bind(s->listen_fd, (const struct sockaddr *)&address, sizeof(address)) == 0;
    (void)umask(before);
    if (!s->is_bound || listen(s->listen_fd, BACKLOG) != 0) {
        vgd_log(VGD_LOG_ERROR, "bridge", "%s: %s", s->socket_path, strerror(errno));
        return false;
    }
    return true;
}

static bool watch_all(struct server *s)
{
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    s->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    s->signal_watch =
        s->signal_fd < 0 ? NULL : vgd_loop_watch(s->loop, s->signal_fd, EPOLLIN, on_signal, s);
    s->listen_watch = vgd_loop_watch(s->loop, s->listen_fd, EPOLLIN, on_client, s);
    s->retry = vgd_timer_create(s->loop, on_retry, s);
    s->pause = vgd_timer_create(s->loop, on_pause, s);
    return s->signal_watch != NULL && s->listen_watch != NULL && s->retry != NULL &&
           s->pause != NULL;
}

static int serve(struct server *s)
{
    while (!s->is_ending) {
        vgd_loop_turn(s->loop, -1);
        if (s->dev != NULL) {
            vgd_vtest_device_turn(s->dev);
        }
        if (s->is_gone) {
            s->is_gone = false;
            close_device(s);
            if (s->exec == NULL && s->backend_path == NULL) {
                return 1; /* the socket that was given is used up */
            }
            vgd_watch_set(s->listen_watch, 0);
            vgd_timer_start(s->retry, s->retry_ns);
        }
    }
    return 0;
}

static bool parse_size(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    static const char units[] = "KMGT";
    const char *unit = *end == '\0' ? NULL : strchr(units, *end);
    uint32_t shift = 0;
    if (unit != NULL) {
        shift = 10 * (uint32_t)(unit - units + 1);
        end++;
    }
    if (end == text || *end != '\0' || errno != 0 || value > UINT64_MAX >> shift) {
        return false;
    }
    *out = (uint64_t)value << shift;
    return true;
}

static void usage(FILE *to)
{
    (void)fprintf(
        to,
        "usage: vtest-bridge [OPTIONS] (--backend-path=SOCKET | --backend-fd=N | --exec=COMMAND)\n"
        "Serves Mesa's vtest clients (virpipe, venus) on a vhost-user-gpu backend.\n"
        "  --socket-path=PATH   where clients connect (default %s)\n"
        "  --socket-mode=MODE   its permissions, octal (default 600)\n"
        "  --backend-path=PATH  socket of a backend that listens\n"
        "  --backend-fd=N       a connected vhost-user socket\n"
        "  --exec=COMMAND       start this backend; {fd} is its socket, {socket} a path to listen "
        "on\n"
        "  --memory=SIZE        guest memory that clients share (default 4G)\n"
        "  --spin-us=N          look so long for what a client waits for before sleeping (default "
        "50, or 0 with\n"
        "                       fewer than 4 processors)\n"
        "  --log-level=LEVEL    error, warning, info or debug\n",
        DEFAULT_SOCKET);
}

/* Where there are few processors, the backend or the client needs this one. */
static uint32_t default_spin_us(void)
{
    return sysconf(_SC_NPROCESSORS_ONLN) < SPIN_PROCESSORS ? 0 : DEFAULT_SPIN_US;
}

enum option_id {
    OPT_SOCKET_PATH = 1,
    OPT_SOCKET_MODE,
    OPT_BACKEND_PATH,
    OPT_BACKEND_FD,
    OPT_EXEC,
    OPT_MEMORY,
    OPT_SPIN,
    OPT_LOG_LEVEL,
    OPT_HELP,
};

static const struct option options[] = {
    {"socket-path", required_argument, NULL, OPT_SOCKET_PATH},
    {"socket-mode", required_argument, NULL, OPT_SOCKET_MODE},
    {"backend-path", required_argument, NULL, OPT_BACKEND_PATH},
    {"backend-fd", required_argument, NULL, OPT_BACKEND_FD},
    {"exec", required_argument, NULL, OPT_EXEC},
    {"memory", required_argument, NULL, OPT_MEMORY},
    {"spin-us", required_argument, NULL, OPT_SPIN},
    {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

/* False: complain about it. */
static bool take_option(struct server *s, int id, const char *value)
{
    enum vgd_log_level level;
    char *end;
    switch (id) {
    case OPT_SOCKET_PATH:
        s->socket_path = value;
        return true;
    case OPT_SOCKET_MODE:
        s->socket_mode = (uint32_t)strtoul(value, &end, 8);
        return *value != '\0' && *end == '\0' && s->socket_mode <= 0777;
    case OPT_BACKEND_PATH:
        s->backend_path = value;
        return true;
    case OPT_BACKEND_FD:
        s->given_fd = (int)strtol(value, &end, 10);
        return *value != '\0' && *end == '\0' && s->given_fd >= 0;
    case OPT_EXEC:
        s->exec = value;
        return true;
    case OPT_MEMORY:
        return parse_size(value, &s->config.memory_bytes) &&
               s->config.memory_bytes >= LEAST_MEMORY_BYTES &&
               s->config.memory_bytes <= MOST_MEMORY_BYTES && s->config.memory_bytes % 4096 == 0;
    case OPT_SPIN:
        s->config.spin_us = (uint32_t)strtoul(value, &end, 10);
        return *value != '\0' && *end == '\0' && s->config.spin_us <= 1000;
    case OPT_LOG_LEVEL:
        if (!vgd_log_level_parse(value, &level)) {
            return false;
        }
        vgd_log_setup("vtest-bridge", level);
        return true;
    default:
        return false;
    }
}

static void finish(struct server *s)
{
    close_device(s);
    vgd_watch_remove(&s->listen_watch);
    vgd_watch_remove(&s->signal_watch);
    vgd_timer_destroy(&s->retry);
    vgd_timer_destroy(&s->pause);
    vgd_fd_closep(&s->listen_fd);
    vgd_fd_closep(&s->signal_fd);
    vgd_fd_closep(&s->given_fd);
    if (s->is_bound) {
        (void)unlink(s->socket_path);
    }
    vgd_loop_destroy(s->loop);
}

int main(int argc, char **argv)
{
    vgd_log_setup("vtest-bridge", VGD_LOG_WARNING);
    struct server s = {
        .socket_path = DEFAULT_SOCKET,
        .socket_mode = 0600,
        .listen_fd = -1,
        .signal_fd = -1,
        .given_fd = -1,
        .retry_ns = FIRST_RETRY_NS,
        .process = {.socket = -1},
        .config = {.memory_bytes = DEFAULT_MEMORY_BYTES, .spin_us = default_spin_us()},
    };
    int id;
    while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (id == OPT_HELP) {
            usage(stdout);
            return 0;
        }
        if (id == '?' || !take_option(&s, id, optarg)) {
            if (id != '?') {
                (void)fprintf(stderr, "vtest-bridge: this value makes no sense: %s\n", optarg);
            }
            usage(stderr);
            return 2;
        }
    }
    int n_backends = (s.backend_path != NULL) + (s.exec != NULL) + (s.given_fd >= 0);
    if (n_backends != 1 || optind != argc) {
        usage(stderr);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    vgd_guest_raise_files(); /* each wait of a client is a descriptor here, too */
    s.loop = vgd_loop_create();
    int code = 1;
    if (s.loop != NULL && open_device(&s) && bind_socket(&s) && watch_all(&s)) {
        vgd_log(VGD_LOG_INFO, "bridge", "ready on %s", s.socket_path);
        code = serve(&s);
    }
    finish(&s);
    return code;
}
