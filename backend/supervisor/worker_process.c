/* SPDX-License-Identifier: MIT */
#include "worker_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "fd.h"
#include "log.h"
#include "render_server.h"

/* Where the worker finds its end of the link. */
#define WORKER_LINK_FD 3
#define NS_PER_MS 1000000ull
#define EXIT_EXEC_FAILED 127
#define RETRY_MS 5000u
/* Killed processes that are still there are looked for again this often, and at the end of the
 * program this long in all. */
#define STRAYS_MS 20u
#define STRAYS_LAST_MS 1000u
/* A worker that was killed at the end of a connection is waited for this long. */
#define WORKER_LAST_MS 2000

/* Before the n-th restart in a row. The first is at once: one crash is not a loop. */
static const uint32_t restart_delay_ms[] = {0, 100, 300, 1000, 2000, 5000};
#define RESTART_DELAYS_COUNT (sizeof(restart_delay_ms) / sizeof(restart_delay_ms[0]))

enum state {
    STATE_IDLE,
    STATE_STARTING,
    STATE_READY,
    STATE_WAITING,
    STATE_FAILED,
};

struct vgd_worker_process {
    struct vgd_worker_process_config config;
    char *program, *render_node;
    enum state state;
    pid_t pid;      /* 0: none */
    bool condemned; /* killed: nothing it says counts, and nothing is said to it */
    int pid_fd;
    struct vgd_watch *pid_watch;
    struct vgd_link *link;
    struct vgd_render_server *server;
    bool server_asked;              /* by this worker */
    struct vgd_timer *strays_timer; /* runs while processes of dead generations live on */
    uint32_t server_deaths_count;
    struct vgd_timer *timer; /* the restart while waiting, READY's deadline while starting */
    int vault_fd;
    struct vgd_vault *vault;
    bool vault_used; /* a worker has lived on it */
    bool had_ring;   /* this worker was given one: it may have done anything since */
    bool replacing;  /* killed by us at a reset of the guest: not a death */
    bool was_ready;  /* some worker has been */
    bool gave_up_3d;
    uint32_t counted_deaths; /* in a row */
    uint32_t starts_count, deaths_count;
    uint64_t ready_ns, died_ns;
    struct vgd_link_ready ready;
};

static void start(struct vgd_worker_process *p);
static void worker_exited(void *user, uint32_t events);

static bool new_vault(struct vgd_worker_process *p)
{
    VGD_AUTO_FD fd = vgd_vault_create();
    struct vgd_vault *vault = fd >= 0 ? vgd_vault_map(fd) : NULL;
    if (vault == NULL) {
        return false;
    }
    vgd_vault_unmap(p->vault);
    vgd_fd_closep(&p->vault_fd);
    p->vault = vault;
    p->vault_fd = vgd_fd_take(&fd);
    p->vault_used = false;
    return true;
}

static void fail(struct vgd_worker_process *p, const char *why)
{
    vgd_log(VGD_LOG_ERROR, "worker", "%s", why);
    p->state = STATE_FAILED;
    p->config.on_failed(p->config.user);
}

/* A link whose worker cannot be believed, or hangs. Its death comes through the pid. */
void vgd_worker_process_kill(struct vgd_worker_process *p, const char *why)
{
    if (p->pid == 0 || p->condemned) {
        return; /* once: one that hangs in the kernel may outlive many reasons */
    }
    p->condemned = true;
    vgd_log(VGD_LOG_WARNING, "worker", "killing worker %d: %s", (int)p->pid, why);
    (void)kill(p->pid, SIGKILL);
}

static void timer_due(void *user)
{
    struct vgd_worker_process *p = user;
    if (p->state == STATE_WAITING) {
        start(p);
    } else if (p->state == STATE_STARTING) {
        vgd_worker_process_kill(p, "it does not become ready");
    }
}

/* ---- the render server ------------------------------------------------------------------------
 */

static uint32_t end_strays(struct vgd_worker_process *p)
{
    pid_t keep[2 + VGD_EARLIER_CHILDREN_MAX] = {p->pid, vgd_render_server_pid(p->server)};
    memcpy(keep + 2, p->config.earlier, sizeof(p->config.earlier));
    return vgd_strays_end(keep, 2 + p->config.n_earlier);
}

static void strays_due(void *user)
{
    struct vgd_worker_process *p = user;
    if (end_strays(p) != 0) {
        vgd_timer_start(p->strays_timer, STRAYS_MS * NS_PER_MS);
    }
}

/* The worker is gone: so is everything that it and its render server started. */
static void end_generation(struct vgd_worker_process *p)
{
    vgd_render_server_end(p->server);
    strays_due(p);
}

