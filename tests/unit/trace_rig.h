/* SPDX-License-Identifier: MIT */
/* vgd-trace (VGD_TRACE names it) run on files in a folder of its own. */
#ifndef TRACE_RIG_H
#define TRACE_RIG_H

#include "trace_fixture.h"

#include <stdlib.h>
#include <sys/wait.h>

#define OUT_MAX ((size_t)1 << 20)

struct rig {
    char dir[32], path[64], out_path[64];
    /* Of the last run. */
    int status;
    char out[OUT_MAX], err[4096];
};

static inline struct rig *rig_begin(void)
{
    struct rig *rig = calloc(1, sizeof(*rig));
    cr_assert_not_null(rig);
    (void)snprintf(rig->dir, sizeof(rig->dir), "/tmp/vgd-trace.XXXXXX");
    cr_assert_not_null(mkdtemp(rig->dir));
    (void)snprintf(rig->path, sizeof(rig->path), "%s/trace", rig->dir);
    (void)snprintf(rig->out_path, sizeof(rig->out_path), "%s/out", rig->dir);
    return rig;
}

static inline void rig_end(struct rig *rig)
{
    (void)unlink(rig->path);
    (void)unlink(rig->out_path);
    cr_assert_eq(rmdir(rig->dir), 0, "it left something in %s", rig->dir);
    free(rig);
}

static inline void read_back(const char *path, char *out, size_t room)
{
    FILE *f = fopen(path, "re");
    cr_assert_not_null(f);
    out[fread(out, 1, room - 1, f)] = '\0';
    (void)fclose(f);
    (void)unlink(path);
}

/* Run with @args, through a shell; @args may name the rig's files as $T and $O. */
static inline const char *tool(struct rig *rig, const char *args)
{
    char line[1024], out_path[64], err_path[64];
    const char *program = getenv("VGD_TRACE");
    cr_assert_not_null(program);
    (void)snprintf(out_path, sizeof(out_path), "%s/stdout", rig->dir);
    (void)snprintf(err_path, sizeof(err_path), "%s/stderr", rig->dir);
    (void)snprintf(line, sizeof(line), "T=%s O=%s; exec %s %s >%s 2>%s", rig->path, rig->out_path,
                   program, args, out_path, err_path);
    int status = system(line);
    cr_assert(WIFEXITED(status), "%s: ended by signal %d", args, WTERMSIG(status));
    rig->status = WEXITSTATUS(status);
    read_back(out_path, rig->out, sizeof(rig->out));
    read_back(err_path, rig->err, sizeof(rig->err));
    return rig->out;
}

#endif
