// The test guest's process 1: makes the root writable, loads the GPU driver, and runs what the host asks for.
//
// The host talks to it over a virtio-serial port named "vgd.exec", in frames, little endian:
//   u32 payload length, u32 id, u8 type, payload
// To the guest:  'R' run: u32 argc, u32 envc, then argc + envc + 1 strings (arguments, environment, directory)
//                'I' bytes for standard input, none = end of file     'K' u32 signal for the process group
//                'S' u32: 0 power off, 1 reboot at once, without telling the device anything
// To the host:   'O' / 'E' standard output and error   'X' u32 exit status, u32 signal   'F' u32 errno: did not start
//                the hello, sent once at start: 16 bytes of magic where no frame can begin (length 0xffffffff)
// The agent never blocks on a command's input: it queues it, so that a command that only writes cannot lock both up.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_COMMANDS 64
#define MAX_FRAME_BYTES (1u << 20)
static const char hello[] = "\xff\xff\xff\xffvgd-agent-01";

struct command {
    uint32_t id;
    pid_t pid; // 0: the slot is free
    int in, out, err;
    char *queued; // for standard input
    size_t queued_bytes;
    bool in_ends;
};
static struct command commands[MAX_COMMANDS];
static int port = -1;

static void complain(const char *what)
{
    fprintf(stderr, "vgd-agent: %s: %s\n", what, strerror(errno));
}

static void try_mount(const char *what, const char *where, const char *type, unsigned long flags, const char *options)
{
    if (mount(what, where, type, flags, options) != 0 && errno != EBUSY) {
        complain(where);
    }
}

static void load_modules(const char *list)
{
    FILE *f = fopen(list, "re");
    char path[512];
    while (f != NULL && fgets(path, sizeof(path), f) != NULL) {
        path[strcspn(path, "\n")] = 0;
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)) {
            complain(path);
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    if (f != NULL) {
        fclose(f);
    }
}

// In the small first root that QEMU loads with the kernel: gets the modules of 9p, and goes over to the host's folder.
static void leave_first_root(void)
{
    try_mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=755");
    load_modules("/modules.9p");
    try_mount("vgdroot", "/host", "9p", MS_RDONLY, "trans=virtio,version=9p2000.L,msize=524288,cache=loose");
    umount("/dev");
    if (chdir("/host") != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 || chroot(".") != 0 || chdir("/") != 0) {
        complain("the host's folder by 9p");
    }
}

static void become_init(void)
{
    if (access("/modules.9p", F_OK) == 0) {
        leave_first_root();
    }
    try_mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=755");
    int console = open("/dev/console", O_RDWR);
    for (int fd = 0; console >= 0 && fd < 3; fd++) {
        dup2(console, fd);
    }
    if (console > 2) {
        close(console);
    }
    load_modules("/vgd/guest/modules.early");
    // The host's folder stays as it is: writes go to memory.
    try_mount("tmpfs", "/vgd/overlay", "tmpfs", 0, "size=50%");
    mkdir("/vgd/overlay/upper", 0755);
    mkdir("/vgd/overlay/work", 0755);
    mkdir("/vgd/overlay/root", 0755);
    if (mount("overlay", "/vgd/overlay/root", "overlay", 0,
              "lowerdir=/,upperdir=/vgd/overlay/upper,workdir=/vgd/overlay/work") != 0) {
        complain("overlay");
    }
    // overlayfs cannot look into mounts below the shared folder: bind those by hand.
    static const char *const below[] = {"guest", "src", "build"};
    try_mount("tmpfs", "/vgd/overlay/root/vgd", "tmpfs", 0, "mode=755");
    for (size_t i = 0; i < sizeof(below) / sizeof(*below); i++) {
        char from[64], to[64];
        snprintf(from, sizeof(from), "/vgd/%s", below[i]);
        snprintf(to, sizeof(to), "/vgd/overlay/root/vgd/%s", below[i]);
        mkdir(to, 0755);
        try_mount(from, to, NULL, MS_BIND, NULL);
    }
    if (chdir("/vgd/overlay/root") != 0 || chroot(".") != 0 || chdir("/") != 0) {
        complain("chroot");
    }
    try_mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=755");
    try_mount("proc", "/proc", "proc", 0, NULL);
    try_mount("sysfs", "/sys", "sysfs", 0, NULL);
    try_mount("tmpfs", "/tmp", "tmpfs", 0, "mode=1777");
    try_mount("tmpfs", "/run", "tmpfs", 0, "mode=755");
    mkdir("/dev/shm", 01777);
    mkdir("/dev/pts", 0755);
    try_mount("tmpfs", "/dev/shm", "tmpfs", 0, "mode=1777");
    try_mount("devpts", "/dev/pts", "devpts", 0, "ptmxmode=666");
    try_mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL);
    if (sethostname("guest", 5) != 0) {
        complain("sethostname");
    }
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    if (s >= 0) {
        ioctl(s, SIOCSIFFLAGS, &lo);
        close(s);
    }
    load_modules("/vgd/guest/modules");
}

