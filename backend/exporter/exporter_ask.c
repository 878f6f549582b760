/* SPDX-License-Identifier: MIT */
#include "exporter.h"

#include <dirent.h>
#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "control.h"
#include "fd.h"
#include "log.h"

#define NS_PER_MS 1000000u
static const char request[] = "{\"v\":1,\"cmd\":\"counters\"}\n";

/* One vgd being asked. */
struct ask {
    int fd; /* -1: no more is to come */
    char *reply;
    size_t reply_bytes;
};

static void name_set(char name[EXPORTER_NAME_BYTES], const char *text, size_t n_bytes)
{
    size_t n = 0;
    for (; n < n_bytes && n < EXPORTER_NAME_BYTES - 1; n++) {
        name[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
    }
    name[n] = '\0';
}

/* Name @vms[@at] by its socket: what stands before ".sock", or all of it where another VM has that
 * name already. False: that is taken, too. */
static bool name_vm(struct exporter_vm *vms, size_t at, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    size_t n_bytes = strlen(base);
    if (n_bytes > 5 && strcmp(base + n_bytes - 5, ".sock") == 0) {
        n_bytes -= 5;
    }
    name_set(vms[at].name, base, n_bytes);
    for (int again = 0; again < 2; again++) {
        size_t i = 0;
        while (i < at && strcmp(vms[i].name, vms[at].name) != 0) {
            i++;
        }
        if (i == at) {
            return true;
        }
        name_set(vms[at].name, path, strlen(path));
    }
    return false;
}

/* Send the request to @path. -1 with errno. */
static int begin(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    VGD_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(request) - 1) {
        return -1;
    }
    return vgd_fd_take(&fd);
}

static void add(struct exporter_vm *vms, struct ask *asks, size_t *n, const char *path,
                bool is_named)
{
    if (*n == EXPORTER_VMS_MAX) {
        return;
    }
    vms[*n] = (struct exporter_vm){0};
    asks[*n] = (struct ask){.fd = begin(path)};
    bool gone = asks[*n].fd < 0 && (errno == ECONNREFUSED || errno == ENOENT || errno == ENOTSOCK);
    if ((is_named || !gone) && name_vm(vms, *n, path)) {
        (*n)++;
    } else {
        vgd_fd_closep(&asks[*n].fd);
    }
}

static void add_folder(struct exporter_vm *vms, struct ask *asks, size_t *n)
{
    char dir_path[4096];
    if (vgd_control_dir(dir_path, sizeof(dir_path)) != VGD_OK) {
        return; /* said at the start */
    }
    DIR *dir = opendir(dir_path);
    struct dirent *entry;
    while (dir != NULL && *n < EXPORTER_VMS_MAX && (entry = readdir(dir)) != NULL) {
        char path[sizeof(dir_path) + sizeof(entry->d_name) + 2];
        size_t n_bytes = strlen(entry->d_name);
        if (n_bytes > 5 && strcmp(entry->d_name + n_bytes - 5, ".sock") == 0) {
            (void)snprintf(path, sizeof(path), "%s/%s", dir_path, entry->d_name);
            add(vms, asks, n, path, false);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
}

/* What the whole reply of one holds, or NULL. */
static struct json_object *counters_of(const struct ask *ask)
{
    struct json_object *whole = json_tokener_parse(ask->reply);
    struct json_object *version = NULL, *counters = NULL;
    if (!json_object_is_type(whole, json_type_object) ||
        !json_object_object_get_ex(whole, "v", &version) ||
        json_object_get_int64(version) != VGD_CONTROL_VERSION ||
        !json_object_object_get_ex(whole, "counters", &counters) ||
        !json_object_is_type(counters, json_type_object)) {
        counters = NULL;
    }
    counters = json_object_get(counters);
    (void)json_object_put(whole);
    return counters;
}

/* There is something to read: a part of the reply, all of it, or an end. */
static void advance(struct ask *ask, struct exporter_vm *vm)
{
    if (ask->reply == NULL) {
        ask->reply = malloc(VGD_CONTROL_REPLY_BYTES_MAX + 1);
    }
    ssize_t n = ask->reply == NULL
                    ? 0
                    : recv(ask->fd, ask->reply + ask->reply_bytes,
                           VGD_CONTROL_REPLY_BYTES_MAX - ask->reply_bytes, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n > 0) {
        ask->reply_bytes += (size_t)n;
        if (ask->reply[ask->reply_bytes - 1] != '\n' &&
            ask->reply_bytes < VGD_CONTROL_REPLY_BYTES_MAX) {
            return;
        }
        ask->reply[ask->reply_bytes] = '\0';
        vm->counters = counters_of(ask);
    }
    vgd_fd_closep(&ask->fd);
}

static void wait_for_all(struct ask *asks, struct exporter_vm *vms, size_t n)
{
    uint64_t end_ns = vgd_now_ns() + (uint64_t)EXPORTER_ANSWER_MS * NS_PER_MS;
    struct pollfd fds[EXPORTER_VMS_MAX];
    for (;;) {
        bool any = false;
        for (size_t i = 0; i < n; i++) {
            fds[i] = (struct pollfd){.fd = asks[i].fd, .events = POLLIN}; /* -1 is passed over */
            any = any || asks[i].fd >= 0;
        }
        uint64_t now_ns = vgd_now_ns();
        if (!any || now_ns >= end_ns) {
            return;
        }
        int ready = poll(fds, n, (int)((end_ns - now_ns) / NS_PER_MS) + 1);
        for (size_t i = 0; ready > 0 && i < n; i++) {
            if (fds[i].fd >= 0 && fds[i].revents != 0) {
                advance(&asks[i], &vms[i]);
            }
        }
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct exporter_vm *)a)->name, ((const struct exporter_vm *)b)->name);
}

size_t exporter_ask(const struct exporter_targets *targets, struct exporter_vm *out)
{
    struct ask asks[EXPORTER_VMS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < targets->n_paths; i++) {
        add(out, asks, &n, targets->paths[i], true);
    }
    if (targets->n_paths == 0) {
        add_folder(out, asks, &n);
    }
    wait_for_all(asks, out, n);
    for (size_t i = 0; i < n; i++) {
        vgd_fd_closep(&asks[i].fd);
        free(asks[i].reply);
    }
    qsort(out, n, sizeof(out[0]), by_name);
    return n;
}

void exporter_ask_end(struct exporter_vm *vms, size_t n_vms)
{
    for (size_t i = 0; i < n_vms; i++) {
        (void)json_object_put(vms[i].counters);
        vms[i].counters = NULL;
    }
}
