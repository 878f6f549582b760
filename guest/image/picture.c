// Draws a picture of which every pixel is known, with OpenGL ES in the guest, and checks what came out.
//
//   picture [--offscreen] [--hold] [--loop SECONDS] [--out FILE.ppm]
//
// On screen (KMS, a GBM surface, mode 1024x768) or, with --offscreen, into a framebuffer object on the render node.
// Reads the pixels back and compares each with what the processor computes: solid quadrants, a gradient, a triangle,
// a texture, blending, depth. --hold keeps it on screen until standard input ends, for a look from outside (the
// same picture is computed by picture.py there). --loop draws and checks frame after frame.
// Exit status: 0 every pixel right, 1 some wrong, 2 could not draw.
#define _GNU_SOURCE
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GLES2/gl2.h>
#include <errno.h>
#include <fcntl.h>
#include <gbm.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#include "expected.h"

static void die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("picture: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(2);
}

// --- the picture as OpenGL ES ---

static const char vertex_text[] = "attribute vec3 at; uniform vec2 size;"
                                  "void main() {"
                                  "  vec2 p = at.xy / size * 2.0 - 1.0;"
                                  "  gl_Position = vec4(p.x, -p.y, at.z, 1.0);"
                                  "}";
// mode 0: the colour; 1: gradient; 2: texture. gl_FragCoord counts from the bottom.
static const char fragment_text[] =
    "precision highp float;"
    "uniform vec4 colour; uniform int mode; uniform vec2 size; uniform sampler2D image;"
    "void main() {"
    "  vec2 at = vec2(gl_FragCoord.x, size.y - gl_FragCoord.y);"
    "  if (mode == 1)"
    "    gl_FragColor = vec4((floor(at.x) - 64.0) / 255.0, 2.0 * (floor(at.y) - 64.0) / 255.0, 128.0 / 255.0, 1.0);"
    "  else if (mode == 2)"
    "    gl_FragColor = texture2D(image, (at - vec2(128.0, 480.0)) / 256.0);"
    "  else"
    "    gl_FragColor = colour;"
    "}";

static GLint colour_at, mode_at;

static GLuint compile(GLenum kind, const char *text)
{
    GLuint shader = glCreateShader(kind);
    glShaderSource(shader, 1, &text, NULL);
    glCompileShader(shader);
    GLint ok = 0;
    glGetShaderiv(shader, GL_COMPILE_STATUS, &ok);
    if (!ok) {
        char log[1024] = "";
        glGetShaderInfoLog(shader, sizeof(log), NULL, log);
        die("a shader does not compile: %s", log);
    }
    return shader;
}

static void prepare(void)
{
    GLuint program = glCreateProgram();
    glAttachShader(program, compile(GL_VERTEX_SHADER, vertex_text));
    glAttachShader(program, compile(GL_FRAGMENT_SHADER, fragment_text));
    glBindAttribLocation(program, 0, "at");
    glLinkProgram(program);
    GLint ok = 0;
    glGetProgramiv(program, GL_LINK_STATUS, &ok);
    if (!ok) {
        die("the program does not link");
    }
    glUseProgram(program);
    colour_at = glGetUniformLocation(program, "colour");
    mode_at = glGetUniformLocation(program, "mode");
    glUniform2f(glGetUniformLocation(program, "size"), WIDTH_PX, HEIGHT_PX);
    uint8_t texels[N_TEXELS][N_TEXELS][4];
    expected_texels(texels);
    GLuint texture;
    glGenTextures(1, &texture);
    glBindTexture(GL_TEXTURE_2D, texture);
    glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA, N_TEXELS, N_TEXELS, 0, GL_RGBA, GL_UNSIGNED_BYTE, texels);
    glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
    glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MAG_FILTER, GL_NEAREST);
    glEnableVertexAttribArray(0);
    glViewport(0, 0, WIDTH_PX, HEIGHT_PX);
}

static void triangles(int mode, const float colour[4], const float *points, int n_points)
{
    glUniform1i(mode_at, mode);
    glUniform4fv(colour_at, 1, colour);
    glVertexAttribPointer(0, 3, GL_FLOAT, GL_FALSE, 0, points);
    glDrawArrays(GL_TRIANGLE_STRIP, 0, n_points);
}

