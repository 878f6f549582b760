/* SPDX-License-Identifier: MIT */
#include "guest_process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fd.h"
#include "log.h"

#define WORDS_MAX 64u
#define COMMAND_BYTES_MAX 4096u
#define START_DEADLINE_NS (5 * UINT64_C(1000000000))
#define CHILD_FILES 1024u /* descriptors, the usual soft limit */

static void sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&t, NULL);
}

/* Split in place; false when there are too many words or a quote stays open. */
static bool split_words(char *text, char *words[WORDS_MAX + 1], uint32_t *out_n)
{
    uint32_t n = 0;
    char *in = text;
    char *out = text;
    for (;;) {
        while (*in == ' ' || *in == '\t' || *in == '\n') {
            in++;
        }
        if (*in == '\0') {
            break;
        }
        if (n == WORDS_MAX) {
            return false;
        }
        words[n++] = out;
        char quote = '\0';
        while (*in != '\0' && (quote != '\0' || (*in != ' ' && *in != '\t' && *in != '\n'))) {
            if (quote != '\0' && *in == quote) {
                quote = '\0';
            } else if (quote == '\0' && (*in == '\'' || *in == '"')) {
                quote = *in;
            } else if (quote != '\'' && *in == '\\' && in[1] != '\0') {
                *out++ = *++in;
            } else {
                *out++ = *in;
            }
            in++;
        }
        if (quote != '\0') {
            return false;
        }
        if (*in != '\0') {
            in++;
        }
        *out++ = '\0';
    }
    words[n] = NULL;
    *out_n = n;
    return n > 0;
}

/* Copy @command with {fd} and {socket} replaced. False when it does not fit. */
static bool expand(const char *command, int fd, const char *path, char *out, size_t n_bytes)
{
    size_t used = 0;
    while (*command != '\0') {
        char piece[128];
        if (strncmp(command, "{fd}", 4) == 0) {
            (void)snprintf(piece, sizeof(piece), "%d", fd);
            command += 4;
        } else if (strncmp(command, "{socket}", 8) == 0) {
            (void)snprintf(piece, sizeof(piece), "%s", path);
            command += 8;
        } else {
            piece[0] = *command++;
            piece[1] = '\0';
        }
        size_t len = strlen(piece);
        if (used + len + 1 > n_bytes) {
            return false;
        }
        memcpy(out + used, piece, len);
        used += len;
    }
    out[used] = '\0';
    return true;
}

static bool is_assignment(const char *word)
{
    const char *at = word;
    while ((*at >= 'A' && *at <= 'Z') || (*at >= 'a' && *at <= 'z') || *at == '_' ||
           (at > word && *at >= '0' && *at <= '9')) {
        at++;
    }
    return at > word && *at == '=';
}

/* In the child; never returns. */
static void run_child(char **words, int keep_fd, int log_fd, pid_t parent)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(127);
    }
    (void)signal(SIGPIPE, SIG_DFL);
    sigset_t none; /* who reads signals by a descriptor has them blocked */
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > CHILD_FILES) {
        files.rlim_cur = CHILD_FILES;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)dup2(null_fd, 0);
    int out_fd = log_fd >= 0 ? log_fd : 2;
    (void)dup2(out_fd, 1);
    if (out_fd != 2) {
        (void)dup2(out_fd, 2);
    }
    if (keep_fd >= 0) {
        (void)fcntl(keep_fd, F_SETFD, 0);
    }
    while (*words != NULL && is_assignment(*words)) {
        (void)putenv(*words++);
    }
    if (*words != NULL) {
        (void)execvp(*words, words);
        (void)fprintf(stderr, "cannot run %s: %s\n", *words, strerror(errno));
    }
    _exit(127);
}

int vgd_guest_connect(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(addr.sun_path)) {
        return -1;
    }
    memcpy(addr.sun_path, path, strlen(path) + 1);
    uint64_t deadline_ns = vgd_now_ns() + START_DEADLINE_NS;
    do {
        VGD_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            return -1;
        }
        if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0) {
            return vgd_fd_take(&fd);
        }
        sleep_ms(5);
    } while (vgd_now_ns() < deadline_ns);
    return -1;
}