static int open_port(void)
{
    for (int tries = 0; tries < 500; tries++) {
        DIR *dir = opendir("/sys/class/virtio-ports");
        struct dirent *e;
        while (dir != NULL && (e = readdir(dir)) != NULL) {
            char path[300], name[32] = "";
            snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", e->d_name);
            FILE *f = fopen(path, "re");
            if (f == NULL) {
                continue;
            }
            bool ours = fgets(name, sizeof(name), f) != NULL && strcmp(name, "vgd.exec\n") == 0;
            fclose(f);
            if (ours) {
                snprintf(path, sizeof(path), "/dev/%s", e->d_name);
                int fd = open(path, O_RDWR | O_CLOEXEC);
                if (fd >= 0) {
                    closedir(dir);
                    return fd;
                }
            }
        }
        if (dir != NULL) {
            closedir(dir);
        }
        usleep(10000);
    }
    return -1;
}

static void write_all(const void *data, size_t n_bytes)
{
    const char *pos = data;
    while (n_bytes > 0) {
        ssize_t n = write(port, pos, n_bytes);
        if (n > 0) {
            pos += n;
            n_bytes -= (size_t)n;
        } else if (errno != EINTR && errno != EAGAIN) {
            usleep(10000); // the host is away: it may come back
        }
    }
}

static void put_le32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (unsigned char)(v >> (8 * i));
    }
}