static void box(int mode, const float colour[4], float x, float y, float w, float h, float z)
{
    const float points[] = {x, y, z, x + w, y, z, x, y + h, z, x + w, y + h, z};
    triangles(mode, colour, points, 4);
}

static void draw(void)
{
    static const float quadrants[4][3] = {{200, 40, 40}, {40, 200, 40}, {40, 40, 200}, {220, 200, 40}};
    static const float white[] = {1, 1, 1, 1}, half[] = {1, 0, 1, 0.5f}, black[] = {0, 0, 0, 1}, cyan[] = {0, 1, 1, 1};
    glClearDepthf(1);
    glDisable(GL_DEPTH_TEST);
    glClear(GL_DEPTH_BUFFER_BIT);
    glEnable(GL_SCISSOR_TEST);
    for (int i = 0; i < 4; i++) {
        // Scissors count from the bottom: quadrants 0 and 1 are the upper ones.
        glScissor(i % 2 * WIDTH_PX / 2, i < 2 ? HEIGHT_PX / 2 : 0, WIDTH_PX / 2, HEIGHT_PX / 2);
        glClearColor(quadrants[i][0] / 255, quadrants[i][1] / 255, quadrants[i][2] / 255, 1);
        glClear(GL_COLOR_BUFFER_BIT);
    }
    glDisable(GL_SCISSOR_TEST);
    box(1, white, 64, 64, 256, 128, 0);
    // The long edge runs half a pixel away from every pixel's middle.
    const float corner[] = {600, 80, 0, 800.5f, 80, 0, 600, 280.5f, 0};
    triangles(0, white, corner, 3);
    box(2, white, 128, 480, 256, 256, 0);
    glEnable(GL_BLEND);
    glBlendFunc(GL_SRC_ALPHA, GL_ONE_MINUS_SRC_ALPHA);
    box(0, half, 600, 420, 160, 320, 0);
    glDisable(GL_BLEND);
    glEnable(GL_DEPTH_TEST);
    box(0, cyan, 860, 520, 80, 80, -0.5f);
    box(0, black, 820, 480, 160, 160, 0.5f);
    glDisable(GL_DEPTH_TEST);
}

static int check(const char *out_path, bool quiet)
{
    static uint8_t got[HEIGHT_PX][WIDTH_PX][4];
    memset(got, 0x5a, sizeof(got));
    glPixelStorei(GL_PACK_ALIGNMENT, 4);
    glReadPixels(0, 0, WIDTH_PX, HEIGHT_PX, GL_RGBA, GL_UNSIGNED_BYTE, got);
    GLenum error = glGetError();
    if (error != GL_NO_ERROR) {
        die("GL error 0x%x", error);
    }
    FILE *out = NULL;
    if (out_path != NULL) {
        out = fopen(out_path, "wbe");
        if (out == NULL) {
            die("%s: %s", out_path, strerror(errno));
        }
    }
    int wrong = check_picture(got, true, out, quiet);
    if (out != NULL) {
        fclose(out);
    }
    return wrong;
}

// --- where it is drawn ---

static int open_node(bool offscreen)
{
    for (int i = 0; i < 16; i++) {
        char path[64];
        snprintf(path, sizeof(path), offscreen ? "/dev/dri/renderD%d" : "/dev/dri/card%d", i + (offscreen ? 128 : 0));
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0) {
            continue;
        }
        drmVersion *version = drmGetVersion(fd);
        bool ours = version != NULL && strcmp(version->name, "virtio_gpu") == 0;
        drmFreeVersion(version);
        if (ours) {
            return fd;
        }
        close(fd);
    }
    die("no virtio_gpu node under /dev/dri");
    return -1;
}

struct screen {
    int fd;
    uint32_t connector_id, crtc_id;
    drmModeModeInfo mode;
    struct gbm_surface *surface;
    struct gbm_bo *shown;
    bool on;
};