static void server_exited(void *user, bool died)
{
    struct vgd_worker_process *p = user;
    p->server_deaths_count += died;
    if (p->ready.vulkan_name[0] != '\0') { /* of this worker, or of the one before */
        vgd_worker_process_kill(p, "its render server is gone");
        return;
    }
    /* One that has never worked, of another version for instance: the worker goes on without, and
     * tells why when it is ready. */
    strays_due(p);
}

static void answer_want_server(struct vgd_worker_process *p, const struct vgd_link_message *msg)
{
    const struct vgd_link_want_server *want = vgd_link_payload(msg, sizeof(*want));
    if (want == NULL || p->server_asked || !p->config.want_venus || p->gave_up_3d) {
        vgd_worker_process_kill(p, "a request for a render server that cannot be");
        return;
    }
    p->server_asked = true;
    struct vgd_link_server m = {0};
    VGD_AUTO_FD fd = -1;
    enum vgd_status st = vgd_render_server_start(p->server, want, &fd, m.why, sizeof(m.why));
    m.status = st;
    if (st != VGD_OK) {
        vgd_log(VGD_LOG_DEBUG, "server", "%s", m.why); /* the worker tells it back with READY */
        strays_due(p);                                 /* a child that could not become one */
    } else {
        m.why[0] = '\0';
    }
    if (vgd_link_send(p->link, VGD_LINK_SERVER, &m, sizeof(m), &fd, st == VGD_OK ? 1 : 0) !=
        VGD_OK) {
        vgd_worker_process_kill(p, "it takes no messages");
    }
}

static void accept_ready(struct vgd_worker_process *p, struct vgd_link_message *msg)
{
    const struct vgd_link_ready *m = vgd_link_payload(msg, sizeof(*m));
    if (m == NULL || m->num_capsets > 64 || m->choice.device_idx < -1) {
        vgd_worker_process_kill(p, "a READY that cannot be");
        return;
    }
    bool again = p->vault_used;
    p->ready = *m;
    /* Strings of a worker: ended here, printed by the log, which keeps control characters out. */
    p->ready.renderer[sizeof(p->ready.renderer) - 1] = '\0';
    p->ready.gpu_name[sizeof(p->ready.gpu_name) - 1] = '\0';
    p->ready.note[sizeof(p->ready.note) - 1] = '\0';
    p->ready.vulkan_name[sizeof(p->ready.vulkan_name) - 1] = '\0';
    p->ready.vulkan_note[sizeof(p->ready.vulkan_note) - 1] = '\0';
    p->ready.choice.render_node[sizeof(p->ready.choice.render_node) - 1] = '\0';
    bool want_gl = p->config.want_virgl && !p->gave_up_3d;
    bool want_vulkan = p->config.want_venus && !p->gave_up_3d;
    bool has_vulkan = p->ready.vulkan_name[0] != '\0';
    bool has_gl = p->ready.choice.platform != 0;
    /* What was asked for by name is there at the start or we do not start; later, a console without
     * 3D is better than a VM whose GPU is gone. */
    bool named = p->config.require_hardware || p->render_node[0] != '\0';
    if (want_gl && !has_gl && named && !p->was_ready) {
        fail(p, p->ready.note);
        return;
    }
    if (want_vulkan && !has_vulkan && named && !p->was_ready) {
        fail(p, p->ready.vulkan_note[0] != '\0' ? p->ready.vulkan_note : "no Vulkan on this host");
        return;
    }
    if (has_vulkan && vgd_render_server_pid(p->server) == 0) {
        vgd_worker_process_kill(p, "its render server is gone"); /* just now */
        return;
    }
    if (!has_vulkan) {
        vgd_render_server_end(p->server); /* it was of no use */
        strays_due(p);
    }
    p->was_ready = true;
    p->state = STATE_READY;
    p->ready_ns = vgd_now_ns();
    p->vault_used = true;
    vgd_timer_stop(p->timer);
    vgd_log(VGD_LOG_INFO, "worker", "worker %d ready: %s%s%s%s%s%s", (int)p->pid, p->ready.renderer,
            p->ready.gpu_name[0] != '\0' ? " on " : "", p->ready.gpu_name,
            p->ready.note[0] != '\0' ? " (" : "", p->ready.note,
            p->ready.note[0] != '\0' ? ")" : "");
    if (want_gl && !p->ready.has_3d) {
        vgd_log(VGD_LOG_WARNING, "worker", "no 3D on this host, 2D only: %s", p->ready.note);
    }
    if (has_vulkan) {
        vgd_log(VGD_LOG_INFO, "worker", "Vulkan on %s%s%s%s", p->ready.vulkan_name,
                p->ready.vulkan_note[0] != '\0' ? " (" : "", p->ready.vulkan_note,
                p->ready.vulkan_note[0] != '\0' ? ")" : "");
    } else if (want_vulkan) {
        vgd_log(VGD_LOG_WARNING, "worker", "no Vulkan for the guest: %s", p->ready.vulkan_note);
    }
    p->config.on_ready(p->config.user, &p->ready, again);
}

