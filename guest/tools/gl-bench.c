/* SPDX-License-Identifier: MIT */
/*
 * What OpenGL ES does on a surface of its own, checked, and how fast: the same program natively,
 * through virgl in a guest, and through virgl without a VM. No window: EGL without a surface.
 *
 *   gl-bench [--checks] [--seconds S]
 *
 * Prints "renderer ...", "PASS name" or "FAIL name: why", then "name value unit" lines. Exit
 * status: the number of failed checks, 100 if there is no OpenGL to use.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <epoxy/egl.h>
#include <epoxy/gl.h>

#define NO_GL 100
#define PICTURE_PX 256
#define TEXTURE_PX 2048     /* 16 MiB: what bandwidth is measured on */
#define DRAWS 10000         /* between two glFinish */
#define MAX_SAMPLES 100000u /* of one latency */
#define TEXTURE_BYTES (TEXTURE_PX * TEXTURE_PX * 4)

static unsigned n_failed;
static double seconds = 1.0;

_Noreturn static void no_gl(const char *why)
{
    (void)fprintf(stderr, "gl-bench: %s (EGL error 0x%x)\n", why, (unsigned)eglGetError());
    exit(NO_GL);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void open_gl(void)
{
    EGLDisplay display =
        eglGetPlatformDisplayEXT(EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY, NULL);
    if (display == EGL_NO_DISPLAY || !eglInitialize(display, NULL, NULL)) {
        no_gl("no EGL display without a surface");
    }
    const EGLint want[] = {EGL_RENDERABLE_TYPE, EGL_OPENGL_ES2_BIT, EGL_SURFACE_TYPE, 0, EGL_NONE};
    EGLConfig config;
    EGLint n = 0;
    (void)eglBindAPI(EGL_OPENGL_ES_API);
    if (!eglChooseConfig(display, want, &config, 1, &n) || n < 1) {
        no_gl("no EGL configuration");
    }
    const EGLint version[] = {EGL_CONTEXT_CLIENT_VERSION, 3, EGL_NONE};
    EGLContext context = eglCreateContext(display, config, EGL_NO_CONTEXT, version);
    if (context == EGL_NO_CONTEXT ||
        !eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context)) {
        no_gl("no OpenGL ES 3 context");
    }
    printf("renderer %s\n", (const char *)glGetString(GL_RENDERER));
}

static GLuint compile(GLenum type, const char *text)
{
    GLuint shader = glCreateShader(type);
    glShaderSource(shader, 1, &text, NULL);
    glCompileShader(shader);
    GLint fine = 0;
    glGetShaderiv(shader, GL_COMPILE_STATUS, &fine);
    if (!fine) {
        char log[512] = "";
        glGetShaderInfoLog(shader, sizeof(log), NULL, log);
        printf("FAIL shader: %s\n", log);
        exit((int)n_failed + 1);
    }
    return shader;
}

static GLint u_rect, u_colour;

static void make_scene(void)
{
    GLuint target;
    GLuint frame;
    glGenRenderbuffers(1, &target);
    glBindRenderbuffer(GL_RENDERBUFFER, target);
    glRenderbufferStorage(GL_RENDERBUFFER, GL_RGBA8, PICTURE_PX, PICTURE_PX);
    glGenFramebuffers(1, &frame);
    glBindFramebuffer(GL_FRAMEBUFFER, frame);
    glFramebufferRenderbuffer(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_RENDERBUFFER, target);
    glViewport(0, 0, PICTURE_PX, PICTURE_PX);
    GLuint program = glCreateProgram();
    glAttachShader(program, compile(GL_VERTEX_SHADER,
                                    "#version 300 es\n"
                                    "uniform vec4 rect;\n"
                                    "void main() {\n"
                                    "    float x = (gl_VertexID & 1) == 0 ? rect.x : rect.z;\n"
                                    "    float y = (gl_VertexID & 2) == 0 ? rect.y : rect.w;\n"
                                    "    gl_Position = vec4(x, y, 0.0, 1.0);\n"
                                    "}\n"));
    glAttachShader(program, compile(GL_FRAGMENT_SHADER, "#version 300 es\n"
                                                        "precision highp float;\n"
                                                        "uniform vec4 colour;\n"
                                                        "out vec4 pixel;\n"
                                                        "void main() { pixel = colour; }\n"));
    glLinkProgram(program);
    glUseProgram(program);
    u_rect = glGetUniformLocation(program, "rect");
    u_colour = glGetUniformLocation(program, "colour");
}

static void draw_rect(float x, float y, float w, float h, float r, float g, float b)
{
    glUniform4f(u_rect, x, y, x + w, y + h);
    glUniform4f(u_colour, r, g, b, 1.0f);
    glDrawArrays(GL_TRIANGLE_STRIP, 0, 4);
}

