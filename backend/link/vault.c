/* SPDX-License-Identifier: MIT */
#include "vault.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include "fd.h"

int vgd_vault_create(void)
{
    return vgd_memfd_create("vgd-vault", sizeof(struct vgd_vault));
}

struct vgd_vault *vgd_vault_map(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size < (off_t)sizeof(struct vgd_vault)) {
        return NULL;
    }
    void *at = mmap(NULL, sizeof(struct vgd_vault), PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_NORESERVE, fd, 0);
    return at == MAP_FAILED ? NULL : at;
}

void vgd_vault_unmap(struct vgd_vault *vault)
{
    if (vault != NULL) {
        (void)munmap(vault, sizeof(*vault));
    }
}

uint16_t vgd_vault_queue_base(const struct vgd_vault *vault, uint32_t queue_idx)
{
    const struct vgd_inflight *record = &vault->inflight[queue_idx];
    uint32_t base = (uint32_t)record->used_idx + record->lag;
    for (uint32_t i = 0; i < VGD_QUEUE_SIZE_MAX; i++) {
        base += record->entries[i].taken != 0;
    }
    return (uint16_t)base;
}

bool vgd_vault_queue_has_undone(const struct vgd_vault *vault, uint32_t queue_idx)
{
    return vault->inflight[queue_idx].queue_size != 0; /* vgd_virtqueue_stop */
}
