/* SPDX-License-Identifier: MIT */
/* Finding the vgd to ask, and asking it. */
#include "vgdctl.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "control.h"
#include "fd.h"

#define REPLY_TIMEOUT_S 15 /* longer than the end of a recording may take */
#define SOCKETS_MAX 64u

void (*vgdctl_before_complaint)(void);

void vgdctl_complain(const char *format, ...)
{
    va_list args;
    if (vgdctl_before_complaint != NULL) {
        vgdctl_before_complaint();
    }
    va_start(args, format);
    (void)fputs("vgdctl: ", stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
}

void vgdctl_put_clean(FILE *to, const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
        bool is_c1 = at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0; /* in UTF-8 */
        at += is_c1;
        (void)fputc(is_c1 || *at < ' ' || *at == 0x7f ? '?' : *at, to);
    }
}

/* --- Which vgd? --- */

/* Connected to @path, or -1 with errno. */
static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    VGD_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval timeout = {.tv_sec = REPLY_TIMEOUT_S};
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        return -1;
    }
    return vgd_fd_take(&fd);
}

static bool ends_in_sock(const char *name)
{
    size_t len = strlen(name);
    return len > 5 && strcmp(name + len - 5, ".sock") == 0;
}

/* Connected to the only live socket of the folder, or -1 and a complaint. */
static int connect_to_only(void)
{
    char dir_path[4096];
    if (vgd_control_dir(dir_path, sizeof(dir_path)) != VGD_OK) {
        vgdctl_complain("XDG_RUNTIME_DIR is not set; name the socket with --control PATH");
        return -1;
    }
    VGD_AUTO_FD found = -1;
    char *names[SOCKETS_MAX]; /* owned */
    size_t n_live = 0;
    DIR *dir = opendir(dir_path);
    struct dirent *entry;
    while (dir != NULL && n_live < SOCKETS_MAX && (entry = readdir(dir)) != NULL) {
        char path[sizeof(dir_path) + sizeof(entry->d_name) + 2];
        (void)snprintf(path, sizeof(path), "%s/%s", dir_path, entry->d_name);
        VGD_AUTO_FD fd = ends_in_sock(entry->d_name) ? connect_to(path) : -1;
        if (fd < 0) {
            continue; /* something else, or left by a vgd that was killed */
        }
        names[n_live] = strdup(path);
        if (names[n_live] == NULL) {
            break;
        }
        if (n_live++ == 0) {
            found = vgd_fd_take(&fd);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    if (n_live == 0) {
        vgdctl_complain("no vgd has a live control socket in %s; name one with --control PATH",
                        dir_path);
    } else if (n_live > 1) {
        vgdctl_complain("several vgd are running; name one with --control PATH:");
    }
    for (size_t i = 0; i < n_live; i++) {
        if (n_live > 1) {
            (void)fprintf(stderr, "  %s\n", names[i]);
        }
        free(names[i]);
    }
    return n_live == 1 ? vgd_fd_take(&found) : -1;
}

int vgdctl_connect(const struct vgdctl_args *args)
{
    if (args->control_path == NULL) {
        return connect_to_only();
    }
    int fd = connect_to(args->control_path);
    if (fd < 0) {
        vgdctl_complain("%s: %s", args->control_path, strerror(errno));
    }
    return fd;
}

/* --- One request and its reply. --- */

/* @passing: goes with the first byte; -1: none. */
static bool send_line(int fd, const char *line, int passing)
{
    size_t left = strlen(line);
    while (left > 0) {
        struct iovec iov = {.iov_base = (char *)(uintptr_t)line, .iov_len = left};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(sizeof(int))];
        } control = {0};
        if (passing >= 0) {
            msg.msg_control = control.bytes;
            msg.msg_controllen = sizeof(control.bytes);
            struct cmsghdr *head = CMSG_FIRSTHDR(&msg);
            head->cmsg_level = SOL_SOCKET;
            head->cmsg_type = SCM_RIGHTS;
            head->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(head), &passing, sizeof(int));
        }
        ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        passing = -1;
        line += n;
        left -= (size_t)n;
    }
    return true;
}

/* One recvmsg into @out; a descriptor that comes along replaces *@passed. */
static ssize_t receive(int fd, void *out, size_t out_bytes, int *passed)
{
    struct iovec iov = {.iov_base = out, .iov_len = out_bytes};
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof(control.bytes)};
    ssize_t n;
    do {
        n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    struct cmsghdr *head = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (head != NULL && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
        head->cmsg_len == CMSG_LEN(sizeof(int))) {
        vgd_fd_closep(passed);
        memcpy(passed, CMSG_DATA(head), sizeof(int));
    }
    return n;
}

struct json_object *vgdctl_ask(int fd, const char *request, int send_fd, const char *key,
                               int *passed, struct json_object **whole)
{
    static char reply[VGD_CONTROL_REPLY_BYTES_MAX + 1];
    size_t n_bytes = 0;
    VGD_AUTO_FD unwanted = -1;
    *whole = NULL;
    if (!send_line(fd, request, send_fd)) {
        vgdctl_complain("cannot send the request: %s", strerror(errno));
        return NULL;
    }
    do {
        ssize_t n = n_bytes < sizeof(reply) - 1
                        ? receive(fd, reply + n_bytes, sizeof(reply) - 1 - n_bytes,
                                  passed != NULL ? passed : &unwanted)
                        : 0;
        if (n <= 0) {
            vgdctl_complain("no reply: %s", n == 0 ? "vgd closed the connection" : strerror(errno));
            return NULL;
        }
        n_bytes += (size_t)n;
    } while (memchr(reply, '\n', n_bytes) == NULL);

    reply[n_bytes] = '\0';
    *whole = json_tokener_parse(reply);
    struct json_object *version = NULL, *value = NULL;
    if (!json_object_is_type(*whole, json_type_object) ||
        !json_object_object_get_ex(*whole, "v", &version) ||
        json_object_get_int64(version) != VGD_CONTROL_VERSION) {
        vgdctl_complain("the reply is not of version %d of the protocol", VGD_CONTROL_VERSION);
        return NULL;
    }
    if (json_object_object_get_ex(*whole, "error", &value)) {
        if (vgdctl_before_complaint != NULL) {
            vgdctl_before_complaint();
        }
        (void)fputs("vgdctl: vgd says: ", stderr);
        vgdctl_put_clean(stderr, value != NULL ? json_object_get_string(value) : "nothing");
        (void)fputc('\n', stderr);
        return NULL;
    }
    if (!json_object_object_get_ex(*whole, key, &value) || value == NULL) {
        vgdctl_complain("the reply has no \"%s\"", key);
        return NULL;
    }
    return value;
}

int64_t vgdctl_number(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    return json_object_object_get_ex(object, key, &value) &&
                   json_object_is_type(value, json_type_int)
               ? json_object_get_int64(value)
               : -1;
}

bool vgdctl_flush(void)
{
    if (fflush(stdout) != 0) {
        vgdctl_complain("cannot write: %s", strerror(errno));
        return false;
    }
    return true;
}

const char *vgdctl_kind(uint64_t capset_id, char *out, size_t out_bytes)
{
    static const char *const names[] = {"virgl", "virgl", "virgl2", NULL, "venus"};
    if (capset_id < sizeof(names) / sizeof(names[0]) && names[capset_id] != NULL) {
        return names[capset_id];
    }
    (void)snprintf(out, out_bytes, "capset %" PRIu64, capset_id);
    return out;
}