/* 16 x 16 squares, each in a colour of its own; every pixel is known. */
static void check_picture(void)
{
    static uint8_t pixels[PICTURE_PX * PICTURE_PX * 4];
    glClearColor(0.0f, 0.0f, 0.0f, 1.0f);
    glClear(GL_COLOR_BUFFER_BIT);
    for (int square = 0; square < 256; square++) {
        float x = (float)(square % 16) / 8.0f - 1.0f;
        float y = (float)(square / 16) / 8.0f - 1.0f;
        draw_rect(x, y, 0.125f, 0.125f, (float)square / 255.0f, (float)(255 - square) / 255.0f,
                  (float)(square % 16) / 255.0f);
    }
    glReadPixels(0, 0, PICTURE_PX, PICTURE_PX, GL_RGBA, GL_UNSIGNED_BYTE, pixels);
    unsigned n_wrong = 0;
    for (int i = 0; i < PICTURE_PX * PICTURE_PX; i++) {
        int square = (i / PICTURE_PX / 16) * 16 + (i % PICTURE_PX) / 16;
        const uint8_t *p = &pixels[4 * i];
        n_wrong += p[0] != square || p[1] != 255 - square || p[2] != square % 16 || p[3] != 255;
    }
    if (n_wrong == 0 && glGetError() == GL_NO_ERROR) {
        printf("PASS gl-picture\n");
    } else {
        n_failed++;
        printf("FAIL gl-picture: %u of %d pixels wrong\n", n_wrong, PICTURE_PX * PICTURE_PX);
    }
    (void)fflush(stdout);
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void clear_and_finish(void)
{
    static uint64_t samples[MAX_SAMPLES];
    size_t n = 0;
    uint64_t end_ns = now_ns() + (uint64_t)(seconds * 1e9);
    do {
        uint64_t start_ns = now_ns();
        glClear(GL_COLOR_BUFFER_BIT);
        glFinish();
        samples[n++] = now_ns() - start_ns;
    } while (n < MAX_SAMPLES && now_ns() < end_ns);
    qsort(samples, n, sizeof(samples[0]), by_size);
    printf("gl-clear-finish %.1f us\n", (double)samples[n / 2] / 1e3);
}

static void draws(void)
{
    uint64_t n = 0;
    uint64_t start_ns = now_ns();
    uint64_t took_ns;
    do {
        for (int i = 0; i < DRAWS; i++) {
            float at = (float)(i % 128) / 64.0f - 1.0f;
            draw_rect(at, at, 0.01f, 0.01f, 1.0f, 0.5f, 0.25f);
        }
        glFinish();
        n += DRAWS;
        took_ns = now_ns() - start_ns;
    } while (took_ns < (uint64_t)(seconds * 1e9));
    printf("gl-draws %.0f k/s\n", (double)n * 1e6 / (double)took_ns);
}

/* The best run: on a shared machine the others say more about the machine. */
static void bandwidths(void)
{
    uint8_t *bytes = malloc(TEXTURE_BYTES);
    if (bytes == NULL) {
        no_gl("out of memory");
    }
    memset(bytes, 0x33, TEXTURE_BYTES);
    GLuint texture;
    GLuint frame;
    glGenTextures(1, &texture);
    glBindTexture(GL_TEXTURE_2D, texture);
    glTexStorage2D(GL_TEXTURE_2D, 1, GL_RGBA8, TEXTURE_PX, TEXTURE_PX);
    glGenFramebuffers(1, &frame);
    glBindFramebuffer(GL_FRAMEBUFFER, frame);
    glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, texture, 0);
    uint64_t best_ns[2] = {UINT64_MAX, UINT64_MAX};
    uint64_t end_ns = now_ns() + (uint64_t)(seconds * 1e9);
    do {
        for (int read = 0; read < 2; read++) {
            uint64_t start_ns = now_ns();
            if (read) {
                glReadPixels(0, 0, TEXTURE_PX, TEXTURE_PX, GL_RGBA, GL_UNSIGNED_BYTE, bytes);
            } else {
                glTexSubImage2D(GL_TEXTURE_2D, 0, 0, 0, TEXTURE_PX, TEXTURE_PX, GL_RGBA,
                                GL_UNSIGNED_BYTE, bytes);
                glFinish();
            }
            uint64_t took_ns = now_ns() - start_ns;
            best_ns[read] = took_ns < best_ns[read] ? took_ns : best_ns[read];
        }
    } while (now_ns() < end_ns);
    printf("gl-upload %.2f GB/s\n", (double)TEXTURE_BYTES / (double)best_ns[0]);
    printf("gl-readback %.2f GB/s\n", (double)TEXTURE_BYTES / (double)best_ns[1]);
    free(bytes);
}

int main(int argc, char **argv)
{
    bool only_checks = false;
    for (int a = 1; a < argc; a++) {
        if (strcmp(argv[a], "--checks") == 0) {
            only_checks = true;
        } else if (strcmp(argv[a], "--seconds") == 0 && a + 1 < argc) {
            seconds = strtod(argv[++a], NULL);
        } else {
            (void)fputs("usage: gl-bench [--checks] [--seconds S]\n", stderr);
            return 2;
        }
    }
    open_gl();
    make_scene();
    check_picture();
    if (!only_checks) {
        clear_and_finish();
        draws();
        bandwidths();
    }
    return (int)n_failed;
}