static uint32_t get_le32(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void send_frame(uint32_t id, char type, const void *payload, uint32_t n_bytes)
{
    unsigned char head[9];
    put_le32(head, n_bytes);
    put_le32(head + 4, id);
    head[8] = (unsigned char)type;
    write_all(head, sizeof(head));
    write_all(payload, n_bytes);
}

static struct command *find(uint32_t id)
{
    for (int i = 0; i < MAX_COMMANDS; i++) {
        if (commands[i].pid != 0 && commands[i].id == id) {
            return &commands[i];
        }
    }
    return NULL;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

static void send_failure(uint32_t id, int error)
{
    unsigned char p[4];
    put_le32(p, (uint32_t)error);
    send_frame(id, 'F', p, sizeof(p));
}

static void child(char **argv, char **env, const char *dir, const int *fds, int report)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    for (int i = 0; i < 3; i++) {
        dup2(fds[i], i);
    }
    clearenv();
    putenv("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    putenv("HOME=/root");
    putenv("XDG_RUNTIME_DIR=/run");
    putenv("LC_ALL=C.UTF-8");
    putenv("TERM=dumb");
    while (*env != NULL) {
        putenv(*env++);
    }
    if (chdir(*dir ? dir : "/root") == 0) {
        execvp(argv[0], argv);
    }
    int error = errno;
    (void)!write(report, &error, sizeof(error));
    _exit(127);
}

static void run(uint32_t id, char *payload, uint32_t n_bytes)
{
    struct command *c = NULL;
    for (int i = 0; i < MAX_COMMANDS && c == NULL; i++) {
        c = commands[i].pid == 0 ? &commands[i] : NULL;
    }
    uint32_t argc = n_bytes >= 8 ? get_le32((unsigned char *)payload) : 0;
    uint32_t envc = n_bytes >= 8 ? get_le32((unsigned char *)payload + 4) : 0;
    if (c == NULL || argc == 0 || argc > 4096 || envc > 4096) {
        send_failure(id, c == NULL ? EAGAIN : EINVAL);
        return;
    }
    char **strings = calloc(argc + envc + 3, sizeof(char *));
    char *pos = payload + 8, *end = payload + n_bytes; // the reader put a NUL after the payload
    char *dir = pos;
    for (uint32_t i = 0; i < argc + envc + 1; i++) {
        char *s = pos < end ? pos : end;
        pos = s + strlen(s) + 1;
        if (i < argc) {
            strings[i] = s;
        } else if (i < argc + envc) {
            strings[i + 1] = s;
        } else {
            dir = s;
        }
    }
    int in[2], out[2], err[2], report[2];
    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC) || pipe2(report, O_CLOEXEC)) {
        send_failure(id, errno);
        free(strings);
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        child(strings, strings + argc + 1, dir, (int[]){in[0], out[1], err[1]}, report[1]);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    close(report[1]);
    int error = 0;
    ssize_t n = read(report[0], &error, sizeof(error)); // ends with the exec
    close(report[0]);
    free(strings);
    if (pid < 0 || n == (ssize_t)sizeof(error)) {
        send_failure(id, pid < 0 ? EAGAIN : error); // SIGCHLD reaps the pid, which no slot names
        close(in[1]);
        close(out[0]);
        close(err[0]);
        return;
    }
    fcntl(in[1], F_SETFL, O_NONBLOCK);
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(err[0], F_SETFL, O_NONBLOCK);
    *c = (struct command){.id = id, .pid = pid, .in = in[1], .out = out[0], .err = err[0]};
}

static void feed(struct command *c)
{
    while (c->in >= 0 && c->queued_bytes > 0) {
        ssize_t n = write(c->in, c->queued, c->queued_bytes);
        if (n < 0) {
            if (errno == EAGAIN) {
                return;
            }
            n = (ssize_t)c->queued_bytes; // nobody reads any more
        }
        c->queued_bytes -= (size_t)n;
        memmove(c->queued, c->queued + n, c->queued_bytes);
    }
    if (c->in_ends) {
        close_fd(&c->in);
    }
}

static bool drain(struct command *c, int *fd, char type)
{
    static char buf[65536];
    ssize_t n = read(*fd, buf, sizeof(buf));
    if (n > 0) {
        send_frame(c->id, type, buf, (uint32_t)n);
        return true;
    }
    if (n == 0 || errno != EAGAIN) {
        close_fd(fd);
    }
    return false;
}

static void reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (int i = 0; i < MAX_COMMANDS; i++) {
            struct command *c = &commands[i];
            if (c->pid != pid) {
                continue;
            }
            // What it wrote is in the pipes; what its children may write later is not waited for.
            while (c->out >= 0 && drain(c, &c->out, 'O')) {
            }
            while (c->err >= 0 && drain(c, &c->err, 'E')) {
            }
            unsigned char p[8];
            put_le32(p, WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status) : 0);
            put_le32(p + 4, WIFSIGNALED(status) ? (uint32_t)WTERMSIG(status) : 0);
            send_frame(c->id, 'X', p, sizeof(p));
            close_fd(&c->in);
            close_fd(&c->out);
            close_fd(&c->err);
            free(c->queued);
            *c = (struct command){.in = -1, .out = -1, .err = -1};
        }
    }
}

