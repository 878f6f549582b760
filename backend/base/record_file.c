/* SPDX-License-Identifier: MIT */
#include "record_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fd.h"

#define DEV_NULL makedev(1, 3) /* Linux, Documentation/admin-guide/devices.txt */

static bool is_stream_socket(int fd)
{
    int type = 0;
    socklen_t len = sizeof(type);
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

static const char *what_is_wrong(int fd, bool *is_file)
{
    struct stat info;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &info) != 0) {
        return "not an open file";
    }
    if ((flags & O_PATH) != 0 || (flags & O_ACCMODE) == O_RDONLY) {
        return "it is not open for writing";
    }
    *is_file = S_ISREG(info.st_mode);
    if (*is_file) {
        if ((flags & O_ACCMODE) != O_RDWR) {
            return "it is not open for reading, too: that is needed to go on with it";
        }
        return info.st_size != 0 ? "it is not empty: give a new file" : NULL;
    }
    bool is_null = S_ISCHR(info.st_mode) && info.st_rdev == DEV_NULL;
    if (!is_null && !S_ISFIFO(info.st_mode) && !(S_ISSOCK(info.st_mode) && is_stream_socket(fd))) {
        return "it is neither a regular file, nor a pipe or stream socket, nor /dev/null";
    }
    return (flags & O_NONBLOCK) != 0 ? "it is not blocking" : NULL;
}

bool vgd_record_file_check(int fd, bool *can_resume, const char **why)
{
    bool is_file = false;
    const char *wrong = what_is_wrong(fd, &is_file);
    if (wrong != NULL) {
        *why = wrong;
        return false;
    }
    *can_resume = is_file;
    return true;
}

int vgd_record_file_open(const char *path, bool *out_created, const char **why)
{
    struct stat info = {0};
    VGD_AUTO_FD fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    *out_created = fd >= 0;
    if (fd < 0 && errno == EEXIST && stat(path, &info) == 0) {
        /* A pipe's reading end would never see us go if we held one, too. One that nobody reads
         * would keep us here: not blocking, until it is open. */
        int flags = S_ISREG(info.st_mode) ? O_RDWR : O_WRONLY | O_NONBLOCK;
        fd = open(path, flags | O_CLOEXEC | O_NOCTTY);
    }
    if (fd < 0) {
        *why = errno == ENXIO && S_ISFIFO(info.st_mode) ? "nobody reads from it" : strerror(errno);
        return -1;
    }
    bool can_resume;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0) {
        *why = strerror(errno);
        return -1;
    }
    return vgd_record_file_check(fd, &can_resume, why) ? vgd_fd_take(&fd) : -1;
}