static void forget_dir(struct vgd_guest_process *p)
{
    if (p->dir[0] != '\0') {
        (void)unlink(p->socket_path);
        (void)rmdir(p->dir);
        p->dir[0] = '\0';
    }
}

enum vgd_status vgd_guest_process_start(const char *command, int log_fd,
                                        struct vgd_guest_process *out)
{
    struct vgd_guest_process p = {.socket = -1};
    bool by_fd = strstr(command, "{fd}") != NULL;
    bool by_path = strstr(command, "{socket}") != NULL;
    if (by_fd == by_path) {
        return VGD_RANGE;
    }
    VGD_AUTO_FD theirs = -1;
    VGD_AUTO_FD ours = -1;
    if (by_fd) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
            return VGD_HOST_FAILED;
        }
        ours = pair[0];
        theirs = pair[1];
    } else {
        (void)snprintf(p.dir, sizeof(p.dir), "/tmp/vgd-guest-XXXXXX");
        if (mkdtemp(p.dir) == NULL) {
            return VGD_HOST_FAILED;
        }
        (void)snprintf(p.socket_path, sizeof(p.socket_path), "%s/sock", p.dir);
    }
    char text[COMMAND_BYTES_MAX];
    char *words[WORDS_MAX + 1];
    uint32_t n_words;
    if (!expand(command, theirs, p.socket_path, text, sizeof(text)) ||
        !split_words(text, words, &n_words)) {
        forget_dir(&p);
        return VGD_RANGE;
    }
    pid_t parent = getpid();
    p.pid = fork();
    if (p.pid == 0) {
        run_child(words, theirs, log_fd, parent);
    }
    if (p.pid < 0) {
        forget_dir(&p);
        return VGD_HOST_FAILED;
    }
    if (by_path) {
        uint64_t deadline_ns = vgd_now_ns() + START_DEADLINE_NS;
        while (access(p.socket_path, F_OK) != 0 && vgd_now_ns() < deadline_ns &&
               vgd_guest_process_alive(&p)) {
            sleep_ms(2);
        }
        if (p.pid != 0 && access(p.socket_path, F_OK) == 0) {
            ours = vgd_guest_connect(p.socket_path);
        }
        if (ours < 0) {
            (void)vgd_guest_process_stop(&p);
            return VGD_HOST_FAILED;
        }
    }
    p.socket = vgd_fd_take(&ours);
    *out = p;
    return VGD_OK;
}

bool vgd_guest_process_alive(struct vgd_guest_process *p)
{
    if (p->pid == 0) {
        return false;
    }
    pid_t got = waitpid(p->pid, &p->wait_status, WNOHANG);
    if (got == p->pid) {
        p->pid = 0;
        p->exited = true;
    }
    return p->pid != 0;
}

bool vgd_guest_process_wait(struct vgd_guest_process *p, int timeout_ms)
{
    uint64_t deadline_ns = vgd_now_ns() + (uint64_t)timeout_ms * 1000000;
    while (vgd_guest_process_alive(p)) {
        if (vgd_now_ns() >= deadline_ns) {
            return false;
        }
        sleep_ms(1);
    }
    return true;
}

bool vgd_guest_process_stop(struct vgd_guest_process *p)
{
    bool by_itself = true;
    vgd_fd_closep(&p->socket);
    if (!vgd_guest_process_wait(p, 1500)) {
        (void)kill(p->pid, SIGTERM);
        if (!vgd_guest_process_wait(p, 1500)) {
            by_itself = false;
            (void)kill(p->pid, SIGKILL);
            (void)vgd_guest_process_wait(p, 5000);
        }
    }
    forget_dir(p);
    return by_itself;
}