static void handle(uint32_t id, char type, char *payload, uint32_t n_bytes)
{
    struct command *c = find(id);
    if (type == 'R') {
        run(id, payload, n_bytes);
    } else if (type == 'S') {
        sync();
        reboot(n_bytes >= 4 && payload[0] ? RB_AUTOBOOT : RB_POWER_OFF);
    } else if (type == 'K' && c != NULL && n_bytes >= 4) {
        kill(-c->pid, (int)get_le32((unsigned char *)payload));
    } else if (type == 'I' && c != NULL) {
        char *grown = realloc(c->queued, c->queued_bytes + n_bytes + 1);
        if (grown != NULL) {
            memcpy(grown + c->queued_bytes, payload, n_bytes);
            c->queued = grown;
            c->queued_bytes += n_bytes;
        }
        c->in_ends = n_bytes == 0;
        feed(c);
    }
}

// Frames come in pieces: what has arrived of the next one is kept here.
static void take_input(void)
{
    static char buf[MAX_FRAME_BYTES + 16];
    static size_t have;
    ssize_t n = read(port, buf + have, sizeof(buf) - 1 - have);
    if (n <= 0) {
        usleep(10000); // 0: the host has closed its end
        return;
    }
    have += (size_t)n;
    size_t pos = 0;
    while (have - pos >= 9) {
        uint32_t len = get_le32((unsigned char *)buf + pos);
        if (len > MAX_FRAME_BYTES) {
            have = pos = 0; // not a frame: start afresh
            break;
        }
        if (have - pos < 9 + (size_t)len) {
            break;
        }
        char *payload = buf + pos + 9;
        char after = payload[len];
        payload[len] = 0;
        handle(get_le32((unsigned char *)buf + pos + 4), buf[pos + 8], payload, len);
        payload[len] = after;
        pos += 9 + (size_t)len;
    }
    have -= pos;
    memmove(buf, buf + pos, have);
}

int main(void)
{
    if (getpid() == 1) {
        become_init();
    }
    for (int i = 0; i < MAX_COMMANDS; i++) {
        commands[i] = (struct command){.in = -1, .out = -1, .err = -1};
    }
    signal(SIGPIPE, SIG_IGN);
    sigset_t chld;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, NULL);
    int sigfd = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
    port = open_port();
    if (port < 0) {
        errno = ENODEV;
        complain("the host's port vgd.exec");
        for (;;) {
            pause();
        }
    }
    write_all(hello, sizeof(hello) - 1);
    for (;;) {
        struct pollfd fds[2 + 3 * MAX_COMMANDS];
        fds[0] = (struct pollfd){.fd = port, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = sigfd, .events = POLLIN};
        for (int i = 0; i < MAX_COMMANDS; i++) {
            struct command *c = &commands[i];
            fds[2 + 3 * i] = (struct pollfd){.fd = c->queued_bytes > 0 ? c->in : -1, .events = POLLOUT};
            fds[3 + 3 * i] = (struct pollfd){.fd = c->out, .events = POLLIN};
            fds[4 + 3 * i] = (struct pollfd){.fd = c->err, .events = POLLIN};
        }
        if (poll(fds, 2 + 3 * MAX_COMMANDS, -1) < 0) {
            continue;
        }
        for (int i = 0; i < MAX_COMMANDS; i++) {
            struct command *c = &commands[i];
            if (fds[2 + 3 * i].revents && c->in >= 0) {
                feed(c);
            }
            if (fds[3 + 3 * i].revents && c->out >= 0) {
                drain(c, &c->out, 'O');
            }
            if (fds[4 + 3 * i].revents && c->err >= 0) {
                drain(c, &c->err, 'E');
            }
        }
        if (fds[1].revents) {
            struct signalfd_siginfo info;
            while (read(sigfd, &info, sizeof(info)) > 0) {
            }
            reap();
        }
        if (fds[0].revents & POLLIN) {
            take_input();
        } else if (fds[0].revents) {
            usleep(10000);
        }
    }
}
