// The picture that our programs draw, as a formula: solid quadrants, a gradient, a triangle, a
// texture, blending, depth. (0, 0) is the top left pixel. Keep picture.py the same.
#ifndef VGD_GUEST_EXPECTED_H
#define VGD_GUEST_EXPECTED_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WIDTH_PX 1024
#define HEIGHT_PX 768
#define TOLERANCE 1 // in 1/255: what rounding of a shader's or blender's result can differ by
#define N_TEXELS 8  // the texture is this wide and high

static inline bool in_box(int x, int y, int x0, int y0, int w, int h)
{
    return x >= x0 && x < x0 + w && y >= y0 && y < y0 + h;
}

static inline void expected(int x, int y, uint8_t rgb[3])
{
    static const uint8_t quadrants[4][3] = {
        {200, 40, 40}, {40, 200, 40}, {40, 40, 200}, {220, 200, 40}};
    memcpy(rgb, quadrants[(y >= HEIGHT_PX / 2) * 2 + (x >= WIDTH_PX / 2)], 3);
    if (in_box(x, y, 64, 64, 256, 128)) { // gradient
        rgb[0] = (uint8_t)(x - 64);
        rgb[1] = (uint8_t)(2 * (y - 64));
        rgb[2] = 128;
    }
    if (x >= 600 && y >= 80 && (x - 600) + (y - 80) < 200) { // triangle
        memset(rgb, 255, 3);
    }
    if (in_box(x, y, 128, 480, 256, 256)) { // texture of 8 by 8 texels
        int s = (x - 128) / 32, t = (y - 480) / 32;
        rgb[0] = (uint8_t)(s * 32);
        rgb[1] = (uint8_t)(t * 32);
        rgb[2] = (uint8_t)((s ^ t) * 36);
    }
    if (in_box(x, y, 600, 420, 160, 320)) { // half transparent
        rgb[0] = (uint8_t)((255 + rgb[0]) / 2);
        rgb[1] = (uint8_t)((0 + rgb[1]) / 2);
        rgb[2] = (uint8_t)((255 + rgb[2]) / 2);
    }
    if (in_box(x, y, 820, 480, 160, 160)) { // far, drawn after the near one
        memset(rgb, 0, 3);
    }
    if (in_box(x, y, 860, 520, 80, 80)) { // near
        rgb[0] = 0;
        rgb[1] = rgb[2] = 255;
    }
}

static inline void expected_texels(uint8_t texels[N_TEXELS][N_TEXELS][4])
{
    for (int t = 0; t < N_TEXELS; t++) {
        for (int s = 0; s < N_TEXELS; s++) {
            texels[t][s][0] = (uint8_t)(s * 32);
            texels[t][s][1] = (uint8_t)(t * 32);
            texels[t][s][2] = (uint8_t)((s ^ t) * 36);
            texels[t][s][3] = 255;
        }
    }
}

/// Compares RGBA pixels with the formula and prints the result, unless quiet and all is right.
/// Returns how many are wrong.
/// @bottom_first  whether pixels' first row is the lowest one, as in OpenGL
/// @out           written as PPM, top row first; may be NULL
static inline int check_picture(uint8_t (*pixels)[WIDTH_PX][4], bool bottom_first, FILE *out,
                                bool quiet)
{
    int wrong = 0, worst = 0;
    if (out != NULL) {
        fprintf(out, "P6\n%d %d\n255\n", WIDTH_PX, HEIGHT_PX);
    }
    for (int y = 0; y < HEIGHT_PX; y++) {
        for (int x = 0; x < WIDTH_PX; x++) {
            const uint8_t *pixel = pixels[bottom_first ? HEIGHT_PX - 1 - y : y][x];
            uint8_t want[3];
            expected(x, y, want);
            int off = 0;
            for (int c = 0; c < 3; c++) {
                int d = abs(pixel[c] - want[c]);
                off = d > off ? d : off;
            }
            if (out != NULL) {
                fwrite(pixel, 1, 3, out);
            }
            worst = off > worst ? off : worst;
            if (off > TOLERANCE && ++wrong <= 5) {
                printf("picture: pixel %d,%d is %d %d %d, not %d %d %d\n", x, y, pixel[0], pixel[1],
                       pixel[2], want[0], want[1], want[2]);
            }
        }
    }
    if (!quiet || wrong > 0) {
        printf(
            "picture: %dx%d, %d pixels compared, %d wrong, largest difference %d (tolerance %d)\n",
            WIDTH_PX, HEIGHT_PX, WIDTH_PX * HEIGHT_PX, wrong, worst, TOLERANCE);
        fflush(stdout);
    }
    return wrong;
}

#endif