static void find_screen(struct screen *s)
{
    drmModeRes *res = drmModeGetResources(s->fd);
    if (res == NULL) {
        die("the card has no display (try --offscreen)");
    }
    for (int i = 0; i < res->count_connectors && s->connector_id == 0; i++) {
        drmModeConnector *c = drmModeGetConnector(s->fd, res->connectors[i]);
        for (int m = 0; c != NULL && c->connection == DRM_MODE_CONNECTED && m < c->count_modes; m++) {
            if (c->modes[m].hdisplay == WIDTH_PX && c->modes[m].vdisplay == HEIGHT_PX) {
                s->connector_id = c->connector_id;
                s->mode = c->modes[m];
                break;
            }
        }
        drmModeEncoder *e = NULL;
        for (int k = 0; s->connector_id != 0 && s->crtc_id == 0 && k < c->count_encoders; k++) {
            e = drmModeGetEncoder(s->fd, c->encoders[k]);
            for (int j = 0; e != NULL && j < res->count_crtcs && s->crtc_id == 0; j++) {
                s->crtc_id = e->possible_crtcs & (1u << j) ? res->crtcs[j] : 0;
            }
            drmModeFreeEncoder(e);
        }
        drmModeFreeConnector(c);
    }
    drmModeFreeResources(res);
    if (s->crtc_id == 0) {
        die("no connected display has a mode of %dx%d", WIDTH_PX, HEIGHT_PX);
    }
}

static void flipped(int fd, unsigned sequence, unsigned sec, unsigned usec, void *data)
{
    (void)fd, (void)sequence, (void)sec, (void)usec;
    *(bool *)data = true;
}

static void forget_fb(struct gbm_bo *bo, void *data)
{
    drmModeRmFB(gbm_device_get_fd(gbm_bo_get_device(bo)), (uint32_t)(uintptr_t)data);
}

static void show(struct screen *s)
{
    struct gbm_bo *bo = gbm_surface_lock_front_buffer(s->surface);
    if (bo == NULL) {
        die("no front buffer");
    }
    uint32_t fb = (uint32_t)(uintptr_t)gbm_bo_get_user_data(bo);
    if (fb == 0) {
        if (drmModeAddFB(s->fd, WIDTH_PX, HEIGHT_PX, 24, 32, gbm_bo_get_stride(bo), gbm_bo_get_handle(bo).u32, &fb)) {
            die("drmModeAddFB: %s", strerror(errno));
        }
        gbm_bo_set_user_data(bo, (void *)(uintptr_t)fb, forget_fb);
    }
    if (!s->on) {
        if (drmModeSetCrtc(s->fd, s->crtc_id, fb, 0, 0, &s->connector_id, 1, &s->mode)) {
            die("drmModeSetCrtc: %s", strerror(errno));
        }
        s->on = true;
    } else {
        bool done = false;
        if (drmModePageFlip(s->fd, s->crtc_id, fb, DRM_MODE_PAGE_FLIP_EVENT, &done)) {
            die("drmModePageFlip: %s", strerror(errno));
        }
        drmEventContext events = {.version = 2, .page_flip_handler = flipped};
        while (!done) {
            struct pollfd p = {.fd = s->fd, .events = POLLIN};
            if (poll(&p, 1, 10000) <= 0) {
                die("no page flip for 10 s");
            }
            drmHandleEvent(s->fd, &events);
        }
    }
    if (s->shown != NULL) {
        gbm_surface_release_buffer(s->surface, s->shown);
    }
    s->shown = bo;
}