/* Parent and name of process @pid; false when it is gone. */
static bool read_stat(pid_t pid, pid_t *out_parent, char name[64], char *out_state)
{
    char path[64];
    char text[512];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    VGD_AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t got = read(fd, text, sizeof(text) - 1);
    if (got <= 0) {
        return false;
    }
    text[got] = '\0';
    char *open_at = strchr(text, '(');
    char *close_at = strrchr(text, ')');
    if (open_at == NULL || close_at == NULL || close_at < open_at) {
        return false;
    }
    size_t len = (size_t)(close_at - open_at - 1);
    if (len > 63) {
        len = 63;
    }
    memcpy(name, open_at + 1, len);
    name[len] = '\0';
    int parent = 0;
    if (sscanf(close_at + 1, " %c %d", out_state, &parent) != 2) {
        return false;
    }
    *out_parent = parent;
    return true;
}

static uint32_t walk_children(pid_t parent, const char *name, pid_t *out_first)
{
    uint32_t n = 0;
    DIR *dir = opendir("/proc");
    if (dir == NULL) {
        return 0;
    }
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        pid_t its_parent;
        char its_name[64];
        char state;
        if (pid <= 0 || !read_stat(pid, &its_parent, its_name, &state) || its_parent != parent ||
            state == 'Z') {
            continue;
        }
        if (name == NULL || strcmp(name, its_name) == 0) {
            if (n == 0 && out_first != NULL) {
                *out_first = pid;
            }
            n++;
        }
    }
    (void)closedir(dir);
    return n;
}

uint32_t vgd_guest_descendants(pid_t parent, pid_t *out_pids, uint32_t max)
{
    uint32_t n = 0;
    DIR *dir = opendir("/proc");
    if (dir == NULL) {
        return 0;
    }
    /* Generation by generation: whoever's parent is the parent, or is in the list already. */
    for (uint32_t before = UINT32_MAX; before != n && n < max;) {
        before = n;
        rewinddir(dir);
        struct dirent *entry;
        while (n < max && (entry = readdir(dir)) != NULL) {
            pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
            pid_t its_parent;
            char its_name[64];
            char state;
            if (pid <= 0 || !read_stat(pid, &its_parent, its_name, &state) || state == 'Z') {
                continue;
            }
            bool ours = its_parent == parent;
            bool known = false;
            for (uint32_t i = 0; i < n; i++) {
                ours = ours || out_pids[i] == its_parent;
                known = known || out_pids[i] == pid;
            }
            if (ours && !known) {
                out_pids[n++] = pid;
            }
        }
    }
    (void)closedir(dir);
    return n;
}

bool vgd_guest_process_name(pid_t pid, char out_name[64])
{
    pid_t parent;
    char state;
    return read_stat(pid, &parent, out_name, &state);
}

int vgd_guest_mapping_count(pid_t pid)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return -1;
    }
    int n = 0;
    for (int c = fgetc(file); c != EOF; c = fgetc(file)) {
        n += c == '\n';
    }
    (void)fclose(file);
    return n;
}

void vgd_guest_raise_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
}

pid_t vgd_guest_child_named(pid_t parent, const char *name)
{
    pid_t found = 0;
    (void)walk_children(parent, name, &found);
    return found;
}

uint32_t vgd_guest_child_count(pid_t parent)
{
    return walk_children(parent, NULL, NULL);
}

int vgd_guest_fd_count(pid_t pid)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return -1;
    }
    int n = 0;
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        n += entry->d_name[0] != '.';
    }
    (void)closedir(dir);
    return n;
}

int64_t vgd_guest_private_dirty_kib(pid_t pid)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return -1;
    }
    char line[256];
    int64_t kib = -1;
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "Private_Dirty:", 14) == 0) {
            kib = strtol(line + 14, NULL, 10);
            break;
        }
    }
    (void)fclose(file);
    return kib;
}

int64_t vgd_guest_cpu_ms(pid_t pid)
{
    char path[64];
    char text[1024];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    VGD_AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    text[got > 0 ? got : 0] = '\0';
    const char *at = strrchr(text, ')'); /* a name may hold anything, brackets too */
    long user = 0;
    long kernel = 0;
    if (at == NULL || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user,
                             &kernel) != 2) {
        return 0;
    }
    return (int64_t)(user + kernel) * 1000 / sysconf(_SC_CLK_TCK);
}
