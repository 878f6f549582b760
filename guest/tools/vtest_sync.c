/* SPDX-License-Identifier: MIT */
/* Syncs: numbers that grow, and waits for them, each with a descriptor of its own. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "fd.h"
#include "vtest_priv.h"

#define NS_PER_MS 1000000u

struct wait_entry {
    struct vtest_sync *sync; /* with a reference; NULL: reached */
    uint64_t value;
};

struct vtest_wait {
    struct vtest_wait *next;
    int fd;
    bool any;
    uint64_t until_ns; /* then the client has given up */
    uint32_t n_entries, n_left;
    struct wait_entry entries[];
};

struct vtest_sync *vtest_sync_find(struct vtest_client *client, uint32_t id)
{
    return vgd_idmap_find(&client->syncs, id);
}

void vtest_sync_unref(struct vtest_sync *sync)
{
    if (sync != NULL && --sync->refs == 0) {
        free(sync);
    }
}

void vtest_sync_create(struct vtest_client *client, uint64_t value)
{
    struct vtest_sync *sync = calloc(1, sizeof(*sync));
    if (sync == NULL || client->syncs.used_count >= VGD_VTEST_SYNCS_MAX) {
        free(sync);
        vtest_client_drop(client, "it has too many syncs");
        return;
    }
    sync->refs = 1;
    sync->value = value;
    while (client->next_sync_id == 0 || vtest_sync_find(client, client->next_sync_id) != NULL) {
        client->next_sync_id++;
    }
    sync->id = client->next_sync_id++;
    if (vgd_idmap_add(&client->syncs, sync->id, sync) != VGD_OK) {
        free(sync);
        vtest_client_drop(client, "out of memory");
        return;
    }
    vtest_client_reply(client, VGD_VTEST_SYNC_CREATE, &sync->id, sizeof(sync->id), NULL);
}

void vtest_sync_unref_id(struct vtest_client *client, uint32_t id)
{
    vtest_sync_unref(vgd_idmap_remove(&client->syncs, id));
}

static void wait_free(struct vtest_wait *wait)
{
    for (uint32_t i = 0; i < wait->n_entries; i++) {
        vtest_sync_unref(wait->entries[i].sync);
    }
    vgd_fd_closep(&wait->fd);
    free(wait);
}

static void remove_wait(struct vtest_client *client, struct vtest_wait **at)
{
    struct vtest_wait *wait = *at;
    *at = wait->next;
    client->n_waits--;
    client->n_wait_entries -= wait->n_entries;
    wait_free(wait);
}

static void forget_old_waits(struct vtest_client *client, uint64_t now_ns)
{
    vtest_client_spend(client, client->n_waits * sizeof(void *));
    struct vtest_wait **at = &client->waits;
    while (*at != NULL) {
        if ((*at)->until_ns < now_ns) {
            remove_wait(client, at);
        } else {
            at = &(*at)->next;
        }
    }
}

/* Cross off what @sync has reached. Is the wait over? */
static bool cross_off(struct vtest_wait *wait, const struct vtest_sync *sync)
{
    bool is_over = false;
    for (uint32_t i = 0; i < wait->n_entries; i++) {
        struct wait_entry *entry = &wait->entries[i];
        if (entry->sync == sync && entry->value <= sync->value) {
            vtest_sync_unref(entry->sync);
            entry->sync = NULL;
            wait->n_left--;
            is_over = is_over || wait->any || wait->n_left == 0;
        }
    }
    return is_over;
}

void vtest_sync_signal(struct vtest_client *client, struct vtest_sync *sync, uint64_t value)
{
    bool has_grown = value > sync->value;
    sync->value = value; /* down, too: that is how a sync is reset */
    if (!has_grown) {
        return;
    }
    sync->refs++;
    vtest_client_spend(client, (client->n_waits + client->n_wait_entries) * sizeof(void *));
    struct vtest_wait **at = &client->waits;
    while (*at != NULL) {
        if (cross_off(*at, sync)) {
            vgd_eventfd_signal((*at)->fd);
            remove_wait(client, at);
        } else {
            at = &(*at)->next;
        }
    }
    vtest_sync_unref(sync);
}

