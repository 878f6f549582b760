// Asks OpenGL ES in the guest for occlusion queries, again and again, and tells when each is answered.
//
//   query [--wait] [--load LOOPS]
//
// Without --wait it spins on GL_QUERY_RESULT_AVAILABLE as engines do; with it, it blocks in GL_QUERY_RESULT. A round is a
// few queries that are outstanding together; each draws the whole of a framebuffer object, and --load makes that slow.
// Prints "asked N" when round N is on its way, and "answered N: PASSED of QUERIES" when all its results are there. SIGTERM
// ends it between two rounds only: a query that is never answered is a program that never ends.
// Exit status: 0 ended as asked; 2 could not start.
#define _GNU_SOURCE
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GLES3/gl3.h>
#include <fcntl.h>
#include <gbm.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xf86drm.h>

#define SIZE_PX 512
#define QUERIES 4

static volatile sig_atomic_t asked_to_end;

static void end(int signum)
{
    (void)signum;
    asked_to_end = 1;
}

static void die(const char *what)
{
    fprintf(stderr, "query: %s\n", what);
    exit(2);
}

static int open_node(void)
{
    for (int i = 128; i < 144; i++) {
        char path[64];
        snprintf(path, sizeof(path), "/dev/dri/renderD%d", i);
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
    die("no virtio_gpu render node");
    return -1;
}

static const char vertex_text[] = "#version 300 es\n"
                                  "void main() {"
                                  "  vec2 p = vec2(gl_VertexID & 1, gl_VertexID >> 1);"
                                  "  gl_Position = vec4(p * 4.0 - 1.0, 0.0, 1.0);"
                                  "}";
static const char fragment_text[] = "#version 300 es\n"
                                    "precision highp float;"
                                    "uniform int loops; out vec4 colour;"
                                    "void main() {"
                                    "  float v = gl_FragCoord.x;"
                                    "  for (int i = 0; i < loops; i++) v = sin(v + gl_FragCoord.y);"
                                    "  colour = vec4(v, v, v, 1.0);"
                                    "}";

static void attach(GLuint program, GLenum kind, const char *text)
{
    GLuint shader = glCreateShader(kind);
    glShaderSource(shader, 1, &text, NULL);
    glCompileShader(shader);
    glAttachShader(program, shader);
}

static void prepare(int loops)
{
    GLuint fbo, buffer, program = glCreateProgram();
    attach(program, GL_VERTEX_SHADER, vertex_text);
    attach(program, GL_FRAGMENT_SHADER, fragment_text);
    glLinkProgram(program);
    GLint ok = 0;
    glGetProgramiv(program, GL_LINK_STATUS, &ok);
    if (!ok) {
        die("the program does not link");
    }
    glUseProgram(program);
    glUniform1i(glGetUniformLocation(program, "loops"), loops);
    glGenFramebuffers(1, &fbo);
    glGenRenderbuffers(1, &buffer);
    glBindFramebuffer(GL_FRAMEBUFFER, fbo);
    glBindRenderbuffer(GL_RENDERBUFFER, buffer);
    glRenderbufferStorage(GL_RENDERBUFFER, GL_RGBA8, SIZE_PX, SIZE_PX);
    glFramebufferRenderbuffer(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_RENDERBUFFER, buffer);
    if (glCheckFramebufferStatus(GL_FRAMEBUFFER) != GL_FRAMEBUFFER_COMPLETE) {
        die("the framebuffer object is incomplete");
    }
    glViewport(0, 0, SIZE_PX, SIZE_PX);
}

int main(int argc, char **argv)
{
    bool wait = false;
    int loops = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--wait") == 0) {
            wait = true;
        } else if (strcmp(argv[i], "--load") == 0 && i + 1 < argc) {
            loops = atoi(argv[++i]);
        } else {
            die("an unknown argument");
        }
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGTERM, end);
    struct gbm_device *gbm = gbm_create_device(open_node());
    EGLDisplay display = gbm == NULL ? EGL_NO_DISPLAY : eglGetPlatformDisplay(EGL_PLATFORM_GBM_KHR, gbm, NULL);
    if (display == EGL_NO_DISPLAY || !eglInitialize(display, NULL, NULL) || !eglBindAPI(EGL_OPENGL_ES_API)) {
        die("EGL does not start");
    }
    const EGLint version[] = {EGL_CONTEXT_CLIENT_VERSION, 3, EGL_NONE};
    EGLContext context = eglCreateContext(display, EGL_NO_CONFIG_KHR, EGL_NO_CONTEXT, version);
    if (context == EGL_NO_CONTEXT || !eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context)) {
        die("no current context of OpenGL ES 3");
    }
    printf("renderer: %s\n", glGetString(GL_RENDERER));
    prepare(loops);

    GLuint queries[QUERIES];
    glGenQueries(QUERIES, queries);
    for (unsigned long n = 1; !asked_to_end; n++) {
        for (int i = 0; i < QUERIES; i++) {
            glBeginQuery(GL_ANY_SAMPLES_PASSED, queries[i]);
            glDrawArrays(GL_TRIANGLES, 0, 3);
            glEndQuery(GL_ANY_SAMPLES_PASSED);
        }
        glFlush();
        printf("asked %lu\n", n);
        unsigned passed = 0;
        for (int i = 0; i < QUERIES; i++) {
            GLuint there = wait, result = 0;
            while (!there) {
                glGetQueryObjectuiv(queries[i], GL_QUERY_RESULT_AVAILABLE, &there);
            }
            glGetQueryObjectuiv(queries[i], GL_QUERY_RESULT, &result);
            passed += result != 0;
        }
        printf("answered %lu: %u of %d\n", n, passed, QUERIES);
    }
    glDeleteQueries(QUERIES, queries);
    eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, EGL_NO_CONTEXT);
    eglDestroyContext(display, context);
    eglTerminate(display);
    printf("ended\n");
    return 0;
}
