/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"
#include "fd.h"
#include "log.h"

/* Does anybody listen at @address? */
static bool is_live(const struct sockaddr_un *address)
{
    VGD_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
                       errno == EAGAIN); /* its queue is full */
}

static enum vgd_status bind_path(int fd, const struct sockaddr_un *address)
{
    const struct sockaddr *to = (const struct sockaddr *)address;
    (void)fchmod(fd, 0600); /* Linux gives the file the mode of the socket, so there is no moment
                               in which others could connect */
    if (bind(fd, to, sizeof(*address)) == 0) {
        return VGD_OK;
    }
    if (errno != EADDRINUSE) {
        return VGD_HOST_FAILED;
    }
    struct stat info;
    if (lstat(address->sun_path, &info) == 0 && !S_ISSOCK(info.st_mode)) {
        return VGD_RANGE;
    }
    if (is_live(address)) {
        return VGD_LIMIT;
    }
    if (unlink(address->sun_path) != 0 || bind(fd, to, sizeof(*address)) != 0) {
        return VGD_HOST_FAILED;
    }
    return VGD_OK;
}

enum vgd_status vgd_control_listen(const char *path, const char *who, int backlog,
                                   struct vgd_control_place *out, int *out_fd)
{
    struct vgd_control_place place = {.address.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(place.address.sun_path) || path[0] == '\0') {
        vgd_log(VGD_LOG_ERROR, who, "%s: a socket's path has 1 to %zu bytes", path,
                sizeof(place.address.sun_path) - 1);
        return VGD_RANGE;
    }
    memcpy(place.address.sun_path, path, strlen(path) + 1);
    VGD_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        vgd_log(VGD_LOG_ERROR, who, "no socket: %s", strerror(errno));
        return VGD_HOST_FAILED;
    }
    enum vgd_status st = bind_path(fd, &place.address);
    if (st != VGD_OK) {
        vgd_log(VGD_LOG_ERROR, who, "%s: %s", path,
                st == VGD_LIMIT   ? "another program listens there"
                : st == VGD_RANGE ? "exists and is not a socket"
                                  : strerror(errno));
        return st;
    }
    struct stat info;
    if (lstat(path, &info) != 0 || listen(fd, backlog) != 0) {
        /* Not `path`: with its sanitizers gcc 12 takes that to be NULL here. */
        vgd_log(VGD_LOG_ERROR, who, "%s: %s", place.address.sun_path, strerror(errno));
        (void)unlink(path);
        return VGD_HOST_FAILED;
    }
    place.dev = info.st_dev;
    place.ino = info.st_ino;
    *out = place;
    *out_fd = vgd_fd_take(&fd);
    return VGD_OK;
}

void vgd_control_unlink(const struct vgd_control_place *place)
{
    struct stat info;
    if (lstat(place->address.sun_path, &info) == 0 && info.st_dev == place->dev &&
        info.st_ino == place->ino) {
        (void)unlink(place->address.sun_path);
    }
}
