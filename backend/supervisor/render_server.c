/* SPDX-License-Identifier: MIT */
#include "render_server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fd.h"
#include "layer_env.h"
#include "log.h"

#define SERVER_SOCKET_FD 3
#define SERVER_REPORT_FD 4
#define EXIT_EXEC_FAILED 127
#define PATH_BYTES 4096u
/* Children that one look finds; more are found by the next. */
#define CHILDREN_TEXT_BYTES 16384u

struct vgd_render_server {
    struct vgd_render_server_config config;
    char *program, *layer_dir;
    pid_t pid; /* and its process group's; 0: none */
    int pid_fd;
    struct vgd_watch *watch;
};

extern char **environ;

/* ---- where things are -------------------------------------------------------------------------
 */

/* Debian (12 to 14), Fedora, openSUSE; Arch; one built from source. */
static const char *const places[] = {"/usr/libexec/virgl_render_server",
                                     "/usr/lib/virgl_render_server",
                                     "/usr/local/libexec/virgl_render_server"};
#define PLACES_COUNT (sizeof(places) / sizeof(places[0]))

static const char *find_program(const struct vgd_render_server *s, char *why, size_t why_bytes)
{
    if (s->program[0] != '\0') {
        if (access(s->program, X_OK) == 0) {
            return s->program;
        }
        (void)snprintf(why, why_bytes, "the render server %s cannot be run: %s", s->program,
                       strerror(errno));
        return NULL;
    }
    for (size_t i = 0; i < PLACES_COUNT; i++) {
        if (access(places[i], X_OK) == 0) {
            return places[i];
        }
    }
    (void)snprintf(
        why, why_bytes,
        "there is no virgl_render_server: install it (Debian's package is virgl-server), "
        "or give --render-server=PATH");
    return NULL;
}

static bool find_layer(const struct vgd_render_server *s, char *why, size_t why_bytes)
{
    char path[PATH_BYTES];
    int n = snprintf(path, sizeof(path), "%s/%s", s->layer_dir, VGD_LAYER_MANIFEST);
    if (s->layer_dir[0] != '\0' && n < (int)sizeof(path) && access(path, R_OK) == 0) {
        return true;
    }
    (void)snprintf(why, why_bytes,
                   "this host's Vulkan needs our layer, and %s is not there: install vgd whole",
                   s->layer_dir[0] != '\0' ? path : VGD_LAYER_MANIFEST);
    return false;
}

/* ---- starting ---------------------------------------------------------------------------------
 */

/* In the child, between fork and exec: async-signal-safe calls only. */
static void become_server(const char *program, char *const *envp, int socket_fd, int report_fd,
                          pid_t parent) __attribute__((noreturn));

static void become_server(const char *program, char *const *envp, int socket_fd, int report_fd,
                          pid_t parent)
{
    /* It prints a line for much that a guest does, and as often as the guest does it. */
    int nowhere = vgd_log_level() < VGD_LOG_DEBUG ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
    if (nowhere >= 0) {
        (void)dup2(nowhere, STDOUT_FILENO);
        (void)dup2(nowhere, STDERR_FILENO);
    }
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    /* First out of the way of the numbers that they are to have. */
    int high_socket = fcntl(socket_fd, F_DUPFD, SERVER_REPORT_FD + 1);
    int high_report = fcntl(report_fd, F_DUPFD, SERVER_REPORT_FD + 1);
    bool placed = getppid() == parent && high_socket >= 0 && high_report >= 0 &&
                  dup2(high_socket, SERVER_SOCKET_FD) >= 0 &&
                  dup3(high_report, SERVER_REPORT_FD, O_CLOEXEC) >= 0;
    if (placed) {
        (void)close_range(SERVER_REPORT_FD + 1, ~0u, 0);
        char *const argv[] = {"virgl_render_server", "--socket-fd", "3", NULL};
        (void)execve(program, argv, envp);
    }
    int error = errno;
    (void)!write(placed ? SERVER_REPORT_FD : report_fd, &error, sizeof(error));
    _exit(EXIT_EXEC_FAILED);
}

static void server_exited(void *user, uint32_t events)
{
    (void)events;
    struct vgd_render_server *s = user;
    pid_t pid = s->pid;
    siginfo_t info = {0};
    (void)waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT | WNOHANG);
    bool exited = info.si_code == CLD_EXITED;
    bool died = !exited || info.si_status != 0;
    vgd_log(died ? VGD_LOG_WARNING : VGD_LOG_DEBUG, "server", "render server %d %s %d%s%s",
            (int)pid, exited ? "ended with status" : "was ended by signal", info.si_status,
            exited ? "" : ", ", exited ? "" : strsignal(info.si_status));
    vgd_render_server_end(s);
    s->config.on_exit(s->config.user, died);
}

/* Waits for the exec, or for why not: as long as it takes to read a program's header. */
static int exec_error(int report_fd)
{
    int error = 0;
    ssize_t n;
    do {
        n = read(report_fd, &error, sizeof(error));
    } while (n < 0 && errno == EINTR);
    return n == sizeof(error) ? error : 0;
}

