/* SPDX-License-Identifier: MIT */
/* vgdctl screenshot. */
#include "vgdctl.h"

#include <errno.h>
#include <fcntl.h>
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fd.h"

#define SIDE_PX_MAX 16384
#define PIXEL_BYTES 4u

/* @pixels: @h_px rows of @w_px * 4 bytes, B G R x. */
static bool write_png(FILE *file, const uint8_t *pixels, uint32_t w_px, uint32_t h_px)
{
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png != NULL ? png_create_info_struct(png) : NULL;
    if (info == NULL || setjmp(png_jmpbuf(png)) != 0) {
        png_destroy_write_struct(&png, &info);
        return false;
    }
    png_init_io(png, file);
    png_set_IHDR(png, info, w_px, h_px, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    png_set_filler(png, 0, PNG_FILLER_AFTER);
    png_set_bgr(png);
    for (uint32_t y_px = 0; y_px < h_px; y_px++) {
        png_write_row(png, pixels + (size_t)y_px * w_px * PIXEL_BYTES);
    }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    return true;
}

static bool save_png(const char *path, const uint8_t *pixels, uint32_t w_px, uint32_t h_px)
{
    FILE *file = fopen(path, "wbe");
    if (file == NULL) {
        vgdctl_complain("%s: %s", path, strerror(errno));
        return false;
    }
    bool ok = write_png(file, pixels, w_px, h_px);
    ok = fclose(file) == 0 && ok;
    if (!ok) {
        vgdctl_complain("%s: cannot write the picture: %s", path, strerror(errno));
        struct stat info;
        if (lstat(path, &info) == 0 && S_ISREG(info.st_mode)) {
            (void)unlink(path); /* half a picture is worse than none */
        }
    }
    return ok;
}

static bool parse_scanout(const char *text, uint32_t *out)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value > 15) {
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

bool vgdctl_screenshot(const struct vgdctl_args *args)
{
    const char *path = args->words[1];
    uint32_t scanout_idx = 0;
    if (!parse_scanout(args->words[0], &scanout_idx)) {
        vgdctl_complain("SCANOUT is a number from 0 to 15, not '%s'", args->words[0]);
        return false;
    }
    VGD_AUTO_FD fd = vgdctl_connect(args);
    if (fd < 0) {
        return false;
    }
    VGD_AUTO_FD passed = -1;
    struct json_object *whole = NULL;
    char request[64];
    (void)snprintf(request, sizeof(request), "{\"v\":1,\"cmd\":\"screenshot\",\"scanout\":%u}\n",
                   scanout_idx);
    struct json_object *shot = vgdctl_ask(fd, request, -1, "screenshot", &passed, &whole);
    int64_t w_px = shot != NULL ? vgdctl_number(shot, "w") : -1;
    int64_t h_px = shot != NULL ? vgdctl_number(shot, "h") : -1;
    bool asked = shot != NULL;
    (void)json_object_put(whole);
    if (!asked) {
        return false;
    }
    struct stat info;
    int seals = passed >= 0 ? fcntl(passed, F_GET_SEALS) : -1;
    if (w_px < 1 || h_px < 1 || w_px > SIDE_PX_MAX || h_px > SIDE_PX_MAX || seals < 0 ||
        (seals & F_SEAL_SHRINK) == 0 || fstat(passed, &info) != 0 ||
        w_px * h_px > info.st_size / (int64_t)PIXEL_BYTES) {
        vgdctl_complain("the reply holds no picture");
        return false;
    }
    size_t n_bytes = (size_t)w_px * (size_t)h_px * PIXEL_BYTES;
    void *pixels = mmap(NULL, n_bytes, PROT_READ, MAP_SHARED, passed, 0);
    if (pixels == MAP_FAILED) {
        vgdctl_complain("cannot map the picture: %s", strerror(errno));
        return false;
    }
    bool ok = save_png(path, pixels, (uint32_t)w_px, (uint32_t)h_px);
    (void)munmap(pixels, n_bytes);
    return ok;
}
