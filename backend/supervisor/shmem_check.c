/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <unistd.h>

#include "fd.h"
#include "shmem.h"

bool vgd_shmem_range_ok(uint64_t size_bytes, uint64_t offset_bytes, uint64_t len_bytes)
{
    const uint64_t rest = VGD_SHMEM_ALIGNMENT_BYTES - 1;
    return len_bytes != 0 && ((offset_bytes | len_bytes) & rest) == 0 &&
           offset_bytes <= size_bytes && len_bytes <= size_bytes - offset_bytes;
}

enum vgd_status vgd_shmem_file_check(int fd, uint64_t file_offset_bytes, uint64_t len_bytes,
                                     const char **why)
{
    int flags = fcntl(fd, F_GETFL);
    int seals = fcntl(fd, F_GET_SEALS); /* -1: a dma-buf has none */
    *why = "not a memory file or a dma-buf";
    /* Not a file on a disk, which whoever may write to it can make shorter. */
    if (flags < 0 || (flags & O_PATH) != 0 || vgd_fd_kind(fd) == VGD_FD_OTHER) {
        return VGD_RANGE;
    }
    *why = "not open for reading and writing";
    if ((flags & O_ACCMODE) != O_RDWR) {
        return VGD_RANGE;
    }
    /* A mapped page behind the end of a file is SIGBUS for whoever touches it, and that would be
     * the VMM. virglrenderer and our layer seal by themselves; a dma-buf keeps its size. */
    *why = "a memory file that can shrink";
    if (seals >= 0 && (seals & F_SEAL_SHRINK) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
        return VGD_RANGE;
    }
    *why = "a memory file that cannot be mapped for writing";
    if (seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) {
        return VGD_RANGE;
    }
    /* Only now, when it cannot change any more. What a VMM finds by lseek: dma-bufs have no st_size
     * on older kernels. */
    off_t end = lseek(fd, 0, SEEK_END);
    *why = "shorter than the range, or not seekable";
    if (end < 0 || file_offset_bytes % VGD_SHMEM_ALIGNMENT_BYTES != 0 ||
        file_offset_bytes > (uint64_t)end || len_bytes > (uint64_t)end - file_offset_bytes) {
        return VGD_RANGE;
    }
    *why = "";
    return VGD_OK;
}