static void link_message(void *user, struct vgd_link_message *msg)
{
    struct vgd_worker_process *p = user;
    if (p->condemned) {
        return;
    }
    if (p->state == STATE_STARTING && msg->type == VGD_LINK_READY) {
        accept_ready(p, msg);
    } else if (p->state == STATE_STARTING && msg->type == VGD_LINK_WANT_SERVER) {
        answer_want_server(p, msg);
    } else if (p->state == STATE_READY && msg->type > VGD_LINK_READY &&
               msg->type != VGD_LINK_WANT_SERVER) {
        p->config.on_message(p->config.user, msg);
    } else {
        vgd_worker_process_kill(p, "a message out of turn");
    }
}

static void link_closed(void *user, enum vgd_status why)
{
    struct vgd_worker_process *p = user;
    if (why != VGD_CLOSED) {
        vgd_worker_process_kill(p, "it sent what is no message");
    } else if (p->pid != 0) {
        (void)kill(p->pid, SIGKILL); /* it is ending, or closed the link: either way it is over */
    }
}

/* In the child, between fork and exec: async-signal-safe calls only. */
static void become_worker(const struct vgd_worker_process *p, int link_fd, pid_t parent)
    __attribute__((noreturn));

static void become_worker(const struct vgd_worker_process *p, int link_fd, pid_t parent)
{
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(EXIT_EXEC_FAILED); /* the supervisor died before the line above */
    }
    if (link_fd == WORKER_LINK_FD) {
        (void)fcntl(link_fd, F_SETFD, 0);
    } else if (dup2(link_fd, WORKER_LINK_FD) < 0) {
        _exit(EXIT_EXEC_FAILED);
    }
    (void)close_range(WORKER_LINK_FD + 1, ~0u, 0); /* of whoever started us, without the flag */
    char *const argv[] = {"vgd-worker", "--link-fd", "3", NULL};
    (void)execv(p->program, argv);
    _exit(EXIT_EXEC_FAILED);
}

static bool spawn(struct vgd_worker_process *p)
{
    int fds[2];
    if (vgd_link_pair(fds) != VGD_OK) {
        return false;
    }
    VGD_AUTO_FD ours = fds[0];
    VGD_AUTO_FD theirs = fds[1];
    p->link = vgd_link_create(p->config.loop, &ours, link_message, link_closed, p);
    if (p->link == NULL) {
        return false;
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        become_worker(p, theirs, parent);
    }
    if (pid < 0) {
        return false;
    }
    p->pid = pid;
    p->pid_fd = pidfd_open(pid, 0);
    if (p->pid_fd >= 0) {
        (void)fcntl(p->pid_fd, F_SETFD, FD_CLOEXEC);
        p->pid_watch = vgd_loop_watch(p->config.loop, p->pid_fd, EPOLLIN, worker_exited, p);
    }
    return p->pid_watch != NULL;
}

static void say_hello(struct vgd_worker_process *p)
{
    struct vgd_link_hello hello = {
        .version = VGD_LINK_VERSION,
        .log_level = vgd_log_level(),
        .n_scanouts = p->config.n_scanouts,
        .want_virgl = p->config.want_virgl && !p->gave_up_3d,
        .want_venus = p->config.want_venus && !p->gave_up_3d,
        .window_bytes = p->config.window_bytes,
        .require_hardware = p->config.require_hardware,
        .strict_streams = p->config.strict_streams,
    };
    (void)snprintf(hello.render_node, sizeof(hello.render_node), "%s", p->render_node);
    /* The way the last one went saves the search; a named node is not for a worker to change. */
    if (p->ready.has_3d &&
        (p->render_node[0] == '\0' || strcmp(p->render_node, p->ready.choice.render_node) == 0)) {
        hello.choice = p->ready.choice;
        hello.vulkan = p->ready.vulkan;
    }
    int fds[2] = {p->vault_fd, p->config.frames_fd};
    if (vgd_link_send(p->link, VGD_LINK_HELLO, &hello, sizeof(hello), fds, 2) != VGD_OK) {
        vgd_worker_process_kill(p, "it cannot be greeted");
    }
}

