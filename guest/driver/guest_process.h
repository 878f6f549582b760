/* SPDX-License-Identifier: MIT */
/*
 * Backend programs under test: start one, find its socket and its children, look at what it holds,
 * end it.
 * Thread: one at a time.
 */
#ifndef VGD_GUEST_PROCESS_H
#define VGD_GUEST_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "status.h"

struct vgd_guest_process {
    pid_t pid;  /* 0: not running */
    int socket; /* connected vhost-user socket, owned until taken (vgd_fd_take) */
    char dir[64];
    char socket_path[96];
    bool exited; /* and reaped */
    int wait_status;
};

/**
 * Start @command: words as a shell splits them (quotes and backslashes, no expansion), leading
 * NAME=VALUE words go to the environment. "{fd}" in a word becomes the number of an inherited
 * socket, "{socket}" the path of a unix socket to listen on; one of the two must be there.
 *
 * @log_fd  receives the program's standard output and error; -1: ours
 * VGD_RANGE: the command makes no sense. VGD_HOST_FAILED: it did not start, or did not listen
 * within 5 s.
 */
VGD_MUST_CHECK enum vgd_status vgd_guest_process_start(const char *command, int log_fd,
                                                       struct vgd_guest_process *out);
/** Connect once more to a listening {socket} (or any path): a new fd or -1. Waits up to 5 s. */
int vgd_guest_connect(const char *path);

/** Still alive? Reaps when it is not. */
bool vgd_guest_process_alive(struct vgd_guest_process *p);
/** Wait up to @timeout_ms for it to end by itself. */
bool vgd_guest_process_wait(struct vgd_guest_process *p, int timeout_ms);
/** Close the socket, wait a moment, then SIGTERM, then SIGKILL. Leaves *p empty, except
 *  wait_status. Returns false when it had to be killed. */
bool vgd_guest_process_stop(struct vgd_guest_process *p);

/** The child of @parent whose name (comm) is @name, 0 if there is none. */
pid_t vgd_guest_child_named(pid_t parent, const char *name);
/** All children of @parent. */
uint32_t vgd_guest_child_count(pid_t parent);
/** Children, their children and so on, at most @max: how many. */
uint32_t vgd_guest_descendants(pid_t parent, pid_t *out_pids, uint32_t max);
/** Its name (comm). False when it is gone. */
bool vgd_guest_process_name(pid_t pid, char out_name[64]);
/** Lines of /proc/PID/maps, -1 when the process cannot be looked at. */
int vgd_guest_mapping_count(pid_t pid);
/** This process may open as many files as the system allows; what it starts gets 1024 anyway. */
void vgd_guest_raise_files(void);
/** Open file descriptors, -1 when the process cannot be looked at. */
int vgd_guest_fd_count(pid_t pid);
/** Private_Dirty in KiB, -1 likewise. */
int64_t vgd_guest_private_dirty_kib(pid_t pid);
/** CPU time so far, of all threads, in ms; 0 when the process is gone. */
int64_t vgd_guest_cpu_ms(pid_t pid);

#endif