static enum vgd_status spawn(struct vgd_render_server *s, const char *program, char *const *envp,
                             int *out_fd, char *why, size_t why_bytes)
{
    int sockets[2], report[2];
    (void)snprintf(why, why_bytes, "no socket, process or memory for the render server");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) {
        return VGD_HOST_FAILED;
    }
    VGD_AUTO_FD ours = sockets[0];
    VGD_AUTO_FD theirs = sockets[1];
    if (pipe2(report, O_CLOEXEC) != 0) {
        return VGD_HOST_FAILED;
    }
    VGD_AUTO_FD report_in = report[0];
    VGD_AUTO_FD report_out = report[1];
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        become_server(program, envp, theirs, report_out, parent);
    }
    if (pid < 0) {
        return VGD_HOST_FAILED;
    }
    (void)setpgid(pid, pid); /* in both processes: whoever comes first */
    s->pid = pid;
    vgd_fd_closep(&report_out);
    int error = exec_error(report_in);
    if (error != 0) {
        (void)snprintf(why, why_bytes, "the render server %s cannot be run: %s", program,
                       strerror(error));
    } else {
        s->pid_fd = pidfd_open(pid, 0);
    }
    if (s->pid_fd >= 0) {
        (void)fcntl(s->pid_fd, F_SETFD, FD_CLOEXEC);
        s->watch = vgd_loop_watch(s->config.loop, s->pid_fd, EPOLLIN, server_exited, s);
    }
    if (s->watch == NULL) {
        vgd_render_server_end(s);
        return VGD_HOST_FAILED;
    }
    *out_fd = vgd_fd_take(&ours);
    return VGD_OK;
}

enum vgd_status vgd_render_server_start(struct vgd_render_server *s,
                                        const struct vgd_link_want_server *want, int *out_fd,
                                        char *why, size_t why_bytes)
{
    const char *program = find_program(s, why, why_bytes);
    bool layer = want->host_memory != 0 || want->one_device != 0;
    if (s->pid != 0 || program == NULL || (layer && !find_layer(s, why, why_bytes))) {
        return VGD_HOST_FAILED;
    }
    char **envp = vgd_render_environment(environ, want, s->layer_dir);
    if (envp == NULL) {
        (void)snprintf(why, why_bytes, "out of memory");
        return VGD_HOST_FAILED;
    }
    enum vgd_status st = spawn(s, program, envp, out_fd, why, why_bytes);
    free(envp);
    if (st == VGD_OK) {
        vgd_log(VGD_LOG_INFO, "server", "render server %d started: %s%s", (int)s->pid, program,
                layer ? ", with our Vulkan layer" : "");
    }
    return st;
}

/* ---- ending -----------------------------------------------------------------------------------
 */

void vgd_render_server_end(struct vgd_render_server *s)
{
    vgd_watch_remove(&s->watch);
    vgd_fd_closep(&s->pid_fd);
    if (s->pid == 0) {
        return;
    }
    (void)kill(-s->pid, SIGKILL);
    (void)kill(s->pid, SIGKILL); /* should it have left its group */
    /* Not waited for: it may hang in its driver. With what it left, it is a stray from now on. */
    s->pid = 0;
}

static bool is_kept(pid_t pid, const pid_t *keep, size_t n_keep)
{
    for (size_t i = 0; i < n_keep; i++) {
        if (keep[i] == pid) {
            return true;
        }
    }
    return false;
}

/* The children of all our threads, as text. There is one thread; sanitizers have more. */
static size_t read_children(char *text, size_t max_bytes)
{
    size_t n_bytes = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *e; tasks != NULL && (e = readdir(tasks)) != NULL;) {
        char path[64 + sizeof(e->d_name)];
        (void)snprintf(path, sizeof(path), "/proc/self/task/%s/children", e->d_name);
        VGD_AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
        for (ssize_t n = 1; fd >= 0 && n > 0 && n_bytes < max_bytes - 1;) {
            n = read(fd, text + n_bytes, max_bytes - 1 - n_bytes);
            n_bytes += n > 0 ? (size_t)n : 0;
        }
    }
    if (tasks != NULL) {
        (void)closedir(tasks);
    }
    text[n_bytes] = '\0';
    return n_bytes;
}

uint32_t vgd_strays_end(const pid_t *keep, size_t n_keep)
{
    char text[CHILDREN_TEXT_BYTES];
    (void)read_children(text, sizeof(text));
    uint32_t left = 0;
    char *end = text;
    for (const char *at = text;; at = end) {
        long pid = strtol(at, &end, 10);
        if (end == at) {
            break;
        }
        /* Cut off, or our own: neither is to be killed. */
        if (*end != ' ' || pid <= 1 || is_kept((pid_t)pid, keep, n_keep)) {
            continue;
        }
        (void)kill((pid_t)pid, SIGKILL); /* a child cannot be another: it is not reaped yet */
        siginfo_t info = {0};
        bool gone = waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG) != 0 || info.si_pid != 0;
        left += gone ? 0 : 1;
    }
    return left;
}

/* ---- life -------------------------------------------------------------------------------------
 */

pid_t vgd_render_server_pid(const struct vgd_render_server *s)
{
    return s->pid;
}

struct vgd_render_server *vgd_render_server_create(const struct vgd_render_server_config *config)
{
    struct vgd_render_server *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return NULL;
    }
    s->config = *config;
    s->pid_fd = -1;
    s->program = strdup(config->program != NULL ? config->program : "");
    s->layer_dir = strdup(config->layer_dir != NULL ? config->layer_dir : "");
    if (s->program == NULL || s->layer_dir == NULL) {
        vgd_render_server_destroy(s);
        return NULL;
    }
    return s;
}

void vgd_render_server_destroy(struct vgd_render_server *s)
{
    if (s != NULL) {
        vgd_render_server_end(s);
        free(s->program);
        free(s->layer_dir);
        free(s);
    }
}