static void reap(struct vgd_worker_process *p, siginfo_t *out_info)
{
    vgd_watch_remove(&p->pid_watch);
    vgd_fd_closep(&p->pid_fd);
    vgd_link_destroy(p->link);
    p->link = NULL;
    if (p->pid != 0) {
        while (waitid(P_PID, (id_t)p->pid, out_info, WEXITED) != 0 && errno == EINTR) {
        }
    }
    p->pid = 0;
    end_generation(p);
}

/* The first worker's failure is the operator's to mend. Later ones pass (a package being upgraded,
 * a host short of processes), and a VM depends on us: try again. */
static void fail_or_retry(struct vgd_worker_process *p, const char *why)
{
    if (!p->was_ready) {
        fail(p, why);
        return;
    }
    vgd_log(VGD_LOG_ERROR, "worker", "%s; trying again in %u ms", why, RETRY_MS);
    p->state = STATE_WAITING;
    vgd_timer_start(p->timer, RETRY_MS * NS_PER_MS);
}

static void start(struct vgd_worker_process *p)
{
    if (access(p->program, X_OK) != 0) {
        char why[512];
        (void)snprintf(why, sizeof(why), "%s cannot be run: %s; install vgd whole", p->program,
                       strerror(errno));
        fail_or_retry(p, why);
        return;
    }
    p->state = STATE_STARTING;
    if (!spawn(p)) {
        siginfo_t info;
        if (p->pid != 0) {
            (void)kill(p->pid, SIGKILL);
        }
        reap(p, &info);
        fail_or_retry(p, "no process, socket or memory for a worker");
        return;
    }
    p->starts_count++;
    p->server_asked = false;
    p->had_ring = false;
    p->condemned = false;
    vgd_timer_start(p->timer, VGD_READY_DEADLINE_MS * NS_PER_MS);
    say_hello(p);
}

static void plan_restart(struct vgd_worker_process *p, bool served)
{
    uint64_t now_ns = vgd_now_ns();
    bool counts = !served || now_ns - p->ready_ns < p->config.restart_window_ms * NS_PER_MS;
    p->counted_deaths = counts ? p->counted_deaths + 1 : 0;
    size_t step = p->counted_deaths == 0 ? 0 : p->counted_deaths - 1;
    if (step >= RESTART_DELAYS_COUNT) {
        step = RESTART_DELAYS_COUNT - 1;
    }
    if ((p->config.want_virgl || p->config.want_venus) && !p->gave_up_3d &&
        p->counted_deaths >= VGD_3D_DEATHS_MAX) {
        p->gave_up_3d = true;
        vgd_log(VGD_LOG_ERROR, "worker", "%u deaths in a row: going on without 3D",
                p->counted_deaths);
    }
    p->died_ns = now_ns;
    if (restart_delay_ms[step] == 0) {
        start(p);
        return;
    }
    vgd_log(VGD_LOG_WARNING, "worker", "death %u in a row: next worker in %u ms", p->counted_deaths,
            restart_delay_ms[step]);
    vgd_timer_start(p->timer, restart_delay_ms[step] * NS_PER_MS);
}

static void worker_exited(void *user, uint32_t events)
{
    (void)events;
    struct vgd_worker_process *p = user;
    pid_t pid = p->pid;
    siginfo_t info = {0};
    reap(p, &info);
    vgd_timer_stop(p->timer);
    if (p->state == STATE_FAILED) {
        return;
    }
    bool served = p->state == STATE_READY; /* and the session counts on it */
    p->state = STATE_WAITING;
    if (p->replacing) {
        p->replacing = false;
        vgd_log(VGD_LOG_INFO, "worker", "the guest was reset: a fresh worker follows worker %d",
                (int)pid);
        p->config.on_gone(p->config.user);
        (void)new_vault(p);
        start(p);
        return;
    }
    p->deaths_count++;
    bool exited = info.si_code == CLD_EXITED;
    vgd_log(VGD_LOG_WARNING, "worker", "worker %d %s %d%s", (int)pid,
            exited ? "ended with status" : "was ended by signal", info.si_status,
            served ? "" : " before it was ready");
    if (!served) { /* perhaps by the way that an earlier one told: the next one looks for itself */
        p->ready.choice = (struct vgd_link_gl_choice){0};
        p->ready.vulkan = (struct vgd_link_vk_choice){0};
    }
    if (served) {
        p->config.on_gone(p->config.user);
    } else if (exited && info.si_status == EXIT_EXEC_FAILED) {
        fail_or_retry(p, "vgd-worker could not be executed");
        return;
    }
    plan_restart(p, served);
}

