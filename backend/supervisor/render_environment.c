/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layer_env.h"
#include "render_server.h"

/* Words that end in '_' stand for all that begin with them. */
static const char *const passed[] = {
    /* The loader, its drivers and layers. */
    "VK_DRIVER_FILES", "VK_ICD_FILENAMES", "VK_ADD_DRIVER_FILES", "VK_LOADER_", "VK_LAYER_PATH",
    "VK_ADD_LAYER_PATH", "VK_INSTANCE_LAYERS", "XDG_", "HOME", "TMPDIR", "PATH",
    /* The dynamic linker's. */
    "LD_LIBRARY_PATH", "LD_PRELOAD",
    /* Mesa's and other drivers'. */
    "MESA_", "LP_", "GALLIVM_", "DRI_PRIME", "RADV_", "AMD_", "ANV_", "INTEL_", "NVK_", "NVIDIA_",
    "CUDA_", "__GL_", "__NV_",
    /* EGL's: without an X server NVIDIA's Vulkan starts by EGL and needs its driver named too. */
    "EGL_", "__EGL_",
    /* virglrenderer's log. */
    "VIRGL_", "VKR_",
    /* Ours, and the sanitizers' of a test build. */
    "VGD_", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS"};
#define PASSED_COUNT (sizeof(passed) / sizeof(passed[0]))

#define UUID_BYTES (VGD_LAYER_UUID_DIGITS / 2)
_Static_assert(sizeof(((struct vgd_link_want_server *)0)->device_uuid) == UUID_BYTES,
               "as many digits as the layer reads");

static bool is_passed(const char *entry)
{
    for (size_t i = 0; i < PASSED_COUNT; i++) {
        size_t n = strlen(passed[i]);
        bool prefix = passed[i][n - 1] == '_';
        if (strncmp(entry, passed[i], n) == 0 && (prefix || entry[n] == '=')) {
            return true;
        }
    }
    return false;
}

/* Does @entry set one of the words that we set? Then its value, else NULL. */
static const char *value_of(const char *entry, const char *word)
{
    size_t n = strlen(word);
    return strncmp(entry, word, n) == 0 && entry[n] == '=' ? entry + n + 1 : NULL;
}

struct out {
    char **entries; /* then the text */
    size_t n_entries;
    char *text;
};

/* word=first, or word=first:second. */
static void put(struct out *o, const char *word, const char *first, const char *second)
{
    o->entries[o->n_entries++] = o->text;
    o->text += sprintf(o->text, second != NULL ? "%s=%s:%s" : "%s=%s", word, first, second) + 1;
}

char **vgd_render_environment(char *const *from, const struct vgd_link_want_server *want,
                              const char *layer_dir)
{
    static const char *const ours[] = {VGD_LAYER_ENV_ADD_PATH, VGD_LAYER_ENV_PATH,
                                       VGD_LAYER_ENV_LAYERS, VGD_LAYER_ENV_HOST_MEMORY,
                                       VGD_LAYER_ENV_DEVICE_UUID};
    enum { ADD_PATH, PATH, LAYERS, HOST_MEMORY, UUID, OURS_COUNT };
    const char *old[OURS_COUNT] = {NULL};
    bool layer = want->host_memory != 0 || want->one_device != 0;

    size_t n = 0, n_bytes = 0;
    for (; from[n] != NULL; n++) {
        n_bytes += strlen(from[n]) + 1;
    }
    size_t slots = n + OURS_COUNT + 1;
    n_bytes += 512 + strlen(layer_dir); /* our words, twice over */
    struct out o = {.entries = malloc(slots * sizeof(char *) + n_bytes)};
    if (o.entries == NULL) {
        return NULL;
    }
    o.text = (char *)(o.entries + slots);

    for (size_t i = 0; i < n; i++) {
        bool is_ours = false;
        for (unsigned k = 0; k < OURS_COUNT; k++) {
            const char *value = value_of(from[i], ours[k]);
            old[k] = value != NULL ? value : old[k];
            is_ours |= value != NULL;
        }
        if (!is_ours && is_passed(from[i])) {
            o.entries[o.n_entries++] = o.text;
            o.text = stpcpy(o.text, from[i]) + 1;
        }
    }
    /* The loader ignores VK_ADD_LAYER_PATH where VK_LAYER_PATH is set. */
    if (old[PATH] != NULL) {
        put(&o, ours[PATH], layer ? layer_dir : old[PATH], layer ? old[PATH] : NULL);
    } else if (layer || old[ADD_PATH] != NULL) {
        put(&o, ours[ADD_PATH], layer ? layer_dir : old[ADD_PATH], layer ? old[ADD_PATH] : NULL);
    }
    if (layer || old[LAYERS] != NULL) {
        put(&o, ours[LAYERS], layer ? VGD_LAYER_NAME : old[LAYERS], layer ? old[LAYERS] : NULL);
    }
    if (want->host_memory != 0) {
        put(&o, ours[HOST_MEMORY], VGD_LAYER_HOST_MEMORY_ON, NULL);
    }
    if (want->one_device != 0) {
        char hex[VGD_LAYER_UUID_DIGITS + 1];
        for (unsigned i = 0; i < UUID_BYTES; i++) {
            (void)sprintf(hex + 2 * (size_t)i, "%02x", want->device_uuid[i]);
        }
        put(&o, ours[UUID], hex, NULL);
    }
    o.entries[o.n_entries] = NULL;
    return o.entries;
}