void vtest_sync_wait(struct vtest_client *client, const uint8_t *body, uint32_t n_bytes)
{
    struct vgd_reader r = vgd_reader_of(body, n_bytes);
    struct vgd_vtest_sync_wait cmd;
    if (vgd_vtest_sync_wait_decode(&r, &cmd) != VGD_OK ||
        vgd_reader_left(&r) % VGD_VTEST_SYNC_VALUE_SIZE != 0) {
        vtest_client_drop(client, "SYNC_WAIT has the wrong length");
        return;
    }
    uint64_t now_ns = vgd_now_ns();
    forget_old_waits(client, now_ns);
    uint32_t n = (uint32_t)(vgd_reader_left(&r) / VGD_VTEST_SYNC_VALUE_SIZE);
    struct vtest_wait *wait = calloc(1, sizeof(*wait) + n * sizeof(wait->entries[0]));
    if (wait == NULL || client->n_waits >= VGD_VTEST_WAITS_MAX ||
        n > VGD_VTEST_WAIT_ENTRIES_MAX - client->n_wait_entries) {
        free(wait);
        vtest_client_drop(client, "it has too many waits");
        return;
    }
    wait->fd = vgd_eventfd_create();
    wait->any = (cmd.flags & VGD_VTEST_SYNC_WAIT_ANY) != 0;
    wait->until_ns =
        cmd.timeout_ms > INT32_MAX ? UINT64_MAX : now_ns + (uint64_t)cmd.timeout_ms * NS_PER_MS;
    for (uint32_t i = 0; i < n; i++) {
        struct vgd_vtest_sync_value value = {0};
        struct vtest_sync *sync = NULL;
        if (vgd_vtest_sync_value_decode(&r, &value) == VGD_OK) {
            sync = vtest_sync_find(client, value.sync_id);
        }
        if (sync == NULL || wait->fd < 0) {
            vtest_client_drop(client, sync == NULL ? "it named a sync that it does not have"
                                                   : "no descriptors are left");
            wait_free(wait);
            return;
        }
        if (sync->value < value.value) {
            sync->refs++;
            wait->entries[wait->n_entries++] =
                (struct wait_entry){.sync = sync, .value = value.value};
        }
    }
    if (wait->fd < 0) {
        vtest_client_drop(client, "no descriptors are left");
        wait_free(wait);
        return;
    }
    wait->n_left = wait->n_entries;
    bool is_over = wait->n_left == 0 || (wait->any && wait->n_left < n);
    if (is_over) {
        vgd_eventfd_signal(wait->fd);
    }
    VGD_AUTO_FD theirs = is_over || cmd.timeout_ms == 0 ? vgd_fd_take(&wait->fd)
                                                        : fcntl(wait->fd, F_DUPFD_CLOEXEC, 0);
    if (theirs < 0) {
        vtest_client_drop(client, "no descriptors are left");
        wait_free(wait);
        return;
    }
    vtest_client_reply(client, VGD_VTEST_SYNC_WAIT, NULL, 0, &theirs);
    if (wait->fd < 0 || client->is_gone) {
        wait_free(wait);
        return;
    }
    wait->next = client->waits;
    client->waits = wait;
    client->n_waits++;
    client->n_wait_entries += wait->n_entries;
}

void vtest_syncs_forget(struct vtest_client *client)
{
    while (client->waits != NULL) {
        remove_wait(client, &client->waits);
    }
    struct vtest_sync *sync;
    uint32_t cursor = 0;
    while ((sync = vgd_idmap_next(&client->syncs, &cursor, NULL)) != NULL) {
        vtest_sync_unref(sync);
    }
    vgd_idmap_finish(&client->syncs);
    client->syncs = (struct vgd_idmap){0};
}