struct vgd_worker_process *vgd_worker_process_create(const struct vgd_worker_process_config *config)
{
    struct vgd_worker_process *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return NULL;
    }
    p->config = *config;
    p->pid_fd = -1;
    p->vault_fd = -1;
    p->program = strdup(config->program);
    p->render_node = strdup(config->render_node);
    p->timer = vgd_timer_create(config->loop, timer_due, p);
    p->strays_timer = vgd_timer_create(config->loop, strays_due, p);
    p->server = vgd_render_server_create(&(struct vgd_render_server_config){
        .loop = config->loop,
        .program = config->render_server,
        .layer_dir = config->layer_dir,
        .on_exit = server_exited,
        .user = p,
    });
    if (p->program == NULL || p->render_node == NULL || p->timer == NULL ||
        p->strays_timer == NULL || p->server == NULL || !new_vault(p)) {
        vgd_worker_process_destroy(p);
        return NULL;
    }
    return p;
}

void vgd_worker_process_destroy(struct vgd_worker_process *p)
{
    if (p == NULL) {
        return;
    }
    if (p->pid != 0) {
        (void)kill(p->pid, SIGKILL);
        struct pollfd end = {.fd = p->pid_fd, .events = POLLIN};
        if (poll(&end, 1, WORKER_LAST_MS) == 0) {
            vgd_log(VGD_LOG_ERROR, "worker", "worker %d hangs in the kernel and is left behind",
                    (int)p->pid);
            p->pid = 0;
        }
    }
    siginfo_t info;
    if (p->server != NULL) {
        reap(p, &info);
        for (uint32_t i = 0; i < STRAYS_LAST_MS && end_strays(p) != 0; i++) {
            (void)usleep(1000);
        }
    }
    vgd_render_server_destroy(p->server);
    vgd_timer_destroy(&p->strays_timer);
    vgd_timer_destroy(&p->timer);
    vgd_vault_unmap(p->vault);
    vgd_fd_closep(&p->vault_fd);
    free(p->program);
    free(p->render_node);
    free(p);
}

void vgd_worker_process_start(struct vgd_worker_process *p)
{
    if (p->state == STATE_IDLE) {
        start(p);
    }
}

bool vgd_worker_process_ready(const struct vgd_worker_process *p)
{
    return p->state == STATE_READY;
}

bool vgd_worker_process_send(struct vgd_worker_process *p, enum vgd_link_type type,
                             const void *payload, size_t n_bytes, const int *fds, uint32_t n_fds)
{
    if (p->state != STATE_READY || p->condemned) {
        return false;
    }
    enum vgd_status st = vgd_link_send(p->link, type, payload, n_bytes, fds, n_fds);
    p->had_ring |= type == VGD_LINK_QUEUE_START;
    if (st != VGD_OK && st != VGD_CLOSED) {
        vgd_worker_process_kill(p, "it takes no messages");
    }
    return st == VGD_OK;
}

void vgd_worker_process_forget(struct vgd_worker_process *p)
{
    bool without_3d = p->gave_up_3d;
    p->gave_up_3d = false;
    p->counted_deaths = 0;
    if (p->pid == 0) {
        if (p->vault_used) {
            (void)new_vault(p); /* without: the next worker is told to reset what it finds */
        }
        return;
    }
    /* A driver and its libraries keep caches, and perhaps more, of what a guest did: a fresh
     * process has none of it, and is there long before the guest's driver is. */
    if (p->state == STATE_READY && (p->had_ring || without_3d)) {
        p->replacing = true;
        (void)kill(p->pid, SIGKILL);
    }
}

void vgd_worker_process_get_status(struct vgd_worker_process *p,
                                   struct vgd_worker_process_status *out)
{
    static const char *const names[] = {"idle", "starting", "ready", "waiting", "failed"};
    uint64_t answered_ns = p->vault->answered_ns;
    *out = (struct vgd_worker_process_status){
        .pid = p->pid,
        .server_pid = vgd_render_server_pid(p->server),
        .server_deaths_count = p->server_deaths_count,
        .state = names[p->state],
        .starts_count = p->starts_count,
        .deaths_count = p->deaths_count,
        .gave_up_3d = p->gave_up_3d,
        .ready = p->ready,
        .last_recovery_ns =
            p->died_ns != 0 && answered_ns > p->died_ns ? answered_ns - p->died_ns : 0,
    };
}

const struct vgd_vault *vgd_worker_process_vault(const struct vgd_worker_process *p)
{
    return p->vault;
}
