/* SPDX-License-Identifier: MIT */
/* EGL by dlopen: a host without it must get a 2D worker and a reason, not a loader's error. */
#ifndef VGD_EGL_LOAD_H
#define VGD_EGL_LOAD_H

#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#define VGD_EGL_DEVICES_MAX 16

struct vgd_egl {
    PFNEGLGETPROCADDRESSPROC get_proc;
    PFNEGLQUERYSTRINGPROC query_string;
    PFNEGLINITIALIZEPROC initialize;
    PFNEGLBINDAPIPROC bind_api;
    PFNEGLCHOOSECONFIGPROC choose_config;
    PFNEGLCREATECONTEXTPROC create_context;
    PFNEGLDESTROYCONTEXTPROC destroy_context;
    PFNEGLMAKECURRENTPROC make_current;
    PFNEGLGETCURRENTCONTEXTPROC current_context;
    PFNEGLGETPLATFORMDISPLAYEXTPROC get_platform_display;
    PFNEGLQUERYDEVICESEXTPROC query_devices; /* NULL: no such extension */
};

/** dlsym for functions: C has no cast from an object pointer. @out_function points to a function
 *  pointer; NULL is stored where there is no @name. */
static inline void vgd_dl_function(void *lib, const char *name, void *out_function)
{
    void *symbol = dlsym(lib, name);
    memcpy(out_function, &symbol, sizeof(symbol));
}

/** Load libEGL.so.1 for the life of the process. false: not there, or too old. */
bool vgd_egl_load(struct vgd_egl *egl);

#endif
