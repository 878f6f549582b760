/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control.h"

enum vgd_status vgd_control_dir(char *out, size_t out_bytes)
{
    const char *base = secure_getenv("XDG_RUNTIME_DIR");
    if (base == NULL || base[0] != '/') {
        if (geteuid() != 0) {
            return VGD_UNSUPPORTED;
        }
        base = "/run";
    }
    int n = snprintf(out, out_bytes, "%s/vgd", base);
    return n > 0 && (size_t)n < out_bytes ? VGD_OK : VGD_RANGE;
}

enum vgd_status vgd_control_default_path(char *out, size_t out_bytes)
{
    char dir[4096];
    enum vgd_status st = vgd_control_dir(dir, sizeof(dir));
    if (st != VGD_OK) {
        return st;
    }
    (void)mkdir(dir, 0700); /* what is there is looked at, whoever made it */
    struct stat info;
    if (lstat(dir, &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != geteuid() ||
        (info.st_mode & 0022) != 0) {
        return VGD_HOST_FAILED;
    }
    int n = snprintf(out, out_bytes, "%s/%ld.sock", dir, (long)getpid());
    return n > 0 && (size_t)n < out_bytes ? VGD_OK : VGD_RANGE;
}