static EGLConfig choose_config(EGLDisplay display, bool offscreen)
{
    const EGLint wanted[] = {EGL_SURFACE_TYPE, offscreen ? 0 : EGL_WINDOW_BIT, EGL_RENDERABLE_TYPE, EGL_OPENGL_ES2_BIT,
                             EGL_RED_SIZE, 8, EGL_GREEN_SIZE, 8, EGL_BLUE_SIZE, 8, EGL_DEPTH_SIZE, 16, EGL_NONE};
    EGLConfig configs[256];
    EGLint count = 0;
    eglChooseConfig(display, wanted, configs, 256, &count);
    for (int i = 0; i < count; i++) {
        EGLint visual = 0;
        eglGetConfigAttrib(display, configs[i], EGL_NATIVE_VISUAL_ID, &visual);
        if (offscreen || visual == GBM_FORMAT_XRGB8888) {
            return configs[i];
        }
    }
    die("no EGL configuration with XRGB8888 and depth");
    return NULL;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    bool offscreen = false, hold = false;
    double loop_s = 0;
    const char *out_path = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--offscreen") == 0) {
            offscreen = true;
        } else if (strcmp(argv[i], "--hold") == 0) {
            hold = true;
        } else if (strcmp(argv[i], "--loop") == 0 && i + 1 < argc) {
            loop_s = atof(argv[++i]);
        } else if (strcmp(argv[i], "--out") == 0 && i + 1 < argc) {
            out_path = argv[++i];
        } else {
            die("unknown argument '%s'", argv[i]);
        }
    }
    struct screen screen = {.fd = open_node(offscreen)};
    struct gbm_device *gbm = gbm_create_device(screen.fd);
    if (gbm == NULL) {
        die("gbm_create_device failed");
    }
    EGLDisplay display = eglGetPlatformDisplay(EGL_PLATFORM_GBM_KHR, gbm, NULL);
    if (display == EGL_NO_DISPLAY || !eglInitialize(display, NULL, NULL) || !eglBindAPI(EGL_OPENGL_ES_API)) {
        die("EGL does not start (0x%x)", eglGetError());
    }
    EGLConfig config = choose_config(display, offscreen);
    const EGLint version[] = {EGL_CONTEXT_CLIENT_VERSION, 2, EGL_NONE};
    EGLContext context = eglCreateContext(display, config, EGL_NO_CONTEXT, version);
    EGLSurface surface = EGL_NO_SURFACE;
    if (!offscreen) {
        find_screen(&screen);
        screen.surface = gbm_surface_create(gbm, WIDTH_PX, HEIGHT_PX, GBM_FORMAT_XRGB8888,
                                            GBM_BO_USE_SCANOUT | GBM_BO_USE_RENDERING);
        surface = eglCreateWindowSurface(display, config, (EGLNativeWindowType)screen.surface, NULL);
        if (surface == EGL_NO_SURFACE) {
            die("eglCreateWindowSurface failed (0x%x)", eglGetError());
        }
    }
    if (context == EGL_NO_CONTEXT || !eglMakeCurrent(display, surface, surface, context)) {
        die("no current context (0x%x)", eglGetError());
    }
    printf("renderer: %s\nversion: %s\n", glGetString(GL_RENDERER), glGetString(GL_VERSION));
    fflush(stdout);
    if (offscreen) {
        GLuint fbo, buffers[2];
        glGenFramebuffers(1, &fbo);
        glGenRenderbuffers(2, buffers);
        glBindFramebuffer(GL_FRAMEBUFFER, fbo);
        glBindRenderbuffer(GL_RENDERBUFFER, buffers[0]);
        glRenderbufferStorage(GL_RENDERBUFFER, 0x8058 /* GL_RGBA8_OES */, WIDTH_PX, HEIGHT_PX);
        glBindRenderbuffer(GL_RENDERBUFFER, buffers[1]);
        glRenderbufferStorage(GL_RENDERBUFFER, GL_DEPTH_COMPONENT16, WIDTH_PX, HEIGHT_PX);
        glFramebufferRenderbuffer(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_RENDERBUFFER, buffers[0]);
        glFramebufferRenderbuffer(GL_FRAMEBUFFER, GL_DEPTH_ATTACHMENT, GL_RENDERBUFFER, buffers[1]);
        if (glCheckFramebufferStatus(GL_FRAMEBUFFER) != GL_FRAMEBUFFER_COMPLETE) {
            die("the framebuffer object is incomplete");
        }
    }
    prepare();

    double start = now(), told = start;
    int wrong = 0, frames = 0;
    do {
        draw();
        wrong += check(frames == 0 ? out_path : NULL, frames > 0);
        if (!offscreen) {
            eglSwapBuffers(display, surface);
            show(&screen);
        }
        frames++;
        if (loop_s > 0 && now() - told > 1) {
            told = now();
            printf("frames: %d\n", frames);
            fflush(stdout);
        }
    } while (now() - start < loop_s);
    if (loop_s > 0) {
        printf("picture: %d frames in %.1f s, %d wrong pixels\n", frames, now() - start, wrong);
    }
    if (hold) {
        printf("holding\n");
        fflush(stdout);
        char c;
        while (read(0, &c, 1) > 0) {
        }
    }
    return wrong == 0 ? 0 : 1;
}
